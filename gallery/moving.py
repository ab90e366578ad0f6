"""Moving a realm to another database while it is served: copy, follow, compare, and switch in a short pause.

A service may go on enrolling and deciding throughout.  Only the switch makes writers wait, since it holds the
source's write lock: it brings what is new since the last look, compares, and marks the source as moved in the same
transaction.  Until then the new database refuses to be served, and from then on the old one does: there is never
more than one that takes changes.  Stopped at any point, the same call goes on where it was.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from sqlalchemy import Connection, Row, insert, or_, select, update

from duetface.errors import ConfigError, GalleryError
from gallery.ledger import GENESIS
from gallery.migrate import migrate
from gallery.records import ChangeKind
from gallery.schema import audit, changes, metadata, realms, subjects
from gallery.store import SqlStore
from gallery.transfer import (
    GROWING,
    OF_SUBJECT,
    PAGE,
    WHOLE,
    Side,
    Target,
    Within,
    pages_of_subjects,
    require_equal,
)

Progress = Callable[[str, int], None]
"""Told what is being done, and how many subjects or rows of it."""

# When a look finds no more than this is new, the rest fits into a pause that nobody notices.
_FEW_ROWS = 200
# A realm that is written faster than it is followed must not be followed for ever.
_MOST_LOOKS = 100


@dataclass(frozen=True)
class MoveReport:
    """What was moved.  pause_s: how long writers waited.  digest: of every row, equal on both sides, hexadecimal."""

    place: str
    revision: int
    audit_rows: int
    subjects: int
    templates: int
    pause_s: float
    digest: str


@dataclass(frozen=True)
class _Heads:
    """How far a side has got: its newest change and its newest audit row."""

    revision: int
    audit_id: int
    audit_digest: bytes


def move(source_url: str, target_url: str, realm: str, progress: Progress | None = None) -> MoveReport:
    """Move a realm; the report is returned once the new database alone may be served.

    source_url: of a SQLite file.  target_url: another database, empty, with other realms, or with this move half done.
    Raises ConfigError for another kind of database, GalleryError for a realm that cannot go, a place that is taken,
    or rows that differ.
    """
    if not target_url.startswith("postgresql"):
        raise ConfigError("a realm moves to PostgreSQL: name it as postgresql://USER@HOST/DATABASE")
    with closing(SqlStore(source_url)) as source, closing(SqlStore(target_url, create=True)) as target:
        return _Move(source, target, realm, progress).run()


class _Move:
    """One realm on its way."""

    def __init__(self, source: SqlStore, target: SqlStore, realm: str, progress: Progress | None) -> None:
        """Finds or makes the realm in the target."""
        if source.path is None:
            raise ConfigError(f"{source.name} is no SQLite file: a server's own replication moves its databases")
        self._source = source
        self._tell = progress or (lambda _what, _count: None)
        migrate(source, create=False)
        row = _row(source, realm)
        if row is None:
            raise GalleryError(f"{source.name} has no realm of this name: check the configuration's realm")
        if row.moved_to not in (None, target.name):
            raise GalleryError(f"{source.name}: this realm was moved to {row.moved_to} already")
        self._source_id = int(row.realm_id)
        # An index finds a subject by partition and name; of its name alone it would read everybody.
        self._partitions = _partitions(source, self._source_id)
        migrate(target, create=True)
        self._target = Target(target, _arrive(source, target, row))

    def run(self) -> MoveReport:
        """All steps, or those that are left."""
        if self._heads_there().audit_id == 0:
            self._copy()
        self._follow_until_few()
        digest = self._compare()
        self._follow_until_few()
        pause_s = self._switch()
        return self._arrived(digest, pause_s)

    def _copy(self) -> None:
        """Every subject, a page a transaction, so that no long reader keeps the source's log from being emptied."""
        with self._source.reading() as connection:
            before = _heads(self._here(connection))
        done = 0
        for low, high in pages_of_subjects(self._source, self._source_id):
            with self._source.reading() as connection:
                done += self._target.level_subjects(self._here(connection), _between(low, high))
            self._tell("subjects copied", done)
        with self._source.reading() as connection:
            self._extend(self._here(connection))
        # What changed meanwhile is newer than this, and is followed next.
        self._write_heads(before)

    def _extend(self, here: Side) -> int:
        grown = sum(self._target.extend(here, table) for table in GROWING)
        return grown + sum(self._target.level_whole(here, table) for table in WHOLE)

    def _follow_until_few(self) -> None:
        for _ in range(_MOST_LOOKS):
            with self._source.reading() as connection:
                new = self._follow(self._here(connection))
            self._tell("changes followed", new)
            if new <= _FEW_ROWS:
                return
        raise GalleryError("the realm is written faster than it can be followed: move it at a quieter hour")

    def _follow(self, here: Side) -> int:
        """Bring what is new since the last look; returns how many audit rows that was."""
        since, until = self._heads_there(), _heads(here)
        for within in self._touched(here, since):
            self._target.level_subjects(here, within)
        self._extend(here)
        self._write_heads(until)
        return until.audit_id - since.audit_id

    def _touched(self, here: Side, since: _Heads) -> list[Within]:
        """Conditions for all subjects that a change or an audit row since then speaks of, in pages."""
        connection, realm_id = here.connection, here.realm_id
        rows = connection.execute(
            select(changes).where(changes.c.realm_id == realm_id, changes.c.revision > since.revision)
        ).all()
        named = select(audit.c.subject_id).where(audit.c.realm_id == realm_id, audit.c.audit_id > since.audit_id)
        dropped = [row.partition for row in rows if row.kind == ChangeKind.PARTITION_DROPPED]
        self._partitions |= {row.partition for row in rows}
        # A new key of a subject, say, is no change of what is found: only the audit tells of it.
        of_these = subjects.c.partition.in_(self._partitions)
        spoken_of = or_(of_these & subjects.c.subject_id.in_(named), subjects.c.partition.in_(dropped))
        of_source = select(subjects.c.subject_key).where(subjects.c.realm_id == realm_id, spoken_of)
        touched = {row.subject_key for row in rows if row.subject_key} | set(connection.execute(of_source).scalars())
        with self._target.store.reading() as there:
            gone = select(subjects.c.subject_key).where(
                subjects.c.realm_id == self._target.realm_id, subjects.c.partition.in_(dropped)
            )
            touched |= set(there.execute(gone).scalars())
        return [_among(page) for page in _pages(sorted(touched))]

    def _compare(self) -> str:
        """Every row of both sides, at one state of the source; returns their digest.  Writers go on meanwhile."""
        with self._source.reading() as connection:
            here = self._here(connection)
            self._follow(here)
            self._tell("rows compared", sum(here.count(table) for table in _ALL))
            with self._target.store.reading() as there:
                return require_equal(here, self._there(there), _ALL)

    def _switch(self) -> float:
        """In the pause: bring the rest, compare it, and mark the source; returns the seconds that writers waited.

        The source is marked before the new place may be served: a crash between the two leaves no place that takes
        changes, and the next run ends it.
        """
        with self._source.writing() as connection:
            started = time.monotonic()
            here = self._here(connection)
            since = self._heads_there()
            touched = self._touched(here, since)
            self._follow(here)
            self._require_level(here, touched, since)
            mark = update(realms).where(realms.c.realm_id == self._source_id)
            connection.execute(mark.values(moved_to=self._target.store.name))
        self._tell("source marked as moved", 1)
        with self._target.store.writing() as connection:
            open_up = update(realms).where(realms.c.realm_id == self._target.realm_id)
            connection.execute(open_up.values(arriving_from=None))
        return time.monotonic() - started

    def _require_level(self, here: Side, touched: Sequence[Within], since: _Heads) -> None:
        """What the pause has brought is read back and compared; what was compared before is counted."""
        if any(self._target.level_subjects(here, within) for within in touched):
            raise GalleryError("subjects differ after they were copied: nothing was switched; move again")
        with self._target.store.reading() as connection:
            there = self._there(connection)
            for table, number in GROWING.items():
                after = number > (since.revision if table is changes else since.audit_id)
                _require_same(table.name, here.digest(table, after), there.digest(table, after))
            for table in WHOLE:
                _require_same(table.name, here.digest(table), there.digest(table))
            for table in _ALL:
                _require_same(table.name, here.count(table), there.count(table))
            _require_same("realms", _heads(here), _heads(there))

    def _arrived(self, digest: str, pause_s: float) -> MoveReport:
        with self._target.store.reading() as connection:
            there = self._there(connection)
            heads = _heads(there)
            counts = {table.name: there.count(table) for table in OF_SUBJECT}
        return MoveReport(
            place=self._target.store.name,
            revision=heads.revision,
            audit_rows=heads.audit_id,
            subjects=counts["subjects"],
            templates=counts["templates"],
            pause_s=pause_s,
            digest=digest,
        )

    def _here(self, connection: Connection) -> Side:
        return Side(connection, self._source_id)

    def _there(self, connection: Connection) -> Side:
        return Side(connection, self._target.realm_id)

    def _heads_there(self) -> _Heads:
        with self._target.store.reading() as connection:
            return _heads(self._there(connection))

    def _write_heads(self, heads: _Heads) -> None:
        with self._target.store.writing() as connection:
            connection.execute(
                update(realms)
                .where(realms.c.realm_id == self._target.realm_id)
                .values(revision=heads.revision, audit_id=heads.audit_id, audit_digest=heads.audit_digest)
            )


