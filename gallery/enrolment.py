"""What changes who is enrolled: each function is the whole of one change within a write transaction.

They write rows, change feed and audit together; gallery.gallery commits them and lets the indexes follow.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, select, update

from duetface.errors import ConsentError, MessageError, NotFoundError
from gallery import failures, subjects, templates
from gallery.erasure import Erased, fingerprint, record
from gallery.fingerprints import Fingerprints
from gallery.index import Vectors
from gallery.ledger import Details
from gallery.realm import Writing
from gallery.records import Actor, AddedTemplate, ChangeKind, Consent, Upgrade
from gallery.schema import consents
from gallery.schema import subjects as subjects_table
from gallery.schema import templates as templates_table
from gallery.templates import Capture, StoredTemplate
from gallery.vault import SubjectPlace, TemplatePlace


@dataclass(frozen=True)
class NewTemplate:
    """A template to be stored.

    rotated: (D,) float32 in the frame of that version of the rotation.  upgrade: set if no operator adds it.
    """

    space_digest: bytes
    rotation_version: int
    rotated: Vectors
    capture: Capture
    upgrade: Upgrade | None = None


def create_subject(
    writing: Writing, partition: str, subject_id: str, label: str, consent: Consent, actor: Actor
) -> int:
    """Subject, key and consent in one change; returns its revision, which is also the subject's number."""
    number = writing.ledger.next_revision()
    place = SubjectPlace(partition, number, subject_id)
    subjects.insert_subject(writing.connection, writing.realm_id, writing.vault, place, label, writing.ledger.now_us)
    subjects.insert_consent(writing.connection, writing.realm_id, number, number, consent, writing.ledger.now_us)
    return writing.ledger.change(
        ChangeKind.SUBJECT_CREATED,
        actor,
        partition=partition,
        subject_key=number,
        subject_id=subject_id,
        details={"purpose": consent.purpose, "consent_version": consent.version},
    )


def record_consent(writing: Writing, partition: str, subject_id: str, consent: Consent, actor: Actor) -> int:
    """A further consent; new templates are stored under it."""
    place = subjects.require_subject(writing.connection, writing.realm_id, partition, subject_id).place
    number = writing.ledger.next_revision()
    subjects.insert_consent(
        writing.connection, writing.realm_id, place.subject_key, number, consent, writing.ledger.now_us
    )
    details = {"purpose": consent.purpose, "consent_version": consent.version}
    return _subject_changed(writing, place, actor, "consent recorded", details)


def renew_consent(writing: Writing, partition: str, subject_id: str, expires_at: datetime | None, actor: Actor) -> int:
    """Give the newest consent that holds now another end; the templates under it answer until then.

    expires_at: None for no end.  Raises ConsentError if none holds, or the new end has passed already.
    """
    place = subjects.require_subject(writing.connection, writing.realm_id, partition, subject_id).place
    before_us, after_us = subjects.move_end(
        writing.connection, writing.realm_id, place.subject_key, expires_at, writing.ledger.now_us
    )
    return _subject_changed(writing, place, actor, "consent renewed", {"before_us": before_us, "after_us": after_us})


def withdraw_consents(writing: Writing, partition: str, subject_id: str, actor: Actor) -> int:
    """End every consent of a subject now: its templates no longer answer, and `purge` erases them."""
    place = subjects.require_subject(writing.connection, writing.realm_id, partition, subject_id).place
    now_us = writing.ledger.now_us
    ended = writing.connection.execute(
        update(consents)
        .where(
            consents.c.realm_id == writing.realm_id,
            consents.c.subject_key == place.subject_key,
            consents.c.expires_at_us > now_us,
        )
        # A template made within this very microsecond must stay within its consent.
        .values(expires_at_us=now_us + 1, withdrawn_at_us=now_us)
    )
    if ended.rowcount == 0:
        raise ConsentError("the subject has no consent that is valid now: there is nothing to withdraw")
    return _subject_changed(writing, place, actor, "consent withdrawn")


def set_hold(writing: Writing, partition: str, subject_id: str, *, held: bool, actor: Actor) -> int:
    """Put a subject under legal hold, which forbids its erasure, or lift the hold."""
    place = subjects.require_subject(writing.connection, writing.realm_id, partition, subject_id).place
    writing.connection.execute(
        update(subjects_table)
        .where(subjects_table.c.realm_id == writing.realm_id, subjects_table.c.subject_key == place.subject_key)
        .values(held_at_us=writing.ledger.now_us if held else None)
    )
    return _subject_changed(writing, place, actor, "held" if held else "hold lifted")


def _subject_changed(
    writing: Writing, place: SubjectPlace, actor: Actor, what: str, further: Details | None = None
) -> int:
    return writing.ledger.change(
        ChangeKind.SUBJECT_CHANGED,
        actor,
        partition=place.partition,
        subject_key=place.subject_key,
        subject_id=place.subject_id,
        details={"what": what, **(further or {})},
    )


