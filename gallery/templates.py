"""Templates in the store: the SQL of one write or read, called inside a transaction, and opening what was read."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, delete, exists, func, insert, select

from duetface.errors import ConsentError, TemplateLimitError
from gallery.index import Vectors
from gallery.ledger import from_us
from gallery.records import TemplateRecord
from gallery.schema import consents, subject_keys, subjects, templates
from gallery.subjects import StoredSubject, stored_subject
from gallery.vault import TemplatePlace, Vault


@dataclass(frozen=True)
class StoredTemplate:
    """A template's row with its subject: enough to open it."""

    place: TemplatePlace
    subject: StoredSubject
    expires_at_us: int
    ciphertext: bytes

    def open(self, vault: Vault) -> Vectors:
        """(D,) float32, still rotated."""
        key = vault.open_subject_key(self.subject.place, self.subject.key)
        return vault.open_template(key, self.place, self.ciphertext)


@dataclass(frozen=True)
class Capture:
    """What is stored beside a template's ciphertext."""

    quality: float
    device: str


def insert_template(
    connection: Connection,
    realm_id: int,
    place: TemplatePlace,
    ciphertext: bytes,
    capture: Capture,
    now_us: int,
    as_in_space: bytes = b"",
) -> None:
    """Write a template under the subject's newest consent that is valid now; raises ConsentError without one.

    as_in_space: only a consent under which the subject has a template of this space will do; empty for any.
    """
    consent = _valid_consent(connection, realm_id, place.subject_key, now_us, as_in_space)
    if consent is None:
        raise ConsentError(
            "the subject has no consent that is valid now: `duetface consent add SUBJECT` records a new one"
        )
    values = {
        "realm_id": realm_id,
        "template_id": place.template_id,
        "subject_key": place.subject_key,
        "consent_id": consent.consent_id,
        "consent_given_at_us": consent.given_at_us,
        "consent_expires_at_us": consent.expires_at_us,
        "space_digest": place.space_digest,
        "key_version": place.key_version,
        "rotation_version": place.rotation_version,
        "quality": capture.quality,
        "device": capture.device,
        "created_at_us": now_us,
        "ciphertext": ciphertext,
    }
    connection.execute(insert(templates).values(values))


def _valid_consent(
    connection: Connection, realm_id: int, subject_key: int, now_us: int, as_in_space: bytes
) -> Row[Any] | None:
    statement = select(consents).where(
        consents.c.realm_id == realm_id,
        consents.c.subject_key == subject_key,
        consents.c.given_at_us <= now_us,
        consents.c.expires_at_us > now_us,
    )
    if as_in_space:
        statement = statement.where(
            exists().where(
                templates.c.realm_id == realm_id,
                templates.c.consent_id == consents.c.consent_id,
                templates.c.space_digest == as_in_space,
            )
        )
    return connection.execute(statement.order_by(consents.c.consent_id.desc()).limit(1)).first()


def check_room(connection: Connection, realm_id: int, subject_key: int, space_digest: bytes, limit: int) -> None:
    """Raises TemplateLimitError if the subject has `limit` templates in the space."""
    count = connection.execute(
        select(func.count()).where(
            templates.c.realm_id == realm_id,
            templates.c.subject_key == subject_key,
            templates.c.space_digest == space_digest,
        )
    ).scalar_one()
    if count >= limit:
        raise TemplateLimitError(f"the subject has {count} templates in this space, the most allowed: delete one first")


def count_all(connection: Connection, realm_id: int) -> int:
    """Every template of a realm."""
    return int(connection.execute(select(func.count()).where(templates.c.realm_id == realm_id)).scalar_one())


def count_by_space(
    connection: Connection, realm_id: int, partition: str, subject_id: str, now_us: int
) -> dict[bytes, int]:
    """Space digest -> templates of a subject whose consent holds now; nothing for an unknown one, by one statement."""
    rows = connection.execute(
        select(templates.c.space_digest, func.count())
        .join(
            subjects,
            and_(subjects.c.realm_id == templates.c.realm_id, subjects.c.subject_key == templates.c.subject_key),
        )
        .where(
            templates.c.realm_id == realm_id,
            subjects.c.partition == partition,
            subjects.c.subject_id == subject_id,
            templates.c.consent_expires_at_us > now_us,
        )
        .group_by(templates.c.space_digest)
    )
    return {bytes(digest): count for digest, count in rows}


def read_templates(
    connection: Connection, realm_id: int, *conditions: ColumnElement[bool], by_id: bool = False
) -> Iterator[StoredTemplate]:
    """Stored templates that meet the conditions, streamed.

    by_id: in ascending order, for all of them only: SQLite would read every template to find one subject's in order.
    """
    statement = _joined().where(templates.c.realm_id == realm_id, *conditions)
    if by_id:
        statement = statement.order_by(templates.c.template_id)
    for row in connection.execute(statement, execution_options={"yield_per": 1000}):
        yield _stored_template(row)


def _joined() -> Select[tuple[object, ...]]:
    return (
        select(
            templates.c.template_id,
            templates.c.subject_key,
            templates.c.space_digest,
            templates.c.key_version,
            templates.c.rotation_version,
            templates.c.consent_expires_at_us,
            templates.c.ciphertext,
            subjects.c.partition,
            subjects.c.subject_id,
            subjects.c.held_at_us,
            subject_keys.c.realm_key_version,
            subject_keys.c.sealed_key,
        )
        .select_from(templates)
        .join(
            subjects,
            and_(subjects.c.realm_id == templates.c.realm_id, subjects.c.subject_key == templates.c.subject_key),
        )
        .join(
            subject_keys,
            and_(
                subject_keys.c.realm_id == templates.c.realm_id,
                subject_keys.c.subject_key == templates.c.subject_key,
                subject_keys.c.key_version == templates.c.key_version,
            ),
        )
    )


def _stored_template(row: Row[tuple[object, ...]]) -> StoredTemplate:
    place = TemplatePlace(
        row.partition, row.subject_key, row.template_id, row.space_digest, row.key_version, row.rotation_version
    )
    return StoredTemplate(place, stored_subject(row), row.consent_expires_at_us, row.ciphertext)


def read_records(connection: Connection, realm_id: int, subject: StoredSubject) -> list[TemplateRecord]:
    """What is known of a subject's templates, by ascending id."""
    rows = connection.execute(
        select(templates)
        .where(templates.c.realm_id == realm_id, templates.c.subject_key == subject.place.subject_key)
        .order_by(templates.c.template_id)
    )
    return [_record(row, subject.place.subject_id) for row in rows]


def read_embeddings(connection: Connection, realm_id: int, vault: Vault, subject: StoredSubject) -> dict[int, str]:
    """Template id -> base64 of its (D,) little-endian float32, rotated as it is held; for the person's own export."""
    stored = read_templates(connection, realm_id, templates.c.subject_key == subject.place.subject_key)
    return {
        template.place.template_id: base64.b64encode(template.open(vault).astype("<f4").tobytes()).decode()
        for template in stored
    }


def _record(row: Row[tuple[object, ...]], subject_id: str) -> TemplateRecord:
    return TemplateRecord(
        template_id=row.template_id,
        subject_id=subject_id,
        space_digest=row.space_digest,
        quality=row.quality,
        device=row.device,
        created_at=from_us(row.created_at_us),
        key_version=row.key_version,
        rotation_version=row.rotation_version,
        consent_id=row.consent_id,
    )


def delete_template(connection: Connection, realm_id: int, template_id: int) -> None:
    """Delete one row."""
    connection.execute(
        delete(templates).where(templates.c.realm_id == realm_id, templates.c.template_id == template_id)
    )
