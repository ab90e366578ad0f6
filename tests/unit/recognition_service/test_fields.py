"""Plain fields of requests."""

import pytest

from duetface.errors import NotFoundError
from duetface.v1 import enrollment_pb2
from recognition_service.refusals import FieldError
from recognition_service.rpc import fields


def test_two_spellings_of_one_id_are_one_subject() -> None:
    """Otherwise a composed and a decomposed é would have two failure counters for one person."""
    assert fields.subject_id_of("Rene\u0301") == fields.subject_id_of("Ren\u00e9")


@pytest.mark.parametrize("text", ["", " alice", "a\nb", "x" * 129, "\x00"])
def test_a_malformed_subject_id_is_refused(text: str) -> None:
    """1 to 128 printable characters."""
    with pytest.raises(FieldError, match="subject id"):
        fields.subject_id_of(text)


def test_a_purpose_may_be_empty_but_not_long_nor_unprintable() -> None:
    """It ends up in the audit, which people read on terminals."""
    assert fields.purpose_of("door-1") == "door-1"
    assert fields.purpose_of("") == ""
    for wrong in ("x" * 65, "door\x1b[2J"):
        with pytest.raises(FieldError, match="purpose"):
            fields.purpose_of(wrong)


@pytest.mark.parametrize(("size", "expected"), [(0, 100), (1, 1), (1000, 1000)])
def test_a_page_has_a_default_size(size: int, expected: int) -> None:
    """0 means 100."""
    assert fields.page_size_of(size) == expected


def test_a_page_has_a_limit() -> None:
    """Memory again."""
    with pytest.raises(FieldError, match="at most 1000"):
        fields.page_size_of(1001)


def test_a_number_must_fit_the_store() -> None:
    """A uint64 of the wire would be an INTERNAL of SQL's 63 bits."""
    assert fields.number_of("after_id", 2**63 - 1) == 2**63 - 1
    with pytest.raises(FieldError, match="after_id 9223372036854775808"):
        fields.number_of("after_id", 2**63)


@pytest.mark.parametrize("text", ["", "alice", "-1", "1" * 19, "１"])
def test_a_template_id_that_is_no_number_names_nothing(text: str) -> None:
    """Ids are opaque to clients."""
    with pytest.raises(NotFoundError):
        fields.template_id_of(text)


def test_a_subject_needs_a_consent_with_purpose_text_and_time() -> None:
    """No template without consent, so no subject without one."""
    request = enrollment_pb2.CreateSubjectRequest(subject_id="alice")
    for missing in ("consent is missing", "given_at is missing", "purpose is missing", "text_version is missing"):
        with pytest.raises(FieldError, match=missing):
            fields.consent_of(request)
        if missing.startswith("consent is"):
            request.consent.SetInParent()
        elif missing.startswith("given_at"):
            request.consent.given_at.FromSeconds(1)
        elif missing.startswith("purpose"):
            request.consent.purpose = "door access"
    request.consent.text_version = "1"
    assert fields.consent_of(request).expires_at is None


def test_a_time_outside_the_calendar_is_refused() -> None:
    """A timestamp of the year 300000 would crash the conversion."""
    request = enrollment_pb2.CreateSubjectRequest(subject_id="alice")
    request.consent.purpose, request.consent.text_version = "door access", "1"
    request.consent.given_at.seconds = 2**60
    with pytest.raises(FieldError, match="given_at"):
        fields.consent_of(request)
