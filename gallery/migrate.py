"""Bring a store to the schema of this release: a copy first, then all steps in one transaction.

A store of a newer release is refused, since this one cannot know what its rows mean.
"""

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from duetface.errors import GalleryError
from gallery.store import SqlStore

MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(store: SqlStore, *, create: bool, migrations: Path = MIGRATIONS) -> Path | None:
    """Upgrade the store to the newest known schema; returns the path of the copy made before, if one was needed.

    create: make the tables of an empty database; otherwise an empty one is refused.
    Raises GalleryError for a newer, empty or foreign database.
    """
    config = Config()
    config.set_main_option("script_location", str(migrations))
    config.set_main_option("path_separator", "os")
    with store.reading() as connection:
        found = _current(connection)
        if found is None:
            _refuse_foreign(store, connection, create=create)
    newest = _check_known(store, ScriptDirectory.from_config(config), found)
    if found == newest:
        return None
    copy = _copy_beside(store, found) if found else None
    with store.writing() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return copy


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _refuse_foreign(store: SqlStore, connection: Connection, *, create: bool) -> None:
    tables: Sequence[str] = inspect(connection).get_table_names()
    if tables:
        raise GalleryError(f"{store.name} is no gallery of DuetFace: it has other tables; name another database")
    if not create:
        raise GalleryError(f"{store.name} is empty: run `duetface init`, or restore a copy")


def _check_known(store: SqlStore, scripts: ScriptDirectory, found: str | None) -> str:
    known = [script.revision for script in scripts.walk_revisions()]
    if found is not None and found not in known:
        raise GalleryError(
            f"{store.name} has schema {found}; this release knows schemas up to {known[0]}: "
            f"start the newer release that wrote it, or restore the copy that it made before migrating"
        )
    return known[0]


def _copy_beside(store: SqlStore, found: str) -> Path | None:
    """Copy a SQLite file through its back-up API, which sees the write-ahead log; PostgreSQL has its own back-up.

    The copy is on the disk when this returns.  Raises GalleryError, and leaves nothing half written, if it cannot be.
    """
    if store.path is None:
        return None
    copy = store.path.with_name(f"{store.path.name}.schema-{found}.bak")
    partial = copy.with_name(copy.name + ".partial")
    try:
        _remove_partial(partial)
        _back_up(store.path, partial)
        partial.replace(copy)
        _synchronise(copy.parent)
    except (OSError, sqlite3.Error) as error:
        with contextlib.suppress(OSError):
            _remove_partial(partial)
        why = error.strerror if isinstance(error, OSError) else error
        raise GalleryError(
            f"{copy} cannot be made: {why}; nothing was migrated: make room for a copy of {store.name} in its folder, "
            "let the service's user write there, then start again"
        ) from error
    return copy


def _back_up(path: Path, partial: Path) -> None:
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(partial)) as to:
        source.backup(to)
    _synchronise(partial)


def _synchronise(path: Path) -> None:
    """Have a file, or a folder's list of names, on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_partial(partial: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        partial.with_name(partial.name + suffix).unlink(missing_ok=True)
