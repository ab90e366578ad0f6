"""EnrollmentService: checks requests, calls the gallery in a thread, writes answers."""

import asyncio

from duetface.v1 import enrollment_pb2, enrollment_pb2_grpc
from gallery.gallery import Gallery
from gallery.receipt import ReceiptError
from gallery.records import SubjectRecord
from recognition_service.clocks import Clocks
from recognition_service.enrolment import Enroller, enrol
from recognition_service.refusals import FieldError
from recognition_service.rpc.context import Context, caller_of, deadline_of
from recognition_service.rpc.fields import (
    as_field_errors,
    consent_of,
    device_of,
    label_of,
    moment_of,
    optional_subject_id_of,
    page_size_of,
    partition_of,
    receipt_of,
    subject_id_of,
    template_id_of,
)
from recognition_service.rpc.messages import recorded_consent_message, subject_message, template_message
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
        return enrollment_pb2.GetSubjectResponse(subject=subject_message(subject, self._clocks.now()))

    async def ListSubjects(
        self, request: enrollment_pb2.ListSubjectsRequest, context: Context
    ) -> enrollment_pb2.ListSubjectsResponse:
        """One page of subjects, by id."""
        partition, size = partition_of(request.partition), page_size_of(request.page_size)
        after = after_of(request.page_token, "subjects", partition)
        subjects, revision = await asyncio.to_thread(self._page, after, size, partition)
        more = len(subjects) > size
        return enrollment_pb2.ListSubjectsResponse(
            subjects=[subject_message(subject, self._clocks.now()) for subject in subjects[:size]],
            next_page_token=page_token(subjects[size - 1].subject_id, "subjects", partition) if more else "",
            revision=revision,
        )

    async def AddConsent(
        self, request: enrollment_pb2.AddConsentRequest, context: Context
    ) -> enrollment_pb2.AddConsentResponse:
        """Record a further consent."""
        revision = await asyncio.to_thread(
            self._gallery.record_consent,
            subject_id_of(request.subject_id),
            consent_of(request),
            caller_of(context).actor,
            partition_of(request.partition),
        )
        return enrollment_pb2.AddConsentResponse(revision=revision)

    async def RenewConsent(
        self, request: enrollment_pb2.RenewConsentRequest, context: Context
    ) -> enrollment_pb2.RenewConsentResponse:
        """Give the consent that holds another end."""
        ends = moment_of("expires_at", request.expires_at) if request.HasField("expires_at") else None
        revision = await asyncio.to_thread(
            self._gallery.renew_consent,
            subject_id_of(request.subject_id),
            ends,
            caller_of(context).actor,
            partition_of(request.partition),
        )
        return enrollment_pb2.RenewConsentResponse(revision=revision)

    async def WithdrawConsents(
        self, request: enrollment_pb2.WithdrawConsentsRequest, context: Context
    ) -> enrollment_pb2.WithdrawConsentsResponse:
        """End every consent now."""
        revision = await asyncio.to_thread(
            self._gallery.withdraw_consents,
            subject_id_of(request.subject_id),
            caller_of(context).actor,
            partition_of(request.partition),
        )
        return enrollment_pb2.WithdrawConsentsResponse(revision=revision)

    async def ListConsents(
        self, request: enrollment_pb2.ListConsentsRequest, context: Context
    ) -> enrollment_pb2.ListConsentsResponse:
        """Every consent of a subject, oldest first."""
        subject = await asyncio.to_thread(
            self._gallery.subject, subject_id_of(request.subject_id), partition_of(request.partition)
        )
        return enrollment_pb2.ListConsentsResponse(consents=map(recorded_consent_message, subject.consents))

    async def Unlock(self, request: enrollment_pb2.UnlockRequest, context: Context) -> enrollment_pb2.UnlockResponse:
        """Set failure counters to zero, and tell what they stood at."""
        subject_id, device = optional_subject_id_of(request.subject_id), device_of(request.device)
        if not subject_id and not device:
            raise FieldError("unlock whom? Name a subject_id, a device, or both")
        before = await asyncio.to_thread(self._gallery.unlock, caller_of(context).actor, subject_id, device)
        return enrollment_pb2.UnlockResponse(
            subject_failures=before.subject.failures, device_failures=before.device.failures
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
        first, *further = enrolled.templates
        return enrollment_pb2.AddTemplateResponse(
            template_id=str(first.template_id),
            further_template_ids=[str(template.template_id) for template in further],
            revision=enrolled.templates[-1].revision,
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
            templates=[template_message(template) for template in rest[:size]],
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

    async def SearchErased(
        self, request: enrollment_pb2.SearchErasedRequest, context: Context
    ) -> enrollment_pb2.SearchErasedResponse:
        """Look through this process's memory for what a receipt says is gone."""
        receipt = receipt_of(request.receipt_json)
        search = self._gallery.maintenance.search_erased_in_memory
        try:
            proof = await asyncio.to_thread(search, receipt, caller_of(context).actor)
        except ReceiptError as error:
            raise FieldError(str(error)) from error
        found = [enrollment_pb2.ErasureTrace(place=place, windows=count) for place, count in proof.found.items()]
        return enrollment_pb2.SearchErasedResponse(searched=proof.searched, found=found)

    def _page(self, after: str, size: int, partition: str) -> tuple[list[SubjectRecord], int]:
        """One more than asked for, so that the last page is known as such, and the revision before the look."""
        revision = self._gallery.revision
        return self._gallery.list_subjects(after, size + 1, partition), revision
