"""Fixtures of the gallery's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.gallery.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An empty gallery on SQLite."""
    made = World(tmp_path)
    yield made
    made.gallery.close()
