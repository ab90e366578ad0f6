"""Noticing that another process has committed, sooner than the next poll: a hint and never a guarantee.

PostgreSQL tells by NOTIFY; SQLite by a counter in its file that is looked at often.  A follower that misses a hint
finds the change at its next poll.
"""

import threading
import time
from typing import Any, cast

from sqlalchemy import Connection

from gallery.store import SqlStore

_CHANNEL = "duetface_changes"
_LOOK_S = 0.05


def announce(store: SqlStore, connection: Connection) -> None:
    """Within a transaction that changes a realm: whoever waits is woken by its commit."""
    if store.path is None:
        connection.exec_driver_sql(f"NOTIFY {_CHANNEL}")


class Wakeup:
    """Waits on one connection of its own.  For one thread at a time; close it from any."""

    def __init__(self, store: SqlStore) -> None:
        """Connects; what is committed from now on is noticed.  Raises GalleryError if it cannot."""
        self._store = store
        self._stopped = threading.Event()
        self._in_use = threading.Lock()
        self._seen: Any = None
        # Of this connection, and not of the store, which may go on in another database meanwhile.
        self._counts = store.path is not None
        self._listens = not self._counts and store.engine.driver == "psycopg"
        with store.explained():
            self._raw: Any = store.engine.raw_connection()
            self._connection = cast(Any, self._raw.driver_connection)
            if self._counts:
                self._seen = self._version()
            elif self._listens:
                self._connection.rollback()
                self._connection.autocommit = True
                self._connection.execute(f"LISTEN {_CHANNEL}")

    def wait(self, timeout_s: float) -> bool:
        """Whether something was committed before the time was over; False at once after close."""
        deadline = time.monotonic() + timeout_s
        while not self._stopped.is_set() and (left := deadline - time.monotonic()) > 0:
            if self._noticed(min(_LOOK_S, left)):
                return True
        return False

    def _noticed(self, seconds: float) -> bool:
        with self._in_use, self._store.explained():
            if self._stopped.is_set():
                return False
            if self._listens:
                return any(True for _ in self._connection.notifies(timeout=seconds, stop_after=1))
            self._stopped.wait(seconds)
            seen, self._seen = self._seen, self._version() if self._counts else None
            return bool(seen != self._seen)

    def _version(self) -> Any:
        return self._connection.execute("PRAGMA data_version").fetchone()

    def close(self) -> None:
        """Let a waiting thread go, and the connection."""
        self._stopped.set()
        # A driver's connection must not be closed under a thread that is using it.
        with self._in_use:
            # Not back into the pool: it listens.
            self._raw.invalidate()
