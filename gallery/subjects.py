"""Subjects, their keys and their consents: the SQL of one write or read, called inside a transaction."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from duetface.errors import ConsentError, ExistsError, MessageError, NotFoundError
from gallery.ledger import from_us, to_us
from gallery.records import Consent, ConsentRecord, SubjectRecord
from gallery.schema import NEVER_US, consents, subject_keys, subjects, templates
from gallery.vault import SealedSubjectKey, SubjectPlace, Vault

_ID_LENGTH = 128
_LABEL_LENGTH = 256
# Kerberos's customary tolerance (RFC 4120, section 8.2): five minutes.
_CLOCK_SKEW_US = 5 * 60 * 10**6


def check_subject_id(subject_id: str) -> str:
    """The NFC form of a pseudonymous id: 1 to 128 printable characters, no space at its ends.

    Raises MessageError; two ids that look alike because of their composition would be two people to a database.
    """
    normal = unicodedata.normalize("NFC", subject_id)
    if not 1 <= len(normal) <= _ID_LENGTH or not normal.isprintable() or normal != normal.strip():
        raise MessageError(
            f"a subject id of {len(normal)} characters: expected 1 to {_ID_LENGTH} printable ones, none of them "
            "a space at an end"
        )
    return normal


def check_text(text: str, length: int, what: str) -> str:
    """Return text of at most `length` printable characters; raises MessageError naming `what`."""
    if len(text) > length or not (text.isprintable() or text == ""):
        raise MessageError(f"{what} has {len(text)} characters: expected at most {length}, all printable")
    return text


@dataclass(frozen=True)
class StoredSubject:
    """A subject's row with its newest key, as other statements need it."""

    place: SubjectPlace
    key: SealedSubjectKey
    held: bool


def insert_subject(
    connection: Connection, realm_id: int, vault: Vault, place: SubjectPlace, label: str, now_us: int
) -> None:
    """Write the subject and its first key; raises ExistsError if the id is taken in its partition."""
    taken = select(subjects.c.subject_key).where(
        subjects.c.realm_id == realm_id,
        subjects.c.partition == place.partition,
        subjects.c.subject_id == place.subject_id,
    )
    if connection.execute(taken).first():
        raise ExistsError("the subject is enrolled already: add templates to it, or delete it first")
    key, sealed = vault.new_subject_key(place, key_version=1)
    values = {
        "realm_id": realm_id,
        "subject_key": place.subject_key,
        "partition": place.partition,
        "subject_id": place.subject_id,
        "sealed_label": vault.seal_label(key, place, check_text(label, _LABEL_LENGTH, "a label")),
        "created_at_us": now_us,
    }
    connection.execute(insert(subjects).values(values))
    insert_key(connection, realm_id, place.subject_key, sealed)


def insert_key(connection: Connection, realm_id: int, subject_key: int, sealed: SealedSubjectKey) -> None:
    """Write one version of a subject's key."""
    values = {
        "realm_id": realm_id,
        "subject_key": subject_key,
        "key_version": sealed.key_version,
        "realm_key_version": sealed.realm_key_version,
        "sealed_key": sealed.sealed_key,
    }
    connection.execute(insert(subject_keys).values(values))


def insert_consent(
    connection: Connection, realm_id: int, subject_key: int, consent_id: int, consent: Consent, now_us: int
) -> None:
    """Write a consent; raises ConsentError unless it is valid now, MessageError for a text that is too long.

    A device's clock may be a little ahead of this one: then the consent is stored as given now.
    """
    given_us = to_us(consent.given_at)
    expires_us = NEVER_US if consent.expires_at is None else to_us(consent.expires_at)
    if given_us - now_us > _CLOCK_SKEW_US:
        raise ConsentError("the consent was given in the future: set this machine's clock")
    if expires_us <= now_us:
        raise ConsentError("the consent is not valid now: its end must lie in the future")
    values = {
        "realm_id": realm_id,
        "consent_id": consent_id,
        "subject_key": subject_key,
        "purpose": check_text(consent.purpose, 256, "a consent's purpose"),
        "version": check_text(consent.version, 64, "a consent's version"),
        "given_at_us": min(given_us, now_us),
        "expires_at_us": expires_us,
    }
    connection.execute(insert(consents).values(values))


def move_end(
    connection: Connection, realm_id: int, subject_key: int, expires_at: datetime | None, now_us: int
) -> tuple[int, int]:
    """Give the newest consent that holds another end; returns the end before and after, microseconds since 1970.

    Raises ConsentError if none holds now: what has ended was a promise to forget, and cannot be taken back.
    """
    after_us = NEVER_US if expires_at is None else to_us(expires_at)
    if after_us <= now_us:
        raise ConsentError("the consent's new end must lie in the future: `duetface consent withdraw` ends it now")
    held = (consents.c.realm_id == realm_id) & (consents.c.subject_key == subject_key)
    newest = connection.execute(
        select(consents.c.consent_id, consents.c.expires_at_us)
        .where(held, consents.c.given_at_us <= now_us, consents.c.expires_at_us > now_us)
        .order_by(consents.c.consent_id.desc())
        .limit(1)
    ).first()
    if newest is None:
        raise ConsentError("the subject has no consent that holds: `duetface consent add SUBJECT` records a new one")
    connection.execute(
        update(consents).where(held, consents.c.consent_id == newest.consent_id).values(expires_at_us=after_us)
    )
    return newest.expires_at_us, after_us


