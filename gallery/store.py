"""The database under the gallery: SQLite by default, PostgreSQL by URL; transactions and clear errors, no rules.

SQLite runs with a write-ahead log and full synchronisation: what was committed survives a power cut.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, SQLAlchemyError

from duetface.errors import ConfigError, GalleryError

_BUSY_TIMEOUT_MS = 5000
_PERSONAL_TABLES = ("templates", "subject_keys", "consents", "subjects")
_REMEDIES = {
    "locked": "another process holds its write lock: stop that process and try again",
    "full": "the disk is full: free some space and try again; nothing acknowledged was lost",
    "readonly": "it may not be written: give the service's user the right to write it",
    "malformed": "it is damaged: restore a copy",
    "not a database": "it is no SQLite database: restore a copy",
    "disk i/o error": "the disk failed: check it, then restore a copy if the database does not open",
    "unable to open": "it cannot be opened: check that its folder exists and may be written",
}


class SqlStore:
    """One database.  Readers run beside one another and beside the writer; writers wait in line."""

    def __init__(self, url: str, *, create: bool = False, busy_timeout_ms: int = _BUSY_TIMEOUT_MS) -> None:
        """url: SQLAlchemy's form, e.g. "sqlite:////var/lib/duetface/gallery.db" (a plain path is one of SQLite).

        create: a missing SQLite file is made (mode 0600); otherwise it is refused with GalleryError.
        """
        parsed = _parse(url)
        self.path = Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None
        self.name = str(self.path) if self.path else parsed.render_as_string(hide_password=True)
        self._write_lock = threading.Lock()
        if self.path is not None:
            _check_file(self.path, create=create)
            arguments = {"timeout": busy_timeout_ms / 1000, "check_same_thread": False}
            self.engine = create_engine(parsed, connect_args=arguments, pool_size=16, hide_parameters=True)
            _set_up_sqlite(self.engine)
        else:
            self.engine = create_engine(parsed, pool_pre_ping=True, pool_size=16, hide_parameters=True)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database throughout."""
        with self.explained(), self.engine.connect() as connection:
            # Asked of the connection and not of this store, which may go on elsewhere at any moment.
            if connection.dialect.name != "sqlite":
                connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that commits at the end of the block, or leaves nothing behind if it raises."""
        with self.explained(), self._write_lock, self.engine.connect() as connection:
            connection = connection.execution_options(duetface_write=True)
            with connection.begin():
                yield connection

    def rewrite(self) -> None:
        """Write the database anew, so that no page keeps a stale copy of a row that moved or was deleted."""
        with self.explained(), self._write_lock:
            for statement in ["VACUUM"] if self.path else [f"VACUUM FULL {table}" for table in _PERSONAL_TABLES]:
                self._autocommit(statement)

    def settle(self) -> bool:
        """Take older states of pages out of the write-ahead log; returns False if a long reader still needs them.

        SQLite: copy the log into the database and cut it to nothing.  PostgreSQL: go once round all files of the
        log, since it gives old ones to new parts of the log with their bytes still in them (wal_recycle).
        """
        with self.explained(), self._write_lock:
            if self.path is not None:
                busy, *_ = self._autocommit("PRAGMA wal_checkpoint(TRUNCATE)")
                return not busy
            recycles, *_ = self._autocommit("SHOW wal_recycle")
            files, *_ = self._autocommit("SELECT count(*) FROM pg_ls_waldir()")
            for _ in range(int(files) + 2 if recycles == "on" else 2):
                self._autocommit("SELECT pg_switch_wal()")
                self._autocommit("CHECKPOINT")
            return True

    def files(self) -> tuple[Path, ...]:
        """The files that hold what a SQLite store holds; none for PostgreSQL."""
        if self.path is None:
            return ()
        return self.path, self.path.with_name(self.path.name + "-wal")

    def _autocommit(self, statement: str) -> tuple[Any, ...]:
        """Run a statement that is allowed outside of a transaction only; returns its first row."""
        if self.path is None:
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                result = connection.exec_driver_sql(statement)
                return tuple(result.first() or ()) if result.returns_rows else ()
        raw = self.engine.raw_connection()
        try:
            cursor = raw.cursor()
            cursor.execute(statement)
            return tuple(cursor.fetchone() or ())
        finally:
            raw.close()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn a driver's error into a GalleryError that names the database and the remedy."""
        try:
            yield
        except (SQLAlchemyError, self._driver_error) as error:
            # Of the cause, a traceback shows the statement but no values: hide_parameters.
            raise GalleryError(f"{self.name}: {_remedy(error)}") from error

    def continue_as(self, other: "SqlStore") -> None:
        """Go on with another database that holds the same; transactions that have begun end where they began.

        other: not to be used by itself any more.
        """
        with self._write_lock:
            old = self.engine
            self.engine, self.path, self.name = other.engine, other.path, other.name
        old.dispose()

    @property
    def _driver_error(self) -> type[Exception]:
        """What the driver itself raises where SQLAlchemy stands not in between."""
        found: type[Exception] = self.engine.dialect.loaded_dbapi.Error
        return found

    def close(self) -> None:
        """Close every connection; the store must not be used afterwards."""
        self.engine.dispose()


def _parse(url: str) -> Any:
    try:
        parsed = make_url(url if "://" in url else f"sqlite:///{url}")
        if parsed.drivername == "postgresql":
            # The driver that we ship; which one SQLAlchemy takes by itself depends on its release.
            parsed = parsed.set(drivername="postgresql+psycopg")
        parsed.get_dialect().import_dbapi()
    except ImportError as error:
        raise ConfigError(f"the database URL's driver is not installed: add the package {error.name}") from error
    except (ArgumentError, NoSuchModuleError):
        # The cause is not chained: it repeats the URL, which may hold a password.
        raise ConfigError(
            "the database URL cannot be parsed: expected sqlite:///PATH or postgresql+DRIVER://..."
        ) from None
    return parsed


def _check_file(path: Path, *, create: bool) -> None:
    if not path.exists():
        if not create:
            raise GalleryError(f"{path} is missing: run `duetface init`, or restore a copy")
        try:
            # The file is made before SQLite does it, so that no other user can ever read it.
            path.touch(mode=0o600)
        except OSError as error:
            raise GalleryError(f"{path} cannot be made: {error.strerror}; name another folder") from error


def _set_up_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # The driver's own BEGIN would come too late for reads; "begin" below sends it instead.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A writer takes the lock at once: a read lock that is upgraded later fails without waiting.
        writes = connection.get_execution_options().get("duetface_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


# What PostgreSQL's drivers say when the server is not there, or goes away in the middle.
_UNREACHABLE = (
    "connection failed",
    "connection refused",
    "connection to server",
    "consuming input failed",
    "server closed the connection",
    "terminating connection",
    "connection is lost",
    "connection is closed",
    "connection timeout",
)


def _remedy(error: Exception) -> str:
    message = str(error.orig if isinstance(error, DatabaseError) else error).splitlines()[0].lower()
    for sign, remedy in _REMEDIES.items():
        if sign in message:
            return remedy
    if any(sign in message for sign in _UNREACHABLE):
        return "the server cannot be reached: start it or repair the network; nothing acknowledged was lost"
    return f"the database refused the statement ({type(error).__name__}); see the service's log"