def add_template(
    writing: Writing, partition: str, subject_id: str, new: NewTemplate, limit: int, actor: Actor
) -> AddedTemplate:
    """Seal and store one template.  limit: most templates of a subject in a space."""
    subject = subjects.require_subject(writing.connection, writing.realm_id, partition, subject_id)
    subject_key = subject.place.subject_key
    templates.check_room(writing.connection, writing.realm_id, subject_key, new.space_digest, limit)
    place = TemplatePlace(
        partition,
        subject_key,
        writing.ledger.next_revision(),
        new.space_digest,
        subject.key.key_version,
        new.rotation_version,
    )
    key = writing.vault.open_subject_key(subject.place, subject.key)
    ciphertext = writing.vault.seal_template(key, place, new.rotated)
    templates.insert_template(
        writing.connection,
        writing.realm_id,
        place,
        ciphertext,
        new.capture,
        writing.ledger.now_us,
        as_in_space=new.upgrade.from_space if new.upgrade else b"",
    )
    revision = writing.ledger.change(
        ChangeKind.TEMPLATE_ADDED,
        actor,
        partition=partition,
        subject_key=subject_key,
        template_id=place.template_id,
        subject_id=subject.place.subject_id,
        details={"device": new.capture.device, "space": new.space_digest.hex(), **_origin(new.upgrade)},
    )
    return AddedTemplate(place.template_id, revision)


def _origin(upgrade: Upgrade | None) -> dict[str, str]:
    """Which decision a template came from, for the audit."""
    return {} if upgrade is None else {"decision_id": upgrade.decision_id, "from_space": upgrade.from_space.hex()}


def delete_template(writing: Writing, partition: str, template_id: int, actor: Actor) -> int:
    """Delete one template; raises NotFoundError, ConsentError under a legal hold."""
    stored = _stored(writing, templates_table.c.template_id == template_id, subjects_table.c.partition == partition)
    if not stored:
        raise NotFoundError(f"there is no template {template_id}: `duetface gallery show SUBJECT` lists them")
    subject = stored[0].subject
    _refuse_held(subject.held)
    prints = fingerprint(writing.vault, stored, [])
    templates.delete_template(writing.connection, writing.realm_id, template_id)
    revision = writing.ledger.change(
        ChangeKind.TEMPLATE_DELETED,
        actor,
        partition=partition,
        subject_key=subject.place.subject_key,
        template_id=template_id,
        subject_id=subject.place.subject_id,
    )
    record(writing, Erased(revision, subject.place.subject_id, len(stored), prints))
    return revision


def delete_subject(writing: Writing, partition: str, subject_id: str, actor: Actor) -> int:
    """Delete a subject with its keys, consents, templates and counters; raises ConsentError under a legal hold."""
    subject = subjects.require_subject(writing.connection, writing.realm_id, partition, subject_id)
    _refuse_held(subject.held)
    place = subject.place
    stored = _stored(writing, templates_table.c.subject_key == place.subject_key)
    sealed = subjects.sealed_values(writing.connection, writing.realm_id, place.subject_key)
    prints = fingerprint(writing.vault, stored, sealed)
    subjects.delete_rows(writing.connection, writing.realm_id, [place.subject_key])
    if partition == "":
        failures.forget_subject(writing.connection, writing.realm_id, place.subject_id)
    revision = writing.ledger.change(
        ChangeKind.SUBJECT_DELETED,
        actor,
        partition=partition,
        subject_key=place.subject_key,
        subject_id=place.subject_id,
    )
    record(writing, Erased(revision, place.subject_id, len(stored), prints))
    return revision


def _stored(writing: Writing, *conditions: ColumnElement[bool]) -> list[StoredTemplate]:
    return list(templates.read_templates(writing.connection, writing.realm_id, *conditions))


def _refuse_held(held: bool) -> None:
    if held:
        raise ConsentError("the subject is under a legal hold: lift the hold before erasing anything of it")


def drop_partition(writing: Writing, partition: str, actor: Actor) -> int:
    """Delete every subject of a scratch partition in one change; raises NotFoundError if there is none."""
    if not partition:
        raise MessageError("the main partition cannot be dropped: name the scratch partition")
    numbers = (
        writing.connection.execute(
            select(subjects_table.c.subject_key).where(
                subjects_table.c.realm_id == writing.realm_id, subjects_table.c.partition == partition
            )
        )
        .scalars()
        .all()
    )
    if not numbers:
        raise NotFoundError("there is no such partition: nobody is enrolled in it")
    for start in range(0, len(numbers), 500):
        subjects.delete_rows(writing.connection, writing.realm_id, numbers[start : start + 500])
    details: Details = {"partition": partition, "subjects": len(numbers)}
    revision = writing.ledger.change(ChangeKind.PARTITION_DROPPED, actor, partition=partition, details=details)
    # So many values are not fingerprinted: without any, the files are rewritten as a whole.
    record(writing, Erased(revision, "", 0, Fingerprints.of(bytes(16), [])))
    return revision
