"""Moving what is stored to the newest keys: a fresh subject key, the newest realm key, the newest rotation.

One subject is one transaction, so the work may be stopped at any point, go on later, and run beside enrolments.
"""

from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, Connection, delete, exists, func, or_, select, update

from gallery import subjects, templates
from gallery.ledger import Entry
from gallery.realm import Realm, Writing
from gallery.records import Actor, ChangeKind
from gallery.schema import audit, subject_keys
from gallery.schema import subjects as subjects_table
from gallery.schema import templates as templates_table
from gallery.subjects import StoredSubject
from gallery.templates import StoredTemplate
from gallery.vault import SubjectPlace


@dataclass(frozen=True)
class Outdated:
    """How much is still under older keys.  Zero of both: the older key files may be destroyed."""

    subjects: int
    templates: int


def count_outdated(realm: Realm) -> Outdated:
    """What `rekey_subject` still has to do."""
    with realm.store.reading() as connection:
        due = connection.execute(select(func.count()).select_from(subjects_table).where(*_due(realm))).scalar_one()
        rotated = connection.execute(
            select(func.count()).where(templates_table.c.realm_id == realm.realm_id, _old_rotation(realm))
        ).scalar_one()
    return Outdated(due, rotated)


def _due(realm: Realm) -> tuple[ColumnElement[bool], ...]:
    """Conditions on subjects: a key under an older realm key, or a template under an older rotation."""
    older_key = exists().where(
        subject_keys.c.realm_id == subjects_table.c.realm_id,
        subject_keys.c.subject_key == subjects_table.c.subject_key,
        subject_keys.c.realm_key_version != realm.vault.realm_key_version,
    )
    older_rotation = exists().where(
        templates_table.c.realm_id == subjects_table.c.realm_id,
        templates_table.c.subject_key == subjects_table.c.subject_key,
        _old_rotation(realm),
    )
    return subjects_table.c.realm_id == realm.realm_id, or_(older_key, older_rotation)


def _old_rotation(realm: Realm) -> ColumnElement[bool]:
    return templates_table.c.rotation_version != realm.vault.rotation_version


def next_due(realm: Realm, connection: Connection, after: int) -> SubjectPlace | None:
    """The next subject, by number, with something under older keys, or None.  after: the number done last."""
    row = connection.execute(
        select(subjects_table)
        .where(*_due(realm), subjects_table.c.subject_key > after)
        .order_by(subjects_table.c.subject_key)
        .limit(1)
    ).first()
    return None if row is None else SubjectPlace(row.partition, row.subject_key, row.subject_id)


def unfinished(realm: Realm) -> bool:
    """Whether somebody was rekeyed since the last rotation whose old bytes were destroyed."""
    last = select(func.max(audit.c.audit_id)).where(audit.c.realm_id == realm.realm_id)
    with realm.store.reading() as connection:
        rekeyed = connection.execute(last.where(audit.c.action == "subject_rekeyed")).scalar() or 0
        finished = connection.execute(last.where(audit.c.action == "keys_rotated")).scalar() or 0
    return rekeyed > finished


def rekey_subject(writing: Writing, place: SubjectPlace, actor: Actor) -> None:
    """Give one subject a fresh key, and its templates the newest rotation, without any picture."""
    stored = subjects.require_subject(writing.connection, writing.realm_id, place.partition, place.subject_id)
    label = subjects.read_label(writing.connection, writing.realm_id, writing.vault, stored)
    key, sealed = writing.vault.new_subject_key(place, stored.key.key_version + 1)
    subjects.insert_key(writing.connection, writing.realm_id, place.subject_key, sealed)
    mine = templates_table.c.subject_key == place.subject_key
    for template in list(templates.read_templates(writing.connection, writing.realm_id, mine)):
        _move(writing, template, key, sealed.key_version)
        if template.place.rotation_version != writing.vault.rotation_version:
            _tell(writing, template, actor)
    writing.connection.execute(
        update(subjects_table)
        .where(subjects_table.c.realm_id == writing.realm_id, subjects_table.c.subject_key == place.subject_key)
        .values(sealed_label=writing.vault.seal_label(key, place, label))
    )
    _destroy_older(writing, stored, sealed.key_version)
    writing.ledger.record(Entry(actor, "subject_rekeyed", place.subject_id))


def _move(writing: Writing, template: StoredTemplate, key: bytes, key_version: int) -> None:
    """Open under the old keys, seal under the new."""
    vault, rotated = writing.vault, template.open(writing.vault)
    old, new = template.place.rotation_version, vault.rotation_version
    if old != new:
        rotated = vault.reissue(rotated[None], old)[0]
    place = replace(template.place, key_version=key_version, rotation_version=new)
    writing.connection.execute(
        update(templates_table)
        .where(templates_table.c.realm_id == writing.realm_id, templates_table.c.template_id == place.template_id)
        .values(
            key_version=key_version,
            rotation_version=new,
            ciphertext=vault.seal_template(key, place, rotated),
        )
    )


def _tell(writing: Writing, template: StoredTemplate, actor: Actor) -> None:
    place = template.place
    writing.ledger.change(
        ChangeKind.TEMPLATE_REISSUED,
        actor,
        partition=place.partition,
        subject_key=place.subject_key,
        template_id=place.template_id,
        subject_id=template.subject.place.subject_id,
        details={"rotation": writing.vault.rotation_version},
    )


def _destroy_older(writing: Writing, stored: StoredSubject, key_version: int) -> None:
    writing.connection.execute(
        delete(subject_keys).where(
            subject_keys.c.realm_id == writing.realm_id,
            subject_keys.c.subject_key == stored.place.subject_key,
            subject_keys.c.key_version < key_version,
        )
    )
