"""State of older and newer releases."""

import contextlib
import os
import resource
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import event

from duetface.errors import GalleryError
from gallery.gallery import Gallery
from gallery.migrate import MIGRATIONS, migrate
from gallery.schema import metadata
from gallery.store import SqlStore
from tests.unit.gallery.world import KEYS, OPTIONS, SPACE, person

NEXT = '''"""A schema of the future."""
import sqlalchemy as sa
from alembic import op
revision = "9999"
down_revision = "{newest}"
def upgrade():
    op.create_table("marks", sa.Column("mark", sa.Integer(), primary_key=True))
    {then}
'''


@pytest.fixture
def newer(tmp_path):
    """Migrations of a release to come: ours and one more; `then` is what its step does at the end."""

    def make(then: str = "pass"):
        folder = tmp_path / f"migrations-{len(then)}"
        shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
        newest = sorted(path.stem[:4] for path in (folder / "versions").glob("[0-9]*.py"))[-1]
        (folder / "versions" / "9999_next.py").write_text(NEXT.format(newest=newest, then=then))
        return folder

    return make


def schema_of(path):
    """The revision that a file has."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]


def test_migrations_make_exactly_the_schema_that_the_code_uses(world):
    """schema.py and the scripts are written by hand; a column in one of them only would show at a customer's."""
    with world.gallery._realm.store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_an_older_store_is_migrated_after_a_copy(world, newer):
    """The copy holds what was there, write-ahead log included, for whoever must go back."""
    world.enrol("alice", 1)
    old = schema_of(world.path)
    store = SqlStore(str(world.path))
    copy = migrate(store, create=False, migrations=newer())
    store.close()
    assert schema_of(world.path) == "9999"
    assert copy == world.path.with_name(f"gallery.db.schema-{old}.bak")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with Gallery.open(str(copy), "hq", KEYS, world.clock, OPTIONS) as kept:
        assert kept.identify(person(1), SPACE)[0].subject_id == "alice"


@contextlib.contextmanager
def files_of_at_most(size):
    """No file of this process may grow beyond `size` bytes: a full disk, as SQLite and Python see it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_copy_that_finds_no_room_is_refused_and_leaves_nothing(world, newer):
    """Half a copy of everybody's templates must not stay; the old schema does, and the release before still starts."""
    world.enrol("alice", 1)
    old = schema_of(world.path)
    store, migrations = SqlStore(str(world.path)), newer()
    with files_of_at_most(100_000), pytest.raises(GalleryError, match=r"schema-.*\.bak cannot be made: .*make room"):
        migrate(store, create=False, migrations=migrations)
    store.close()
    assert list(world.folder.glob("*.bak*")) == []
    assert schema_of(world.path) == old


def test_a_copy_whose_place_is_taken_is_refused_and_leaves_nothing(world, newer):
    """The operating system's errors are told as SQLite's are: with the file and what to do."""
    place = world.path.with_name(f"gallery.db.schema-{schema_of(world.path)}.bak")
    place.mkdir()
    store = SqlStore(str(world.path))
    with pytest.raises(GalleryError, match=r"\.bak cannot be made: Is a directory"):
        migrate(store, create=False, migrations=newer())
    store.close()
    assert list(world.folder.glob("*.partial*")) == []


def test_a_copy_is_on_the_disk_before_the_migration_begins(world, newer, monkeypatch):
    """A power cut in the middle of the migration must find the copy whole: its bytes and its name."""
    synchronised, fsync = [], os.fsync

    def note(descriptor):
        synchronised.append((str(Path(f"/proc/self/fd/{descriptor}").readlink()), schema_of(world.path)))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    old, store = schema_of(world.path), SqlStore(str(world.path))
    copy = migrate(store, create=False, migrations=newer())
    store.close()
    assert synchronised == [(f"{copy}.partial", old), (str(copy.parent), old)]


def test_a_store_of_this_release_is_not_copied(world):
    """Every start would otherwise leave a copy of everybody's templates."""
    store = SqlStore(str(world.path))
    assert migrate(store, create=False) is None
    store.close()
    assert list(world.folder.glob("*.bak")) == []


def test_a_newer_store_is_refused_and_left_alone(world, newer):
    """An older release cannot know what the new rows mean; it says which release can."""
    world.enrol("alice", 1)
    store = SqlStore(str(world.path))
    migrate(store, create=False, migrations=newer())
    store.close()
    world.gallery.close()
    with pytest.raises(GalleryError, match=r"gallery\.db has schema 9999.*newer release"):
        Gallery.open(world.url, "hq", KEYS, world.clock, OPTIONS)
    assert schema_of(world.path) == "9999"


def test_a_migration_that_fails_leaves_the_old_schema(world, newer):
    """All steps are one transaction: the release before still starts."""
    world.enrol("alice", 1)
    old = schema_of(world.path)
    store = SqlStore(str(world.path))
    with pytest.raises(RuntimeError, match="boom"):
        migrate(store, create=False, migrations=newer('raise RuntimeError("boom")'))
    store.close()
    assert schema_of(world.path) == old
    assert world.sqlite("SELECT name FROM sqlite_master WHERE name = 'marks'") == []
    assert world.reopen().identify(person(1), SPACE)[0].subject_id == "alice"


def test_the_migrations_ship_with_the_package():
    """They are found beside the module, in a checkout and in the wheel alike."""
    assert (MIGRATIONS / "env.py").exists()
    assert list((MIGRATIONS / "versions").glob("0001_*.py"))


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        ("DELETE FROM consents WHERE realm_id = 1 AND subject_key = 5", "consents_of_subject"),
        ("SELECT * FROM templates WHERE realm_id = 1 AND consent_id = 5", "templates_of_consent"),
        ("SELECT * FROM audit WHERE realm_id = 1 AND revision = 5", "audit_of_revision"),
        (
            "SELECT * FROM templates WHERE realm_id = 1 AND subject_key = 5 AND space_digest = x'00'",
            "templates_of_subj",
        ),
    ],
)
def test_no_statement_of_one_subject_reads_everybody(world, statement, index):
    """A deletion among 10,000 people took 12 seconds without these indexes."""
    plan = str(world.sqlite(f"EXPLAIN QUERY PLAN {statement}"))
    assert index in plan


def test_a_verification_reads_one_subject_only(world):
    """The plan of the very statement: by subject id, then that subject's templates, never by a scan."""
    statements = []
    engine = world.gallery._realm.store.engine

    @event.listens_for(engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, parameters, _context, _many):
        statements.append((statement, parameters))

    world.gallery.verify_similarity("alice", person(1), SPACE)
    text, parameters = next(entry for entry in statements if "ciphertext" in entry[0])
    with engine.connect() as connection:
        plan = str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", parameters).all())
    assert "templates_of_subject" in plan and "SCAN" not in plan
