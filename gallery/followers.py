"""Replicas of a realm, and how far each has followed: what an erasure waits for."""

import time
from datetime import timedelta

from sqlalchemy import delete, insert, select, update

from duetface.errors import GalleryError
from gallery.ledger import to_us
from gallery.realm import Realm
from gallery.schema import followers

# A replica that was not seen for this long has stopped: its memory, and the templates in it, are gone.
_LOST_AFTER = timedelta(minutes=5)
_SEEN_EVERY = timedelta(minutes=1)
_POLL_S = 0.05


class Reporter:
    """Says how far this replica has followed: at once where something was removed, else once a minute.

    An erasure is all that waits for replicas; a row written for every enrolment would double its cost.
    """

    def __init__(self, realm: Realm, name: str) -> None:
        """name: of the replica; empty: nothing is ever said."""
        self._realm = realm
        self._name = name
        self._next_us = 0

    def report(self, revision: int, *, removed: bool) -> None:
        """removed: whether what was followed since the last report took anything away."""
        now_us = self._realm.now_us()
        if self._name and (removed or now_us >= self._next_us):
            report(self._realm, self._name, revision)
            self._next_us = now_us + _SEEN_EVERY // timedelta(microseconds=1)


def report(realm: Realm, name: str, revision: int) -> None:
    """Say that the replica `name` has followed up to a revision."""
    now_us = realm.now_us()
    same = (followers.c.realm_id == realm.realm_id) & (followers.c.name == name)
    with realm.store.writing() as connection:
        seen = connection.execute(update(followers).where(same).values(revision=revision, seen_at_us=now_us))
        if seen.rowcount == 0:
            values = {"realm_id": realm.realm_id, "name": name, "revision": revision, "seen_at_us": now_us}
            connection.execute(insert(followers).values(values))


def leave(realm: Realm, name: str) -> None:
    """A replica stops; nobody waits for it any more."""
    with realm.store.writing() as connection:
        connection.execute(delete(followers).where(followers.c.realm_id == realm.realm_id, followers.c.name == name))


def await_followers(realm: Realm, revision: int, timeout_s: float) -> list[str]:
    """Wait until every living replica has followed; returns their names.  Raises GalleryError naming those behind."""
    deadline = time.monotonic() + timeout_s
    while True:
        living = to_us(realm.clock() - _LOST_AFTER)
        with realm.store.reading() as connection:
            rows = connection.execute(
                select(followers).where(followers.c.realm_id == realm.realm_id, followers.c.seen_at_us > living)
            ).all()
        behind = sorted(row.name for row in rows if row.revision < revision)
        if not behind:
            return sorted(row.name for row in rows)
        if time.monotonic() > deadline:
            raise GalleryError(
                f"replicas {', '.join(behind)} have not followed to revision {revision}: "
                "start them, or stop them for good, then ask again"
            )
        time.sleep(_POLL_S)
