"""Databases and keys as they are found on a bad day: one clear error, the remedy in it, nothing acknowledged lost."""

import contextlib
import os
import sqlite3
import stat
import traceback
from dataclasses import replace

import pytest

from duetface.errors import ConfigError, GalleryError
from gallery.gallery import Gallery
from gallery.keys import HeldKeys
from tests.unit.gallery.world import KEYS, OPERATOR, OPTIONS, SPACE, World, consent, person


def open_gallery(world: World, keys: HeldKeys = KEYS, realm: str = "hq") -> None:
    """Open and close, as a starting service does."""
    Gallery.open(world.url, realm, keys, world.clock, OPTIONS).close()


def test_a_missing_database_is_refused_and_not_made(tmp_path, world):
    """A service that starts on an empty database by mistake would reject everybody."""
    with pytest.raises(GalleryError, match=r"elsewhere\.db is missing: run `duetface init`"):
        Gallery.open(str(tmp_path / "elsewhere.db"), "hq", KEYS, world.clock, OPTIONS)
    assert not (tmp_path / "elsewhere.db").exists()


def test_a_database_in_a_missing_folder_is_refused(tmp_path, world):
    """Named, instead of the driver's "unable to open database file"."""
    with pytest.raises(GalleryError, match="cannot be made"):
        Gallery.create(str(tmp_path / "no" / "gallery.db"), "hq", KEYS, world.clock)


