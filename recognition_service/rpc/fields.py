"""Checks of the plain fields of requests: lengths, characters, ranges.  Each raises FieldError."""

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from duetface.errors import MessageError, NotFoundError
from duetface.v1 import enrollment_pb2
from gallery.receipt import Receipt, ReceiptError
from gallery.records import Consent
from gallery.subjects import check_subject_id
from recognition_service.refusals import FieldError

PURPOSE_LENGTH = 64
PARTITION_LENGTH = 64
LABEL_LENGTH = 128
DEVICE_LENGTH = 128
PAGE_MAX = 1000
PAGE_DEFAULT = 100
RECEIPT_BYTES = 786_432  # of the 1 MiB that a message may have
NUMBER_MAX = 2**63 - 1  # the largest that the store can hold


@contextmanager
def as_field_errors() -> Iterator[None]:
    """Turn a MessageError about a plain field into a FieldError, which has a reason of its own."""
    try:
        yield
    except FieldError:
        raise
    except MessageError as error:
        raise FieldError(str(error)) from error


def subject_id_of(text: str) -> str:
    """A subject id in NFC, 1 to 128 printable characters: two spellings of one id must share their counters."""
    with as_field_errors():
        return check_subject_id(text)


def optional_subject_id_of(text: str) -> str:
    """As `subject_id_of`, or empty for none."""
    return subject_id_of(text) if text else ""


def purpose_of(text: str) -> str:
    """At most 64 printable characters."""
    return _printable("purpose", text, PURPOSE_LENGTH)


def partition_of(text: str) -> str:
    """The name of a scratch partition, or empty for the realm's gallery."""
    return _printable("partition", text, PARTITION_LENGTH)


def receipt_of(text: str) -> Receipt:
    """A receipt of erasure, at most 786432 bytes of JSON; whose it is, only the gallery can tell."""
    if len(text.encode()) > RECEIPT_BYTES:
        raise FieldError(f"receipt_json has {len(text.encode())} bytes: expected at most {RECEIPT_BYTES}")
    try:
        return Receipt.from_json(text)
    except ReceiptError as error:
        raise FieldError(str(error)) from error


def label_of(text: str) -> str:
    """A label for people, at most 128 printable characters, may be empty."""
    return _printable("label", text, LABEL_LENGTH)


def device_of(text: str) -> str:
    """A device's name, at most 128 printable characters, or empty for none."""
    return _printable("device", text, DEVICE_LENGTH)


def template_id_of(text: str) -> int:
    """The number of a template; whatever is no number names none.  Raises NotFoundError."""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise NotFoundError("there is no template of this id: `duetface gallery show SUBJECT` lists them")
    return int(text)


def page_size_of(size: int) -> int:
    """1 to 1000; 0 means 100."""
    if size > PAGE_MAX:
        raise FieldError(f"got page_size {size}, expected at most {PAGE_MAX}")
    return size or PAGE_DEFAULT


def number_of(name: str, number: int) -> int:
    """A number of the store's, such as a revision: a uint64 on the wire, 63 bits in SQL."""
    if number > NUMBER_MAX:
        raise FieldError(f"got {name} {number}, expected at most {NUMBER_MAX}")
    return number


def consent_of(request: enrollment_pb2.CreateSubjectRequest | enrollment_pb2.AddConsentRequest) -> Consent:
    """The consent, which must be there."""
    if not request.HasField("consent"):
        raise FieldError("consent is missing: say what was agreed to")
    message = request.consent
    if not message.HasField("given_at"):
        raise FieldError("consent.given_at is missing")
    return Consent(
        purpose=_required("consent.purpose", message.purpose, 64),
        version=_required("consent.text_version", message.text_version, 64),
        given_at=moment_of("consent.given_at", message.given_at),
        expires_at=moment_of("consent.expires_at", message.expires_at) if message.HasField("expires_at") else None,
    )


def moment_of(name: str, timestamp: Timestamp) -> datetime:
    """A point in time that Python and SQL can hold."""
    try:
        return timestamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise FieldError(f"{name} is not a point in time between the years 1 and 9999") from error


def _required(name: str, text: str, length: int) -> str:
    if not text:
        raise FieldError(f"{name} is missing")
    return _printable(name, text, length)


def _printable(name: str, text: str, length: int) -> str:
    normal = unicodedata.normalize("NFC", text)
    if len(normal) > length or not (normal.isprintable() or not normal):
        raise FieldError(f"{name} has {len(normal)} characters: expected at most {length}, all printable")
    return normal