_ALL = [table for table in metadata.sorted_tables if table in (*OF_SUBJECT, *GROWING, *WHOLE)]


def _row(store: SqlStore, realm: str) -> Row[tuple[object, ...]] | None:
    with store.reading() as connection:
        return connection.execute(select(realms).where(realms.c.name == realm)).first()


def _partitions(store: SqlStore, realm_id: int) -> set[str]:
    with store.reading() as connection:
        of_realm = select(subjects.c.partition).where(subjects.c.realm_id == realm_id).distinct()
        return set(connection.execute(of_realm).scalars())


def _arrive(source: SqlStore, target: SqlStore, row: Row[tuple[object, ...]]) -> int:
    """The realm's number in the target: made there, or found half moved from this very source."""
    origin = str(source.path.resolve()) if source.path else source.name
    found = _row(target, row.name)
    if found is None:
        if row.moved_to is not None:
            raise GalleryError(f"{target.name} no longer has the realm that was moved there: restore its back-up")
        values = {"name": row.name, "created_at_us": row.created_at_us, "revision": 0, "audit_id": 0}
        with target.writing() as connection:
            made = connection.execute(
                insert(realms).values(values | {"audit_digest": GENESIS, "arriving_from": origin})
            ).inserted_primary_key
        return int(made[0]) if made is not None else 0
    if row.moved_to is not None and found.arriving_from is None:
        raise GalleryError(f"this realm was moved to {row.moved_to} already: set storage.database_url to that")
    if (found.arriving_from, found.created_at_us) != (origin, row.created_at_us):
        whose = f"half moved from {found.arriving_from}" if found.arriving_from else "with a life of its own"
        raise GalleryError(f"{target.name} holds a realm of this name, {whose}: name an empty database")
    return int(found.realm_id)


def _heads(side: Side) -> _Heads:
    row = side.connection.execute(select(realms).where(realms.c.realm_id == side.realm_id)).one()
    return _Heads(row.revision, row.audit_id, row.audit_digest)


def _pages(numbers: Sequence[int]) -> list[Sequence[int]]:
    return [numbers[start : start + PAGE] for start in range(0, len(numbers), PAGE)]


def _between(low: int, high: int) -> Within:
    return lambda column: (column > low) & (column <= high)


def _among(numbers: Sequence[int]) -> Within:
    return lambda column: column.in_(numbers)


def _require_same(name: str, expected: object, found: object) -> None:
    if expected != found:
        raise GalleryError(f"the table {name} differs after the last copy: nothing was switched; move again")
