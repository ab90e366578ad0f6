"""Connections to PostgreSQL for an index: borrowed, tested, given back, and every failure told in one clear line."""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from duetface.errors import ConfigError, GalleryError

try:
    import psycopg
    from pgvector.psycopg import register_vector
    from psycopg.conninfo import conninfo_to_dict
except ImportError as error:
    raise ConfigError(f"the package {error.name} is missing: pip install 'duetface[postgres]'") from error

Connection = psycopg.Connection[tuple[Any, ...]]

# A peer that went away without a word is noticed after this long, also in the middle of an answer.
_DEAD_AFTER_S = 10
_DEFAULTS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 1000 * _DEAD_AFTER_S,
    "application_name": "duetface",
}
_LACKING_RIGHT = "42501"
_DISK_FULL = "53100"


class Postgres:
    """One database, reached over as many connections as there are threads at a time; at most `idle` are kept.

    TLS is libpq's: sslmode=verify-full, sslrootcert, sslcert and sslkey in the URL give mutual TLS.
    """

    def __init__(self, url: str, idle: int = 8) -> None:
        """url: libpq's form, postgresql://USER@HOST:PORT/DATABASE?... ; "postgresql+psycopg://" is read as well."""
        try:
            self._options = _DEFAULTS | conninfo_to_dict(url.replace("postgresql+psycopg://", "postgresql://", 1))
        except psycopg.ProgrammingError:
            # The cause is not chained: it repeats the URL, which may hold a password.
            raise ConfigError("the PostgreSQL URL cannot be parsed: expected postgresql://USER@HOST/DATABASE") from None
        host = self._options.get("host") or "the local socket"
        self.name = f"PostgreSQL database {self._options.get('dbname') or 'of the user'} at {host}"
        self._idle: list[Connection] = []
        self._most_idle = idle
        self._lock = threading.Lock()
        # An index ends with its gallery; nobody else knows of these connections.
        weakref.finalize(self, _close_all, self._idle)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Commits at the end of the block, or leaves nothing behind if it raises."""
        with self._borrowed() as connection, connection.transaction():
            yield connection

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        """For statements that PostgreSQL allows outside of a transaction only."""
        with self._borrowed() as connection:
            yield connection

    @contextmanager
    def _borrowed(self) -> Iterator[Connection]:
        try:
            connection = self._take()
            try:
                yield connection
            finally:
                self._give(connection)
        except psycopg.Error as error:
            # PostgreSQL's own messages may repeat values: only its code goes on.
            raise GalleryError(f"{self.name}: {_remedy(error)}") from None

    def _take(self) -> Connection:
        while True:
            with self._lock:
                if not self._idle:
                    break
                connection = self._idle.pop()
            try:
                # The server may have been restarted since; one empty round trip tells.
                connection.execute("")
                return connection
            except psycopg.OperationalError:
                connection.close()
        connection = psycopg.connect(**self._options, autocommit=True)
        try:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            register_vector(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _give(self, connection: Connection) -> None:
        with self._lock:
            if not connection.closed and len(self._idle) < self._most_idle:
                self._idle.append(connection)
                return
        connection.close()

    def settle(self) -> None:
        """Let no byte of what was deleted stay in the write-ahead log.

        A switch fills the rest of a log file with zeros.  PostgreSQL gives old files to new parts of the log with
        their bytes still in them (wal_recycle), so the log must go once round through all that exist: one switch puts
        the present file among the old ones, one passes each of them, and one leaves the last.
        """
        with self.autocommit() as connection:
            (recycles,) = connection.execute("SHOW wal_recycle").fetchone() or ("on",)
            (files,) = connection.execute("SELECT count(*) FROM pg_ls_waldir()").fetchone() or (0,)
            for _ in range(files + 2 if recycles == "on" else 2):
                connection.execute("SELECT pg_switch_wal()")
                connection.execute("CHECKPOINT")

    def close(self) -> None:
        """Close the connections that are not in use."""
        with self._lock:
            _close_all(self._idle)


def _close_all(connections: list[Connection]) -> None:
    while connections:
        connections.pop().close()


def _remedy(error: psycopg.Error) -> str:
    if error.sqlstate == _LACKING_RIGHT:
        return "the user lacks a right: grant what docs/operations.md lists for PostgreSQL"
    if error.sqlstate == _DISK_FULL:
        return "the server's disk is full: free some space and try again; nothing acknowledged was lost"
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and error.sqlstate is None:
        return "cannot be reached: start it or repair the network, and try again; nothing acknowledged was lost"
    if error.sqlstate and error.sqlstate.startswith(("57P", "08")):
        return "went away in the middle: start it and try again; nothing acknowledged was lost"
    return f"refused a statement with code {error.sqlstate or type(error).__name__}; see the server's log"
