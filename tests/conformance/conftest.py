"""Fixtures of the conformance suites."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import postgres_server
from tests.unit.gallery.world import World


def postgresql_url(name: str) -> str:
    """A new database of the tests' PostgreSQL; skips where there is none."""
    server = postgres_server()
    server.run(f"CREATE DATABASE {name}")
    return server.url.replace("postgresql://", "postgresql+psycopg://", 1).replace("/postgres?", f"/{name}?", 1)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind that the gallery runs on."""
    if request.param == "sqlite":
        yield str(tmp_path / "gallery.db")
        return
    name = f"gallery_{secrets.token_hex(8)}"
    yield postgresql_url(name)
    # Left behind, they would make every checkpoint and every search of the files slower.
    postgres_server().run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def world(store_url: str, tmp_path: Path) -> Iterator[World]:
    """An empty gallery on each kind of database."""
    made = World(tmp_path, url=store_url)
    yield made
    made.gallery.close()
