"""Finding what may no longer be kept: consents that ended, templates that are too old.

Finding is apart from erasing, so that a dry run tells exactly what a real one does.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, func, or_, select

from gallery.ledger import to_us
from gallery.realm import Realm
from gallery.schema import consents, subjects, templates

COUNTERS_KEPT = timedelta(days=30)


@dataclass(frozen=True)
class PurgePolicy:
    """template_max_age: None keeps templates as long as their consent."""

    template_max_age: timedelta | None = None


@dataclass(frozen=True)
class PurgeReport:
    """subjects: without any valid consent, erased whole.  templates: of other subjects.  held: left, by legal hold."""

    subjects: tuple[str, ...]
    templates: tuple[int, ...]
    held: tuple[str, ...]


def find_due(realm: Realm, policy: PurgePolicy) -> PurgeReport:
    """What of the main partition is due at this moment."""
    now_us = realm.now_us()
    with realm.store.reading() as connection:
        ends = (
            select(consents.c.subject_key, func.max(consents.c.expires_at_us).label("end"))
            .where(consents.c.realm_id == realm.realm_id)
            .group_by(consents.c.subject_key)
            .subquery()
        )
        people = connection.execute(
            select(subjects.c.subject_key, subjects.c.subject_id, subjects.c.held_at_us)
            .join(ends, ends.c.subject_key == subjects.c.subject_key)
            .where(subjects.c.realm_id == realm.realm_id, subjects.c.partition == "", ends.c.end <= now_us)
            .order_by(subjects.c.subject_id)
        ).all()
        rows = connection.execute(
            select(templates.c.template_id, templates.c.subject_key, subjects.c.subject_id, subjects.c.held_at_us)
            .join(
                subjects,
                (subjects.c.realm_id == templates.c.realm_id) & (subjects.c.subject_key == templates.c.subject_key),
            )
            .where(templates.c.realm_id == realm.realm_id, subjects.c.partition == "", _due(realm, policy, now_us))
            .order_by(templates.c.template_id)
        ).all()
    whole = {row.subject_key for row in people}
    held = {row.subject_id for row in (*people, *rows) if row.held_at_us is not None}
    return PurgeReport(
        tuple(row.subject_id for row in people if row.held_at_us is None),
        tuple(row.template_id for row in rows if row.held_at_us is None and row.subject_key not in whole),
        tuple(sorted(held)),
    )


def _due(realm: Realm, policy: PurgePolicy, now_us: int) -> ColumnElement[bool]:
    ended = templates.c.consent_expires_at_us <= now_us
    if policy.template_max_age is None:
        return ended
    oldest_us = to_us(realm.clock() - policy.template_max_age)
    return or_(ended, templates.c.created_at_us < oldest_us)
