"""Indexes that the store no longer knows of: partitions dropped elsewhere, deletions while their server is away."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from duetface.errors import GalleryError
from gallery.gallery import Gallery
from gallery.index import LastingIndexes
from gallery.indexes import IndexKind, IndexSettings, index_factory
from tests.servers import MilvusServer, PostgresServer
from tests.unit.gallery.world import DIMENSION, OPERATOR, OPTIONS, SPACE, World, consent, person

OURS = f"realm_{hashlib.sha256(b'hq').hexdigest()[:8]}_"  # how the names of the realm's indexes begin


@dataclass
class Served:
    """An index server of a test's own, and how to reach it."""

    server: Any
    settings: IndexSettings

    @property
    def indexes(self) -> LastingIndexes:
        """What makes indexes there."""
        made = index_factory(self.settings)
        assert isinstance(made, LastingIndexes)
        return made


def _postgres() -> tuple[Any, IndexSettings]:
    server = PostgresServer()
    return server, IndexSettings(IndexKind.PGVECTOR, url=server.url)


def _milvus() -> tuple[Any, IndexSettings]:
    server = MilvusServer()
    return server, IndexSettings(IndexKind.MILVUS, url=server.uri, replica="r1")


@pytest.fixture(scope="module", params=[_postgres, _milvus], ids=["pgvector", "milvus"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """Each kind of server, which a test may stop if it starts it again."""
    make: Callable[[], tuple[Any, IndexSettings]] = request.param
    server, settings = make()
    yield Served(server, settings)
    server.discard()


@pytest.fixture
def world(tmp_path: Path, served: Served) -> Iterator[World]:
    """An empty realm whose indexes lie on the server; what other tests left there is of another realm."""
    for name in served.indexes.names(OURS):
        served.indexes.discard(name)
    world = World(tmp_path, options=replace(OPTIONS, index_factory=served.indexes))
    yield world
    world.gallery.close()


def elsewhere(world: World) -> Gallery:
    """The same store in another process, with an index of its own."""
    return Gallery.open(world.url, "hq", world.keys, world.clock, OPTIONS)


def rows_of(served: Served) -> dict[str, int]:
    """How many templates each index on the server holds."""
    return {name: len(served.indexes(DIMENSION, name).ids()) for name in served.indexes.names(OURS)}


def test_a_start_takes_away_the_index_of_a_partition_that_was_dropped_meanwhile(world: World, served: Served) -> None:
    """Nobody would ever search it again, and nobody would ever erase from it."""
    world.enrol("alice", 1)
    world.enrol("probe", 2, partition="evaluate-1")
    assert sorted(rows_of(served).values()) == [1, 1]
    world.gallery.close()
    with closing(elsewhere(world)) as other:
        other.drop_partition("evaluate-1", OPERATOR)
    gallery = world.reopen()
    assert list(rows_of(served).values()) == [1]
    assert gallery.identify(person(1, 3), SPACE)[0].subject_id == "alice"
    world.enrol("again", 3, partition="evaluate-1")
    assert gallery.identify(person(3, 3), SPACE, partition="evaluate-1")[0].subject_id == "again"


def test_a_start_leaves_the_indexes_of_other_realms_alone(world: World, served: Served, tmp_path: Path) -> None:
    """Two sites may share a server; one must not clean up the other."""
    world.enrol("alice", 1)
    (tmp_path / "lab").mkdir()
    lab = Gallery.create(str(tmp_path / "lab" / "gallery.db"), "lab", world.keys, world.clock, world.options)
    lab.create_subject("lea", "", consent(world.clock), OPERATOR)
    lab.add_template("lea", SPACE, person(5), 0.5, "d", OPERATOR)
    gallery = world.reopen()
    assert gallery.identify(person(1, 3), SPACE)[0].subject_id == "alice"
    assert lab.identify(person(5, 3), SPACE)[0].subject_id == "lea"
    lab.close()


def test_what_is_deleted_while_the_server_is_away_is_gone_when_it_is_back(world: World, served: Served) -> None:
    """The deletion is acknowledged; the index is emptied by the next look, and holds nothing that the store lacks."""
    for number, name in enumerate(("alice", "bob", "carl"), start=1):
        world.enrol(name, number)
    world.enrol("probe", 9, partition="scratch")
    server = served.server
    server.stop()
    try:
        world.gallery.delete_subject("alice", OPERATOR)
        world.gallery.drop_partition("scratch", OPERATOR)
        with pytest.raises(GalleryError):
            world.gallery.refresh()
    finally:
        server.start()
    world.gallery.refresh()
    assert sorted(rows_of(served).values()) == [0, 2]
    assert {match.subject_id for match in world.gallery.identify(person(1, 3), SPACE, k=5)} == {"bob", "carl"}
    world.reopen()
    assert list(rows_of(served).values()) == [2]


def test_an_index_that_was_taken_away_under_a_replica_is_made_anew(world: World, served: Served) -> None:
    """A start elsewhere may come between the last template of a space and its next one."""
    if served.settings.kind is not IndexKind.PGVECTOR:
        pytest.skip("each replica has indexes of its own in Milvus")
    (first,) = world.enrol("alice", 1)
    for name in served.indexes.names(OURS):
        served.indexes.discard(name)
    world.add("alice", 1, 1)
    assert world.gallery.identify(person(1, 3), SPACE)[0].subject_id == "alice"
    world.reopen()
    assert list(rows_of(served).values()) == [2]
    assert first.template_id in served.indexes(DIMENSION, served.indexes.names(OURS)[0]).ids()


def test_what_a_crash_left_of_an_unfinished_replacement_is_taken_away(world: World, served: Served) -> None:
    """Milvus erases by copying the living: half a copy beside the index is a second copy of everybody."""
    if served.settings.kind is not IndexKind.MILVUS:
        pytest.skip("PostgreSQL replaces within one statement")
    world.enrol("alice", 1)
    (name,) = served.indexes.names(OURS)
    index = served.indexes(DIMENSION, name)
    left = index._new_collection()  # type: ignore[attr-defined]
    index._milvus.insert(left, index.ids(), person(1)[None])  # type: ignore[attr-defined]
    world.reopen()
    held = index._milvus.call(lambda client: client.list_collections())  # type: ignore[attr-defined]
    assert left not in held
    assert list(rows_of(served).values()) == [1]
