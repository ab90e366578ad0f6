"""A move to PostgreSQL that is stopped, refused or disturbed: never two places in charge, nothing lost."""

import contextlib
import sqlite3

import pytest
from sqlalchemy import text

from duetface.errors import ConfigError, GalleryError, OverloadedError
from gallery.gallery import Gallery
from gallery.keys import HeldKeys
from gallery.moving import move
from gallery.schema import metadata
from gallery.store import SqlStore
from gallery.transfer import GROWING, OF_SUBJECT, WHOLE
from tests.integration.moving import decide, everything, lively_world, moved_to
from tests.servers import PostgresServer
from tests.unit.gallery.world import KEYS, OPERATOR, OPTIONS, SPACE, World, consent, person


@pytest.fixture
def world(tmp_path):
    """A realm with a bit of everything."""
    made = lively_world(tmp_path)
    yield made
    made.gallery.close()


@pytest.mark.parametrize("stage", ["subjects copied", "changes followed", "rows compared", "source marked as moved"])
def test_a_move_that_was_stopped_goes_on_where_it_was(world, place, stage):
    """Ctrl-C or a crash at any point: never two places that take changes, and nothing is lost or done twice."""

    def stop(what: str, _count: int) -> None:
        if what == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        moved_to(place, world, stop)
    with pytest.raises(
        GalleryError, match=r"has not arrived as a whole from .*gallery\.db: run `duetface gallery move"
    ):
        Gallery.open(place, "hq", KEYS, world.clock, OPTIONS)
    if stage != "source marked as moved":
        world.gallery.delete_subject("anchor-3", OPERATOR)
        world.enrol("anchor-3", 30)
        world.gallery.drop_partition("scratch", OPERATOR)
        world.enrol("late", 31)
    else:
        with pytest.raises(OverloadedError, match="was moved to another database"):
            world.enrol("late", 31)
    moved_to(place, world)
    assert everything(world.url) == everything(place)
    with Gallery.open(place, "hq", KEYS, world.clock, OPTIONS) as moved:
        assert moved.verify_audit() == moved.last_audit_id
        assert moved.identify(person(2), SPACE)[0].subject_id == "anchor-2"


def test_the_old_place_stays_readable_and_takes_nothing_any_more(world, place):
    """A service that still runs there answers searches; one that starts there says where to go."""
    moved_to(place, world)
    assert world.gallery.identify(person(1), SPACE)[0].subject_id == "anchor-1"
    for change in (
        lambda: world.gallery.create_subject("late", "", consent(world.clock), OPERATOR),
        lambda: world.gallery.delete_subject("anchor-1", OPERATOR),
        lambda: decide(world.gallery, "anchor-1"),
    ):
        with pytest.raises(OverloadedError, match="was moved to another database: try again") as refusal:
            change()
        assert refusal.value.retry_after_s > 0
    with pytest.raises(GalleryError, match=r"gallery\.db: this realm was moved to postgresql.*storage\.database_url"):
        Gallery.open(world.url, "hq", KEYS, world.clock, OPTIONS)
    with pytest.raises(GalleryError, match=r"was moved to postgresql.* already"):
        moved_to(place, world)


def test_a_realm_moves_beside_others(world, place):
    """Its number is another there; rows of the other realm are neither read nor touched."""
    keys = HeldKeys({1: b"R" * 32}, {1: b"S" * 32})
    with Gallery.create(place, "lab", keys, world.clock, OPTIONS) as lab:
        lab.create_subject("anchor-1", "", consent(world.clock), OPERATOR)
        moved_to(place, world)
        with Gallery.open(place, "hq", KEYS, world.clock, OPTIONS) as moved:
            assert moved._realm.realm_id != lab._realm.realm_id
            assert moved.identify(person(1), SPACE)[0].subject_id == "anchor-1"
            assert moved.verify_audit() == world.gallery.verify_audit()
        assert (lab.revision, lab.size) == (1, 1)


def test_a_difference_is_found_and_nothing_is_switched(world, place):
    """The comparison reads both sides: a row that was changed on the way keeps the old place in charge."""

    def stop(what: str, _count: int) -> None:
        if what == "rows compared":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        moved_to(place, world, stop)
    store = SqlStore(place)
    with store.writing() as connection:
        connection.execute(text("UPDATE templates SET quality = 0.25 WHERE template_id = 2"))
    with pytest.raises(GalleryError, match="the table templates differs between the two databases"):
        moved_to(place, world)
    store.close()
    world.enrol("late", 31)
    assert world.gallery.identify(person(31), SPACE)[0].subject_id == "late"


def test_a_place_that_is_taken_is_refused(world, place, tmp_path):
    """Neither somebody else's tables nor another realm's life may be overwritten."""
    store = SqlStore(place)
    with store.writing() as connection:
        connection.execute(text("CREATE TABLE invoices (id integer)"))
    with pytest.raises(GalleryError, match="no gallery of DuetFace: it has other tables"):
        moved_to(place, world)
    with store.writing() as connection:
        connection.execute(text("DROP TABLE invoices"))
    store.close()
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other")
    other.clock.move(days=1)
    with pytest.raises(KeyboardInterrupt):
        moved_to(place, other, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(GalleryError, match=r"half moved from .*other/gallery\.db: name an empty database"):
        moved_to(place, world)
    moved_to(place, other)
    with pytest.raises(GalleryError, match="with a life of its own: name an empty database"):
        moved_to(place, world)
    other.gallery.close()


def test_a_move_that_cannot_be_meant_is_refused(world, place):
    """One line each, before anything is written."""
    with pytest.raises(ConfigError, match="moves to PostgreSQL: name it as postgresql://"):
        move(world.url, world.url, "hq")
    with pytest.raises(ConfigError, match="is no SQLite file"):
        move(place, place, "hq")
    with pytest.raises(GalleryError, match="no realm of this name"):
        move(world.url, place, "lab")
    with pytest.raises(GalleryError, match="server cannot be reached"):
        move(world.url, "postgresql://127.0.0.1:1/nowhere", "hq")


def test_a_server_that_goes_away_in_the_middle_of_a_move_costs_a_second_run(world):
    """One line, the old place in charge; the same call goes on once the server is back."""
    server = PostgresServer()

    def stop(what: str, _count: int) -> None:
        if what == "changes followed":
            server.stop()

    with pytest.raises(GalleryError, match="server cannot be reached"):
        move(world.url, server.url, "hq", stop)
    world.enrol("late", 31)
    server.start()
    report = move(world.url, server.url, "hq")
    assert report.revision == world.gallery.revision
    assert everything(world.url) == everything(server.url)
    server.discard()


def test_a_source_that_somebody_else_keeps_locked_is_not_switched(world, place, monkeypatch):
    """The pause cannot begin: nothing is marked, and the next run switches."""
    monkeypatch.setattr(SqlStore.__init__, "__kwdefaults__", {"create": False, "busy_timeout_ms": 200})
    with contextlib.closing(sqlite3.connect(world.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(GalleryError, match="another process holds its write lock"):
            moved_to(place, world)
        other.execute("ROLLBACK")
    assert world.gallery.maintenance.moved_to() is None
    moved_to(place, world)
    assert everything(world.url) == everything(place)


def test_every_table_of_the_schema_is_moved():
    """A table that a later release adds must not be forgotten; the realm's own row is made anew."""
    moved = {table.name for table in (*OF_SUBJECT, *GROWING, *WHOLE)}
    assert set(metadata.tables) - moved == {"realms"}
    assert all("realm_id" in table.c for table in metadata.tables.values())
