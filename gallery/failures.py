"""Counters of consecutive failures, by subject and by device (NIST SP 800-63B-4, section 3.2.2).

Here they are kept; the rule that locks out lives in the recognition service.
Subjects are counted by the id that was claimed, enrolled or not, so that a lock-out does not tell who is enrolled.
"""

from sqlalchemy import Connection, delete, insert, select, update

from gallery.ledger import from_us
from gallery.records import Counted, FailureCount
from gallery.schema import failures

_SUBJECT, _DEVICE = "subject", "device"


def count(connection: Connection, realm_id: int, subject_id: str, device: str, counted: Counted, now_us: int) -> None:
    """Move the counters of one decision; a success sets both to zero."""
    for scope, name in ((_SUBJECT, subject_id), (_DEVICE, device)):
        if not name or counted is Counted.NOT:
            continue
        if counted is Counted.SUCCESS:
            forget(connection, realm_id, scope, name)
        else:
            _add_failure(connection, realm_id, scope, name, now_us)


def _add_failure(connection: Connection, realm_id: int, scope: str, name: str, now_us: int) -> None:
    added = connection.execute(
        update(failures)
        .where(failures.c.realm_id == realm_id, failures.c.scope == scope, failures.c.name == name)
        .values(failures=failures.c.failures + 1, last_failure_at_us=now_us)
    )
    if added.rowcount == 0:
        values = {"realm_id": realm_id, "scope": scope, "name": name, "failures": 1}
        connection.execute(
            insert(failures).values(values | {"first_failure_at_us": now_us, "last_failure_at_us": now_us})
        )


def forget(connection: Connection, realm_id: int, scope: str, name: str) -> None:
    """Set one counter to zero."""
    connection.execute(
        delete(failures).where(failures.c.realm_id == realm_id, failures.c.scope == scope, failures.c.name == name)
    )


def forget_subject(connection: Connection, realm_id: int, subject_id: str) -> None:
    """Forget what was counted for an id, e.g. when its subject is erased or an operator unlocks it."""
    forget(connection, realm_id, _SUBJECT, subject_id)


def forget_device(connection: Connection, realm_id: int, device: str) -> None:
    """Forget what was counted for a device."""
    forget(connection, realm_id, _DEVICE, device)


def forget_stale(connection: Connection, realm_id: int, before_us: int) -> int:
    """Forget counters whose last failure is older; returns how many.  Keeps guessed ids from filling the store."""
    statement = delete(failures).where(failures.c.realm_id == realm_id, failures.c.last_failure_at_us < before_us)
    return connection.execute(statement).rowcount


def read(connection: Connection, realm_id: int, subject_id: str, device: str) -> tuple[FailureCount, FailureCount]:
    """The counters of a subject and of a device."""
    rows = connection.execute(
        select(failures).where(failures.c.realm_id == realm_id, failures.c.name.in_([subject_id, device]))
    )
    found = {
        (row.scope, row.name): FailureCount(
            row.failures, from_us(row.first_failure_at_us), from_us(row.last_failure_at_us)
        )
        for row in rows
    }
    return found.get((_SUBJECT, subject_id), FailureCount()), found.get((_DEVICE, device), FailureCount())
