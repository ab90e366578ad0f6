"""What EnrollmentService tells: the gallery's records as messages."""

from collections.abc import Sequence
from datetime import datetime

from duetface.v1 import enrollment_pb2
from gallery.records import Consent, ConsentRecord, SubjectRecord, TemplateRecord


def subject_message(subject: SubjectRecord, now: datetime) -> enrollment_pb2.Subject:
    """One subject with the consent that counts now."""
    message = enrollment_pb2.Subject(
        subject_id=subject.subject_id, label=subject.label, template_count=subject.template_count
    )
    message.created_at.FromDatetime(subject.created_at)
    if subject.consents:
        message.consent.CopyFrom(_consent_message(_in_force(subject.consents, now)))
    return message


def recorded_consent_message(record: ConsentRecord) -> enrollment_pb2.RecordedConsent:
    """One consent of a subject's history."""
    message = enrollment_pb2.RecordedConsent(consent=_consent_message(record.consent))
    if record.withdrawn_at is not None:
        message.withdrawn_at.FromDatetime(record.withdrawn_at)
    return message


def _consent_message(consent: Consent) -> enrollment_pb2.Consent:
    message = enrollment_pb2.Consent(purpose=consent.purpose, text_version=consent.version)
    message.given_at.FromDatetime(consent.given_at)
    if consent.expires_at is not None:
        message.expires_at.FromDatetime(consent.expires_at)
    return message


def _in_force(consents: Sequence[ConsentRecord], now: datetime) -> Consent:
    """The newest that holds now, under which a new template would be stored; without one, the newest at all.

    consents: oldest first, at least one; a withdrawn one has ended when it was withdrawn.
    """
    given = [record.consent for record in consents]
    return next(
        (consent for consent in reversed(given) if consent.expires_at is None or consent.expires_at > now), given[-1]
    )


def template_message(template: TemplateRecord) -> enrollment_pb2.Template:
    """One template, without its value."""
    message = enrollment_pb2.Template(
        template_id=str(template.template_id),
        subject_id=template.subject_id,
        space_digest=template.space_digest,
        quality=template.quality,
        device=template.device,
    )
    message.created_at.FromDatetime(template.created_at)
    return message
