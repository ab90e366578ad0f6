"""One realm's rows in two databases: making the second's equal to the first's, and comparing the two.

Nothing is opened: rows go over sealed as they are.  What is done twice changes nothing, so it may stop at any point
and begin again.  A subject is one bundle of rows, changed as a whole; feed and audit only grow; the few other tables
are compared row by row.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Table, delete, func, insert, select

from duetface.errors import GalleryError
from gallery.schema import NEVER_US, audit, changes, metadata, realms
from gallery.store import SqlStore

GROWING = {changes: changes.c.revision, audit: audit.c.audit_id}
_OTHERS = [table for table in metadata.sorted_tables if table is not realms and table not in GROWING]
# Parents come before their children, so that rows can be inserted in this order and deleted in the reverse.
OF_SUBJECT = [table for table in _OTHERS if "subject_key" in table.c]
WHOLE = [table for table in _OTHERS if "subject_key" not in table.c]

PAGE = 500
_LAST = NEVER_US

Values = tuple[Any, ...]
Within = Callable[[Column[Any]], ColumnElement[bool]]
"""A condition on the column `subject_key` of any table that has it."""


@dataclass(frozen=True)
class Side:
    """A realm in one of the databases, within a transaction."""

    connection: Connection
    realm_id: int

    def rows(self, table: Table, *conditions: ColumnElement[bool]) -> Iterator[Values]:
        """Every value but the realm's number, streamed, in any order."""
        statement = select(*_columns(table)).where(table.c.realm_id == self.realm_id, *conditions)
        for row in self.connection.execute(statement, execution_options={"yield_per": PAGE}):
            yield tuple(row)

    def write(self, table: Table, rows: Iterable[Values]) -> int:
        """Insert rows; returns how many."""
        names = [column.name for column in _columns(table)]
        values = [dict(zip(names, row, strict=True)) | {"realm_id": self.realm_id} for row in rows]
        if values:
            self.connection.execute(insert(table), values)
        return len(values)

    def delete(self, table: Table, *conditions: ColumnElement[bool]) -> None:
        """Delete rows."""
        self.connection.execute(delete(table).where(table.c.realm_id == self.realm_id, *conditions))

    def bundles(self, within: Within) -> dict[int, list[set[Values]]]:
        """Subject number -> its rows of each table of OF_SUBJECT."""
        found: dict[int, list[set[Values]]] = {}
        for place, table in enumerate(OF_SUBJECT):
            number = [column.name for column in _columns(table)].index("subject_key")
            for row in self.rows(table, within(table.c.subject_key)):
                found.setdefault(row[number], [set() for _ in OF_SUBJECT])[place].add(row)
        return found

    def digest(self, table: Table, *conditions: ColumnElement[bool]) -> tuple[int, int]:
        """How many rows, and the sum of their SHA-256: databases differ in how they put text in order."""
        count, total = 0, 0
        for row in self.rows(table, *conditions):
            count += 1
            total += int.from_bytes(hashlib.sha256(repr(row).encode()).digest(), "little")
        return count, total % 2**256

    def count(self, table: Table) -> int:
        """How many rows."""
        statement = select(func.count()).select_from(table).where(table.c.realm_id == self.realm_id)
        return int(self.connection.execute(statement).scalar_one())

    def last(self, table: Table) -> int:
        """The largest number of a table that only grows; 0 if it is empty."""
        statement = select(func.max(GROWING[table])).where(table.c.realm_id == self.realm_id)
        return int(self.connection.execute(statement).scalar() or 0)


def _columns(table: Table) -> list[Column[Any]]:
    return [column for column in table.c if column.name != "realm_id"]


@dataclass(frozen=True)
class Target:
    """Where rows go: a realm in a database that nobody else writes."""

    store: SqlStore
    realm_id: int

    def extend(self, source: Side, table: Table) -> int:
        """Bring the rows that a growing table has got since, a page a transaction; returns how many."""
        number, copied = GROWING[table], 0
        with self.store.reading() as connection:
            last = Side(connection, self.realm_id).last(table)
        rows = select(*_columns(table)).where(table.c.realm_id == source.realm_id, number > last).order_by(number)
        found = source.connection.execute(rows, execution_options={"yield_per": PAGE})
        for page in found.partitions(PAGE):
            with self.store.writing() as connection:
                copied += Side(connection, self.realm_id).write(table, [tuple(row) for row in page])
        return copied

    def level_subjects(self, source: Side, within: Within) -> int:
        """Make the subjects within a condition equal to the source's; returns how many differed."""
        wanted = source.bundles(within)
        with self.store.writing() as connection:
            here = Side(connection, self.realm_id)
            held = here.bundles(within)
            stale = [subject for subject, rows in held.items() if wanted.get(subject) != rows]
            new = [rows for subject, rows in wanted.items() if held.get(subject) != rows]
            if stale:
                for table in reversed(OF_SUBJECT):
                    here.delete(table, table.c.subject_key.in_(stale))
            for place, table in enumerate(OF_SUBJECT):
                here.write(table, [row for rows in new for row in rows[place]])
        return len(set(stale)) + sum(subject not in held for subject in wanted)

    def level_whole(self, source: Side, table: Table) -> int:
        """Make one of the smaller tables equal to the source's; returns how many rows differed."""
        keys = [column for column in table.primary_key.columns if column.name != "realm_id"]
        wanted = set(source.rows(table))
        with self.store.writing() as connection:
            here = Side(connection, self.realm_id)
            held = set(here.rows(table))
            names = [column.name for column in _columns(table)]
            for row in held - wanted:
                here.delete(table, *(key == row[names.index(key.name)] for key in keys))
            return here.write(table, wanted - held) + len(held - wanted)


def pages_of_subjects(source: SqlStore, realm_id: int) -> Iterator[tuple[int, int]]:
    """Ranges (low, high] of subject numbers that together cover all there can be, of a page each."""
    table, low = OF_SUBJECT[0], 0
    while low < _LAST:
        statement = (
            select(table.c.subject_key)
            .where(table.c.realm_id == realm_id, table.c.subject_key > low)
            .order_by(table.c.subject_key)
            .limit(PAGE)
        )
        with source.reading() as connection:
            found: Sequence[int] = connection.execute(statement).scalars().all()
        high = found[-1] if len(found) == PAGE else _LAST
        yield low, high
        low = high


def require_equal(source: Side, here: Side, tables: Iterable[Table]) -> str:
    """The digest of all rows of some tables, in hexadecimal; raises GalleryError naming a table that differs."""
    whole = hashlib.sha256()
    for table in tables:
        expected, found = source.digest(table), here.digest(table)
        if expected != found:
            raise GalleryError(
                f"the table {table.name} differs between the two databases ({expected[0]} and {found[0]} rows): "
                "nothing was switched; empty the new database and move again"
            )
        whole.update(repr((table.name, expected)).encode())
    return whole.hexdigest()
