"""Moving to another template space: who is enrolled in it already, and when the old one can go.

Two spaces stand side by side.  A subject moves by a new template, from the very capture that was accepted in the old
space or from a new enrolment; nobody is lost, since an old space is only dropped when everybody is in the new one, or
by somebody who has said how many may be lost.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, distinct, exists, func, select

from gallery import enrolment
from gallery.ledger import from_us, to_us
from gallery.realm import Realm, Writing
from gallery.records import Actor
from gallery.schema import subjects, templates


@dataclass(frozen=True)
class SpaceCoverage:
    """subjects, templates: of the main partition.  only_here: subjects that would be lost with the space.

    newest_at: when the last template was added.
    """

    space_digest: bytes
    subjects: int
    templates: int
    only_here: int
    newest_at: datetime


def coverage(realm: Realm) -> list[SpaceCoverage]:
    """One entry a space, the newest first."""
    with realm.store.reading() as connection:
        rows = connection.execute(
            select(
                templates.c.space_digest,
                func.count(distinct(templates.c.subject_key)),
                func.count(),
                func.max(templates.c.created_at_us),
            )
            .join(subjects, _of_template())
            .where(templates.c.realm_id == realm.realm_id, subjects.c.partition == "")
            .group_by(templates.c.space_digest)
        ).all()
        found = [
            SpaceCoverage(digest, people, count, _only_in(connection, realm.realm_id, digest), from_us(newest_us))
            for digest, people, count, newest_us in rows
        ]
    return sorted(found, key=lambda space: space.newest_at, reverse=True)


def _of_template() -> ColumnElement[bool]:
    return and_(subjects.c.realm_id == templates.c.realm_id, subjects.c.subject_key == templates.c.subject_key)


def _has_template(realm_id: int, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Of a row of subjects: whether it has a template that meets the conditions."""
    mine = and_(templates.c.realm_id == realm_id, templates.c.subject_key == subjects.c.subject_key)
    return exists().where(mine, *conditions)


def _only_in(connection: Connection, realm_id: int, digest: bytes) -> int:
    """Subjects with templates in this space and in no other."""
    statement = select(func.count()).where(
        subjects.c.realm_id == realm_id,
        subjects.c.partition == "",
        _has_template(realm_id, templates.c.space_digest == digest),
        ~_has_template(realm_id, templates.c.space_digest != digest),
    )
    return int(connection.execute(statement).scalar_one())


def left_behind(realm: Realm, target: bytes, on: datetime) -> list[str]:
    """Ids of the subjects who will be recognised on a day in other spaces only, not in the target; by id.

    Whose consents end before that day need not move.
    """
    holds = templates.c.consent_expires_at_us > to_us(on)
    statement = (
        select(subjects.c.subject_id)
        .where(
            subjects.c.realm_id == realm.realm_id,
            subjects.c.partition == "",
            _has_template(realm.realm_id, holds, templates.c.space_digest != target),
            ~_has_template(realm.realm_id, holds, templates.c.space_digest == target),
        )
        .order_by(subjects.c.subject_id)
    )
    with realm.store.reading() as connection:
        return list(connection.execute(statement).scalars())


def subjects_outside(realm: Realm, target: bytes) -> list[int]:
    """Numbers of the subjects of the main partition who have templates in other spaces and are not under a hold."""
    statement = select(subjects.c.subject_key).where(
        subjects.c.realm_id == realm.realm_id,
        subjects.c.partition == "",
        subjects.c.held_at_us.is_(None),
        _has_template(realm.realm_id, templates.c.space_digest != target),
    )
    with realm.store.reading() as connection:
        return list(connection.execute(statement.order_by(subjects.c.subject_key)).scalars())


def leave_other_spaces(writing: Writing, subject_key: int, target: bytes, to_lose: frozenset[str], actor: Actor) -> int:
    """Delete one subject's templates of every space but the target; returns how many.

    to_lose: ids of those who may be left without any.  Another subject who has none in the target keeps those that
    answer: it was enrolled since somebody looked.
    """
    rows = writing.connection.execute(
        select(
            templates.c.template_id, templates.c.space_digest, templates.c.consent_expires_at_us, subjects.c.subject_id
        )
        .join(subjects, _of_template())
        .where(templates.c.realm_id == writing.realm_id, templates.c.subject_key == subject_key)
    ).all()
    now_us = writing.ledger.now_us
    answering = [row for row in rows if row.consent_expires_at_us > now_us]
    free = any(bytes(row.space_digest) == target for row in answering) or rows[0].subject_id in to_lose
    gone = [row for row in rows if bytes(row.space_digest) != target and (free or row not in answering)]
    for row in gone:
        enrolment.delete_template(writing, "", row.template_id, actor)
    return len(gone)
