"""EnrollmentService: checks requests, calls the gallery in a thread, writes answers."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from duetface.v1 import enrollment_pb2, enrollment_pb2_grpc
from gallery.gallery import Gallery
from gallery.records import Consent, ConsentRecord, SubjectRecord, TemplateRecord
from recognition_service.clocks import Clocks
from recognition_service.enrolment import Enroller, enrol
from recognition_service.rpc.context import Context, caller_of, deadline_of
from recognition_service.rpc.fields import (
    as_field_errors,
    consent_of,
    label_of,
    page_size_of,
    partition_of,
    subject_id_of,
    template_id_of,
)
from recognition_service.rpc.paging import after_of, page_token
from recognition_service.rpc.vouching import vouched_once
from recognition_service.session import NonceBook


class EnrollmentServicer(enrollment_pb2_grpc.EnrollmentServiceServicer):
    """Subjects and templates; the guard lets operators through only."""

    def __init__(
        self, gallery: Gallery, enroller: Enroller, nonces: NonceBook, longest_s: float, clocks: Clocks
    ) -> None:
        """longest_s: the deadline of a call that brings none, or a longer one."""
        self._gallery = gallery
        self._enroller = enroller
        self._nonces = nonces
        self._longest_s = longest_s
        self._clocks = clocks

    async def CreateSubject(
        self, request: enrollment_pb2.CreateSubjectRequest, context: Context
    ) -> enrollment_pb2.CreateSubjectResponse:
        """Add a subject with its consent."""
        revision = await asyncio.to_thread(
            self._gallery.create_subject,
            subject_id_of(request.subject_id),
            label_of(request.label),
            consent_of(request),
            caller_of(context).actor,
            partition_of(request.partition),
        )
        return enrollment_pb2.CreateSubjectResponse(revision=revision)

    async def GetSubject(
        self, request: enrollment_pb2.GetSubjectRequest, context: Context
    ) -> enrollment_pb2.GetSubjectResponse:
        """Tell about one subject."""
        subject = await asyncio.to_thread(
            self._gallery.subject, subject_id_of(request.subject_id), partition_of(request.partition)
        )
        return enrollment_pb2.GetSubjectResponse(subject=_subject_message(subject, self._clocks.now()))

    async def ListSubjects(
        self, request: enrollment_pb2.ListSubjectsRequest, context: Context
    ) -> enrollment_pb2.ListSubjectsResponse:
        """One page of subjects, by id."""
        partition, size = partition_of(request.partition), page_size_of(request.page_size)
        after = after_of(request.page_token, "subjects", partition)
        subjects, revision = await asyncio.to_thread(self._page, after, size, partition)
        more = len(subjects) > size
        return enrollment_pb2.ListSubjectsResponse(
            subjects=[_subject_message(subject, self._clocks.now()) for subject in subjects[:size]],
            next_page_token=page_token(subjects[size - 1].subject_id, "subjects", partition) if more else "",
            revision=revision,
        )

    async def DeleteSubject(
        self, request: enrollment_pb2.DeleteSubjectRequest, context: Context
    ) -> enrollment_pb2.DeleteSubjectResponse:
        """Remove a subject and all that is held of it."""
        revision = await asyncio.to_thread(
            self._gallery.delete_subject,
            subject_id_of(request.subject_id),
            caller_of(context).actor,
            partition_of(request.partition),
        )
        return enrollment_pb2.DeleteSubjectResponse(revision=revision)

    async def AddTemplate(
        self, request: enrollment_pb2.AddTemplateRequest, context: Context
    ) -> enrollment_pb2.AddTemplateResponse:
        """Add one template from one signed probe."""
        subject_id, partition = subject_id_of(request.subject_id), partition_of(request.partition)
        caller = caller_of(context)
        probe = vouched_once(request.signed_probe, caller, self._nonces, self._clocks.monotonic_s())
        deadline_s = deadline_of(context, self._longest_s, self._clocks)
        enrolled = await enrol(self._enroller, probe, subject_id, partition, caller, deadline_s)
        return enrollment_pb2.AddTemplateResponse(
            template_id=str(enrolled.template.template_id),
            revision=enrolled.template.revision,
            warnings=[
                enrollment_pb2.EnrollmentWarning.Value(f"ENROLLMENT_WARNING_{warning.upper()}")
                for warning in enrolled.warnings
            ],
        )

    async def ListTemplates(
        self, request: enrollment_pb2.ListTemplatesRequest, context: Context
    ) -> enrollment_pb2.ListTemplatesResponse:
        """One page of a subject's templates, by id."""
        subject_id, partition = subject_id_of(request.subject_id), partition_of(request.partition)
        size, listing = page_size_of(request.page_size), ("templates", partition, subject_id)
        after = template_id_of(after_of(request.page_token, *listing) or "0")
        templates = await asyncio.to_thread(self._gallery.list_templates, subject_id, partition)
        rest = sorted((t for t in templates if t.template_id > after), key=lambda t: t.template_id)
        more = len(rest) > size
        return enrollment_pb2.ListTemplatesResponse(
            templates=[_template_message(template) for template in rest[:size]],
            next_page_token=page_token(str(rest[size - 1].template_id), *listing) if more else "",
        )

    async def DeleteTemplate(
        self, request: enrollment_pb2.DeleteTemplateRequest, context: Context
    ) -> enrollment_pb2.DeleteTemplateResponse:
        """Remove one template."""
        revision = await asyncio.to_thread(
            self._gallery.delete_template,
            template_id_of(request.template_id),
            caller_of(context).actor,
            partition_of(request.partition),
        )
        return enrollment_pb2.DeleteTemplateResponse(revision=revision)

    async def DropPartition(
        self, request: enrollment_pb2.DropPartitionRequest, context: Context
    ) -> enrollment_pb2.DropPartitionResponse:
        """Remove a scratch partition."""
        with as_field_errors():
            revision = await asyncio.to_thread(
                self._gallery.drop_partition, partition_of(request.partition), caller_of(context).actor
            )
        return enrollment_pb2.DropPartitionResponse(revision=revision)

    def _page(self, after: str, size: int, partition: str) -> tuple[list[SubjectRecord], int]:
        """One more than asked for, so that the last page is known as such, and the revision before the look."""
        revision = self._gallery.revision
        return self._gallery.list_subjects(after, size + 1, partition), revision