def test_the_database_is_private(world):
    """It holds who is enrolled; its log too."""
    world.enrol("alice", 1)
    for path in world.folder.glob("gallery.db*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_an_empty_file_is_refused(tmp_path, world):
    """What is left when a copy failed."""
    (tmp_path / "empty.db").touch()
    with pytest.raises(GalleryError, match=r"empty\.db is empty: run `duetface init`, or restore a copy"):
        Gallery.open(str(tmp_path / "empty.db"), "hq", KEYS, world.clock, OPTIONS)


def test_a_file_that_is_no_database_is_refused(tmp_path, world):
    """A JPEG, a text, a gzip."""
    (tmp_path / "picture.db").write_bytes(b"\xff\xd8\xff\xe0" * 1000)
    with pytest.raises(GalleryError, match=r"picture\.db: it is no SQLite database"):
        Gallery.open(str(tmp_path / "picture.db"), "hq", KEYS, world.clock, OPTIONS)


def test_somebody_elses_database_is_refused_and_left_alone(tmp_path, world):
    """Even `init` must not put its tables into another program's file."""
    path = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE invoices (id INTEGER)")
    with pytest.raises(GalleryError, match="no gallery of DuetFace"):
        Gallery.create(str(path), "hq", KEYS, world.clock)


def test_a_damaged_page_is_refused(world):
    """A database that answers nonsense is worse than one that does not start."""
    world.enrol("alice", 1, captures=8)
    world.gallery.close()
    content = bytearray(world.path.read_bytes())
    for start in range(4096, len(content), 4096):
        content[start : start + 12] = os.urandom(12)
    world.path.write_bytes(content)
    with pytest.raises(GalleryError, match=r"gallery\.db: it is damaged: restore a copy"):
        open_gallery(world)


def test_a_truncated_database_is_refused(world):
    """A copy that was cut short."""
    world.enrol("alice", 1, captures=8)
    world.gallery.close()
    content = world.path.read_bytes()
    world.path.write_bytes(content[: len(content) // 2])
    with pytest.raises(GalleryError, match="damaged"):
        open_gallery(world)


def test_one_flipped_bit_in_a_template_is_refused_at_start(world):
    """AES-GCM notices what the database cannot."""
    world.enrol("alice", 1)
    world.gallery.close()
    sealed = world.sqlite("SELECT ciphertext FROM templates")[0][0]
    changed = sealed[:500] + bytes([sealed[500] ^ 1]) + sealed[501:]
    world.sqlite(f"UPDATE templates SET ciphertext = x'{changed.hex()}'")
    with pytest.raises(GalleryError, match="template 2 does not open"):
        open_gallery(world)


@pytest.mark.parametrize(
    ("tampering", "message"),
    [
        ("UPDATE subjects SET subject_id = 'mallory'", "key of subject number 1"),
        ("UPDATE subjects SET partition = 'scratch'", "key of subject number 1"),
        ("UPDATE templates SET space_digest = zeroblob(32)", "template 2"),
        ("UPDATE templates SET rotation_version = 2", "template 2"),
        ("UPDATE templates SET template_id = 9", "template 9"),
    ],
)
def test_a_row_that_was_moved_or_renamed_in_the_database_is_refused(world, tampering, message):
    """Whoever can write the database must not be able to make one person's template answer for another."""
    world.enrol("alice", 1)
    world.gallery.close()
    world.sqlite(tampering)
    with pytest.raises(GalleryError, match=message):
        open_gallery(world, HeldKeys({1: b"r" * 32}, {1: b"s" * 32, 2: b"t" * 32}))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (HeldKeys({1: b"x" * 32}, {1: b"s" * 32}), "another realm key"),
        (HeldKeys({1: b"r" * 32}, {1: b"x" * 32}), "another rotation key"),
        (HeldKeys({2: b"r" * 32}, {1: b"s" * 32}), "realm key version 1, whose key file is missing"),
        (HeldKeys({1: b"r" * 32}, {2: b"s" * 32}), "rotation key version 1, whose key file is missing"),
    ],
)
def test_wrong_or_missing_keys_are_refused_at_start(world, keys, message):
    """Not at the first verification, and not by rejecting everybody."""
    world.enrol("alice", 1)
    world.gallery.close()
    with pytest.raises(GalleryError, match=message):
        open_gallery(world, keys)
    open_gallery(world)


def test_an_unknown_realm_is_refused(world):
    """Another configuration's name must not open an empty realm beside the full one."""
    with pytest.raises(GalleryError, match="no realm of this name"):
        open_gallery(world, realm="lab")


def test_two_realms_in_one_database_do_not_see_each_other(world):
    """Templates, ids, revisions and audit are a realm's own."""
    world.enrol("alice", 1)
    keys = HeldKeys({1: b"R" * 32}, {1: b"S" * 32})
    with Gallery.create(world.url, "lab", keys, world.clock, OPTIONS) as lab:
        lab.create_subject("alice", "", consent(world.clock), OPERATOR)
        assert lab.identify(person(1), SPACE) == []
        assert (lab.revision, lab.size, lab.verify_audit()) == (1, 1, 1)
        lab.delete_subject("alice", OPERATOR)
    assert world.gallery.identify(person(1), SPACE)[0].subject_id == "alice"
    assert world.gallery.verify_audit() == 2


def test_a_locked_database_is_said_and_nothing_is_half_done(tmp_path):
    """Another process that holds the lock: wait a while, then refuse to acknowledge."""
    world = World(tmp_path, options=replace(OPTIONS, busy_timeout_ms=50))
    with contextlib.closing(sqlite3.connect(world.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(GalleryError, match="another process holds its write lock"):
            world.enrol("alice", 1)
        assert world.gallery.identify(person(1), SPACE) == []  # readers go on
        other.execute("ROLLBACK")
    world.enrol("alice", 1)
    assert world.gallery.revision == 2
    world.gallery.close()


def test_an_error_shows_no_value_of_a_row(world):
    """Tracebacks end up in logs: neither the message nor its causes repeat what was to be written."""
    world.enrol("alice", 1)
    with world.gallery._realm.store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")
    with pytest.raises(GalleryError) as refusal:
        world.enrol("private-name", 2)
    shown = "".join(traceback.format_exception(refusal.value))
    assert "OperationalError" in shown
    assert "private-name" not in shown.replace('world.enrol("private-name", 2)', "")


def test_a_full_disk_is_said_and_nothing_acknowledged_is_lost(world):
    """The database refuses the page; what was there before still answers, and room makes it work again."""
    world.enrol("alice", 1)
    store = world.gallery._realm.store
    with store.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(GalleryError, match="disk is full: free some space"):
        for capture in range(1, 20):
            world.add("alice", 1, capture)
    known = len(world.gallery.list_templates("alice"))
    assert world.gallery.verify_audit() == world.gallery.revision == 1 + known
    with store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    world.add("alice", 1, 30)
    assert world.gallery.identify(person(1, 30), SPACE)[0].cosine_similarity > 0.999


def test_a_database_that_may_not_be_written_is_said(world):
    """A wrong owner after a restore; told by SQLite's own switch, since tests may run as root."""
    with world.gallery._realm.store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")
    with pytest.raises(GalleryError, match="may not be written: give the service's user the right"):
        world.enrol("alice", 1)


@pytest.mark.parametrize("url", ["nonsense://u:secret@x", "secret://", "postgresql+nodriver://u:secret@h/d"])
def test_a_malformed_url_is_a_configuration_error(world, url):
    """It may hold a password: the message does not repeat it."""
    with pytest.raises(ConfigError, match="database URL") as refusal:
        Gallery.open(url, "hq", KEYS, world.clock, OPTIONS)
    assert "secret" not in str(refusal.value)
    assert refusal.value.__cause__ is None
