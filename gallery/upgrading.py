"""Moving to another template space: who is enrolled in it already, and when the old one can go.

Two spaces stand side by side.  A subject moves by a new template, from the very capture that was accepted in the old
space or from a new enrolment; nobody is lost, since the old space is only dropped when everybody is in another.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, distinct, exists, func, select

from gallery.ledger import from_us
from gallery.realm import Realm
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


def _only_in(connection: Connection, realm_id: int, digest: bytes) -> int:
    """Subjects with templates in this space and in no other."""
    mine = and_(templates.c.realm_id == realm_id, templates.c.subject_key == subjects.c.subject_key)
    here = exists().where(mine, templates.c.space_digest == digest)
    elsewhere = exists().where(mine, templates.c.space_digest != digest)
    statement = select(func.count()).where(
        subjects.c.realm_id == realm_id, subjects.c.partition == "", here, ~elsewhere
    )
    return int(connection.execute(statement).scalar_one())


def templates_in(realm: Realm, digest: bytes) -> list[int]:
    """The templates of a space in the main partition whose subjects are not under a legal hold."""
    with realm.store.reading() as connection:
        statement = (
            select(templates.c.template_id)
            .join(subjects, _of_template())
            .where(
                templates.c.realm_id == realm.realm_id,
                templates.c.space_digest == digest,
                subjects.c.partition == "",
                subjects.c.held_at_us.is_(None),
            )
        )
        return list(connection.execute(statement).scalars())
