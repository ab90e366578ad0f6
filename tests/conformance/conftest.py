"""Fixtures of the conformance suites."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers import postgres_server
from tests.unit.gallery.world import World


def sqlite_url(folder: Path) -> str:
    """A file of the test's own."""
    return str(folder / "gallery.db")


def postgresql_url(_folder: Path) -> str:
    """A new database of the tests' PostgreSQL; skips where there is none."""
    server, name = postgres_server(), f"gallery_{secrets.token_hex(8)}"
    server.run(f"CREATE DATABASE {name}")
    return server.url.replace("postgresql://", "postgresql+psycopg://", 1).replace("/postgres?", f"/{name}?", 1)


@pytest.fixture(params=[sqlite_url, postgresql_url], ids=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind that the gallery runs on."""
    make: Callable[[Path], str] = request.param
    return make(tmp_path)


@pytest.fixture
def world(store_url: str, tmp_path: Path) -> Iterator[World]:
    """An empty gallery on each kind of database."""
    made = World(tmp_path, url=store_url)
    yield made
    made.gallery.close()