def find_subject(connection: Connection, realm_id: int, partition: str, subject_id: str) -> StoredSubject | None:
    """The subject with its newest key, or None."""
    row = connection.execute(
        select(subjects, subject_keys)
        .join(subject_keys)
        .where(subjects.c.realm_id == realm_id, subjects.c.partition == partition, subjects.c.subject_id == subject_id)
        .order_by(subject_keys.c.key_version.desc())
        .limit(1)
    ).first()
    return None if row is None else stored_subject(row)


def stored_subject(row: Row[tuple[object, ...]]) -> StoredSubject:
    """From a row that joins subjects and subject_keys."""
    return StoredSubject(
        SubjectPlace(row.partition, row.subject_key, row.subject_id),
        SealedSubjectKey(row.key_version, row.realm_key_version, row.sealed_key),
        row.held_at_us is not None,
    )


def require_subject(connection: Connection, realm_id: int, partition: str, subject_id: str) -> StoredSubject:
    """The subject; raises NotFoundError.  For operators' calls only: a verification must not tell who is enrolled."""
    found = find_subject(connection, realm_id, partition, subject_id)
    if found is None:
        raise NotFoundError("there is no such subject: `duetface gallery list` shows who is enrolled")
    return found


def list_stored(connection: Connection, realm_id: int, partition: str, after: str, limit: int) -> list[StoredSubject]:
    """At most `limit` subjects after an id, by id."""
    newest = (
        select(func.max(subject_keys.c.key_version))
        .where(subject_keys.c.realm_id == subjects.c.realm_id, subject_keys.c.subject_key == subjects.c.subject_key)
        .correlate(subjects)
        .scalar_subquery()
    )
    rows = connection.execute(
        select(subjects, subject_keys)
        .join(subject_keys)
        .where(
            subjects.c.realm_id == realm_id,
            subjects.c.partition == partition,
            subjects.c.subject_id > after,
            subject_keys.c.key_version == newest,
        )
        .order_by(subjects.c.subject_id)
        .limit(limit)
    )
    return [stored_subject(row) for row in rows]


def read_record(connection: Connection, realm_id: int, vault: Vault, stored: StoredSubject) -> SubjectRecord:
    """Everything that an operator may see of a subject."""
    place = stored.place
    row = connection.execute(
        select(subjects).where(subjects.c.realm_id == realm_id, subjects.c.subject_key == place.subject_key)
    ).one()
    count = connection.execute(
        select(func.count()).where(templates.c.realm_id == realm_id, templates.c.subject_key == place.subject_key)
    ).scalar_one()
    return SubjectRecord(
        subject_id=place.subject_id,
        label=read_label(connection, realm_id, vault, stored),
        partition=place.partition,
        created_at=from_us(row.created_at_us),
        revision=place.subject_key,
        template_count=count,
        consents=tuple(read_consents(connection, realm_id, place.subject_key)),
        held_at=_moment(row.held_at_us),
    )


def read_label(connection: Connection, realm_id: int, vault: Vault, stored: StoredSubject) -> str:
    """The subject's name for people."""
    place = stored.place
    sealed = connection.execute(
        select(subjects.c.sealed_label).where(
            subjects.c.realm_id == realm_id, subjects.c.subject_key == place.subject_key
        )
    ).scalar_one()
    return vault.open_label(vault.open_subject_key(place, stored.key), place, sealed)


def read_consents(connection: Connection, realm_id: int, subject_key: int) -> list[ConsentRecord]:
    """Oldest first."""
    rows = connection.execute(
        select(consents)
        .where(consents.c.realm_id == realm_id, consents.c.subject_key == subject_key)
        .order_by(consents.c.consent_id)
    )
    return [
        ConsentRecord(
            row.consent_id,
            Consent(row.purpose, row.version, from_us(row.given_at_us), _end(row.expires_at_us)),
            _moment(row.withdrawn_at_us),
        )
        for row in rows
    ]


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_us(microseconds)


def _end(expires_at_us: int) -> datetime | None:
    return None if expires_at_us == NEVER_US else from_us(expires_at_us)


def names_of(connection: Connection, realm_id: int, subject_keys_: Sequence[int]) -> dict[int, str]:
    """Subject number -> subject id, for those that are still there."""
    rows = connection.execute(
        select(subjects.c.subject_key, subjects.c.subject_id).where(
            subjects.c.realm_id == realm_id, subjects.c.subject_key.in_(subject_keys_)
        )
    )
    return {row.subject_key: row.subject_id for row in rows}


def sealed_values(connection: Connection, realm_id: int, subject_key: int) -> list[bytes]:
    """The subject's sealed keys and label, as they are stored."""
    found: list[bytes] = []
    for table, column in ((subject_keys, subject_keys.c.sealed_key), (subjects, subjects.c.sealed_label)):
        statement = select(column).where(table.c.realm_id == realm_id, table.c.subject_key == subject_key)
        found.extend(connection.execute(statement).scalars())
    return found


def delete_rows(connection: Connection, realm_id: int, subject_keys_: Sequence[int]) -> None:
    """Delete subjects with everything sealed for them."""
    for table in (templates, consents, subject_keys, subjects):
        connection.execute(delete(table).where(table.c.realm_id == realm_id, table.c.subject_key.in_(subject_keys_)))