def _subject_message(subject: SubjectRecord, now: datetime) -> enrollment_pb2.Subject:
    message = enrollment_pb2.Subject(
        subject_id=subject.subject_id, label=subject.label, template_count=subject.template_count
    )
    message.created_at.FromDatetime(subject.created_at)
    if subject.consents:
        consent = _in_force(subject.consents, now)
        message.consent.purpose = consent.purpose
        message.consent.text_version = consent.version
        message.consent.given_at.FromDatetime(consent.given_at)
        if consent.expires_at is not None:
            message.consent.expires_at.FromDatetime(consent.expires_at)
    return message


def _in_force(consents: Sequence[ConsentRecord], now: datetime) -> Consent:
    """The newest that holds now, under which a new template would be stored; without one, the newest at all.

    consents: oldest first, at least one; a withdrawn one has ended when it was withdrawn.
    """
    given = [record.consent for record in consents]
    return next(
        (consent for consent in reversed(given) if consent.expires_at is None or consent.expires_at > now), given[-1]
    )


def _template_message(template: TemplateRecord) -> enrollment_pb2.Template:
    message = enrollment_pb2.Template(
        template_id=str(template.template_id),
        subject_id=template.subject_id,
        space_digest=template.space_digest,
        quality=template.quality,
        device=template.device,
    )
    message.created_at.FromDatetime(template.created_at)
    return message
