"""The two gap-free sequences of a realm: the change feed and the hash-chained audit log.

A ledger lives for one write transaction.  It locks the realm's row first, so that numbers are given in commit order.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Row, insert, select, update

from duetface.errors import GalleryError, OverloadedError
from gallery.records import Actor, AuditRecord, Change, ChangeKind
from gallery.schema import audit, changes, realms

Details = Mapping[str, str | int | float | bool]

GENESIS = bytes(32)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_us(moment: datetime) -> int:
    """Microseconds since 1970 of an aware datetime, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_us(microseconds: int) -> datetime:
    """The UTC datetime of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=microseconds)


@dataclass(frozen=True)
class Entry:
    """What an audit row says beside its number, time and digests."""

    actor: Actor
    action: str
    subject_id: str = ""
    outcome: str = ""
    reason: str = ""
    revision: int = 0
    details: str = "{}"


class Ledger:
    """Writes changes and audit rows within one transaction of one realm."""

    def __init__(self, connection: Connection, realm_id: int, now: datetime) -> None:
        """Locks the realm until the transaction ends.  now: the time of every row written by it.

        Raises OverloadedError if the realm was moved away: nothing may be written here any more.
        """
        self._connection = connection
        self._realm_id = realm_id
        self.now_us = to_us(now)
        head = connection.execute(select(realms).where(realms.c.realm_id == realm_id).with_for_update()).one()
        if head.moved_to is not None:
            # Callers of the service read this: where the database lies is none of their business.
            raise OverloadedError("this realm was moved to another database: try again in a moment", retry_after_s=1.0)
        self.revision: int = head.revision
        self._audit_id: int = head.audit_id
        self._audit_digest: bytes = head.audit_digest

    def next_revision(self) -> int:
        """The number that the change now being written will get."""
        return self.revision + 1

    def change(
        self,
        kind: ChangeKind,
        actor: Actor,
        *,
        partition: str = "",
        subject_key: int = 0,
        template_id: int = 0,
        subject_id: str = "",
        details: Details | None = None,
    ) -> int:
        """Append one change and its audit row; returns the revision."""
        self.revision += 1
        values = {
            "realm_id": self._realm_id,
            "revision": self.revision,
            "kind": kind.value,
            "partition": partition,
            "subject_key": subject_key,
            "template_id": template_id,
            "at_us": self.now_us,
        }
        self._connection.execute(insert(changes).values(values))
        entry = Entry(actor, kind.value, subject_id, revision=self.revision, details=canonical(details or {}))
        self.record(entry)
        return self.revision

    def record(self, entry: Entry) -> int:
        """Append one audit row, chained to the one before; returns its number."""
        self._audit_id += 1
        digest = entry_digest(self._audit_id, self.now_us, entry, self._audit_digest)
        values = {
            "realm_id": self._realm_id,
            "audit_id": self._audit_id,
            "at_us": self.now_us,
            "actor_realm": entry.actor.realm,
            "actor_role": entry.actor.role,
            "actor_name": entry.actor.name,
            "actor_fingerprint": entry.actor.fingerprint,
            "action": entry.action,
            "subject_id": entry.subject_id,
            "outcome": entry.outcome,
            "reason": entry.reason,
            "revision": entry.revision,
            "details": entry.details,
            "previous_digest": self._audit_digest,
            "own_digest": digest,
        }
        self._connection.execute(insert(audit).values(values))
        self._audit_digest = digest
        self._write_heads()
        return self._audit_id

    def _write_heads(self) -> None:
        self._connection.execute(
            update(realms)
            .where(realms.c.realm_id == self._realm_id)
            .values(revision=self.revision, audit_id=self._audit_id, audit_digest=self._audit_digest)
        )


def canonical(details: Details) -> str:
    """One text for equal details, so that their digest can be computed again."""
    return json.dumps(dict(details), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def entry_digest(audit_id: int, at_us: int, entry: Entry, previous_digest: bytes) -> bytes:
    """SHA-256 over the previous digest and every field of the row, each as JSON so that no two rows read alike."""
    actor = entry.actor
    fields = [audit_id, at_us, actor.realm, actor.role, actor.name, actor.fingerprint, entry.action]
    fields += [entry.subject_id, entry.outcome, entry.reason, entry.revision, entry.details]
    return hashlib.sha256(previous_digest + json.dumps(fields, ensure_ascii=False).encode()).digest()


def read_audit(connection: Connection, realm_id: int, after_id: int, limit: int) -> list[AuditRecord]:
    """At most `limit` rows after a number, oldest first."""
    rows = connection.execute(
        select(audit)
        .where(audit.c.realm_id == realm_id, audit.c.audit_id > after_id)
        .order_by(audit.c.audit_id)
        .limit(limit)
    )
    return [_audit_record(row) for row in rows]


def _audit_record(row: Row[tuple[object, ...]]) -> AuditRecord:
    return AuditRecord(
        audit_id=row.audit_id,
        at=from_us(row.at_us),
        actor=Actor(row.actor_realm, row.actor_role, row.actor_name, row.actor_fingerprint),
        action=row.action,
        subject_id=row.subject_id,
        outcome=row.outcome,
        reason=row.reason,
        revision=row.revision,
        details=json.loads(row.details),
        previous_digest=row.previous_digest,
        own_digest=row.own_digest,
    )


def verify_audit(connection: Connection, realm_id: int, page: int = 1000) -> int:
    """Recompute the chain from its first row to its head; returns the number of rows.

    Raises GalleryError naming the first row that was changed, removed or put in.
    """
    head = connection.execute(select(realms).where(realms.c.realm_id == realm_id)).one()
    previous, count = GENESIS, 0
    while records := read_audit(connection, realm_id, count, page):
        for record in records:
            count += 1
            entry = Entry(
                record.actor,
                record.action,
                record.subject_id,
                record.outcome,
                record.reason,
                record.revision,
                canonical(record.details),
            )
            expected = entry_digest(count, to_us(record.at), entry, previous)
            if (record.audit_id, record.own_digest, record.previous_digest) != (count, expected, previous):
                raise GalleryError(f"audit row {count} does not continue the chain: a row was changed or removed")
            previous = expected
    if (count, previous) != (head.audit_id, head.audit_digest):
        raise GalleryError(f"the audit log ends at row {count} but its head says {head.audit_id}: rows were removed")
    return count


def read_changes(connection: Connection, realm_id: int, after_revision: int, limit: int) -> list[Change]:
    """At most `limit` changes after a revision, in order."""
    rows = connection.execute(
        select(changes)
        .where(changes.c.realm_id == realm_id, changes.c.revision > after_revision)
        .order_by(changes.c.revision)
        .limit(limit)
    )
    return [
        Change(row.revision, ChangeKind(row.kind), row.partition, row.subject_key, row.template_id, from_us(row.at_us))
        for row in rows
    ]
