"""The client SDK: ask a recognition service from any program.

    identity = ClientIdentity.load(Path("clients/door-1"))
    with Client.connect("127.0.0.1:50061", identity) as client:
        decision = client.verify("alice", probe)

A `Client` blocks and is thread-safe.  Every call has a deadline.  For a stream of faces see edge_agent.stream.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from duetface.answers import (
    AddedTemplate,
    AuditRecord,
    Consent,
    RecordedConsent,
    ServiceInfo,
    Subject,
    Template,
    Unlocked,
)
from duetface.codec import by_digest, decision_from_message, probe_to_bytes
from duetface.errors import ContractError, ServiceError
from duetface.identity import ClientIdentity, sign_probe
from duetface.spec import SplitSpec
from duetface.types import Decision, Probe
from duetface.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    face_pb2,
    verification_pb2,
    verification_pb2_grpc,
)

__all__ = [
    "AddedTemplate",
    "AuditRecord",
    "Client",
    "Consent",
    "RecordedConsent",
    "ServiceInfo",
    "Subject",
    "Template",
    "Unlocked",
    "error_reason",
    "service_error",
    "service_errors",
]

MESSAGE_LIMIT = 4 * 1024 * 1024
CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.enable_retries", 0),  # a probe's nonce is spent by the first try
)


class Client:
    """A connection to one recognition service."""

    def __init__(self, channel: grpc.Channel, address: str, identity: ClientIdentity, timeout_s: float) -> None:
        """Use `connect`; this takes a channel that is already made."""
        self._channel = channel
        self._address = address
        self._identity = identity
        self._timeout_s = timeout_s
        self._verification = verification_pb2_grpc.VerificationServiceStub(channel)
        self._enrollment = enrollment_pb2_grpc.EnrollmentServiceStub(channel)
        self._audit = audit_pb2_grpc.AuditServiceStub(channel)
        self._health = health_pb2_grpc.HealthStub(channel)
        self._splits: dict[bytes, SplitSpec] | None = None

    @staticmethod
    def connect(address: str, identity: ClientIdentity, timeout_s: float = 10.0) -> "Client":
        """Open a channel over mutual TLS; the first call makes the connection.

        address: HOST:PORT.  timeout_s: deadline of each call, seconds.
        """
        channel = grpc.secure_channel(address, identity.channel_credentials(), options=CHANNEL_OPTIONS)
        return Client(channel, address, identity, timeout_s)

    def __enter__(self) -> "Client":
        """The client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the channel."""
        self.close()

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def healthy(self) -> bool:
        """Whether the service says that it serves."""
        answer = self._call(self._health.Check, health_pb2.HealthCheckRequest())
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def info(self) -> ServiceInfo:
        """What the service serves.

        Raises ContractError if a manifest does not have the digest that it is served under.
        """
        answer = self._call(self._verification.GetServiceInfo, verification_pb2.GetServiceInfoRequest())
        splits = tuple(_served_split(served) for served in answer.splits)
        self._splits = by_digest(splits)
        service_now = answer.now.ToDatetime(tzinfo=UTC)
        return ServiceInfo(
            realm=answer.realm,
            splits=splits,
            space_digest=answer.space_digest,
            fmr=answer.fmr,
            version=answer.version,
            clock_offset_s=(service_now - datetime.now(UTC)).total_seconds(),
            upcoming_space_digest=answer.upcoming_space_digest,
        )

    def verify(self, subject_id: str, probe: Probe, purpose: str = "", at_least_revision: int = 0) -> Decision:
        """Compare one capture with one subject (1:1)."""
        request = verification_pb2.VerifyRequest(
            subject_id=subject_id,
            signed_probe=self.sign(probe),
            purpose=purpose,
            at_least_revision=at_least_revision,
        )
        return decision_from_message(self._call(self._verification.Verify, request).decision)

    def identify(self, probe: Probe, purpose: str = "", at_least_revision: int = 0, partition: str = "") -> Decision:
        """Search one capture in the gallery (1:N, open-set)."""
        request = verification_pb2.IdentifyRequest(
            signed_probe=self.sign(probe),
            purpose=purpose,
            at_least_revision=at_least_revision,
            partition=partition,
        )
        return decision_from_message(self._call(self._verification.Identify, request).decision)

    def sign(self, probe: Probe) -> face_pb2.SignedProbe:
        """Ask for a nonce and vouch for the probe with this client's key.

        Raises ContractError if the service serves no split of the probe.
        """
        splits = self._splits if self._splits is not None else by_digest(self.info().splits)
        challenge = self._call(self._verification.GetChallenge, verification_pb2.GetChallengeRequest())
        serialised = probe_to_bytes(probe, splits, time.monotonic_ns())
        return sign_probe(self._identity, challenge.nonce, 0, serialised)

    def create_subject(self, subject_id: str, label: str, consent: Consent, partition: str = "") -> int:
        """Add a subject with a consent; returns the revision."""
        request = enrollment_pb2.CreateSubjectRequest(
            subject_id=subject_id, label=label, consent=_consent_to_message(consent), partition=partition
        )
        return int(self._call(self._enrollment.CreateSubject, request).revision)

    def subject(self, subject_id: str, partition: str = "") -> Subject:
        """One subject; ServiceError (NOT_FOUND) for an unknown one."""
        request = enrollment_pb2.GetSubjectRequest(subject_id=subject_id, partition=partition)
        return _subject_from_message(self._call(self._enrollment.GetSubject, request).subject)

    def subjects(self, partition: str = "", page_size: int = 100) -> Iterator[Subject]:
        """Every subject by id, page by page."""
        token = ""
        while True:
            request = enrollment_pb2.ListSubjectsRequest(page_size=page_size, page_token=token, partition=partition)
            page = self._call(self._enrollment.ListSubjects, request)
            yield from map(_subject_from_message, page.subjects)
            token = page.next_page_token
            if not token:
                return

    def add_consent(self, subject_id: str, consent: Consent, partition: str = "") -> int:
        """Record a further consent; returns the revision."""
        request = enrollment_pb2.AddConsentRequest(
            subject_id=subject_id, consent=_consent_to_message(consent), partition=partition
        )
        return int(self._call(self._enrollment.AddConsent, request).revision)

    def renew_consent(self, subject_id: str, expires_at: datetime | None, partition: str = "") -> int:
        """Give the consent that holds another end, None for none; returns the revision."""
        request = enrollment_pb2.RenewConsentRequest(subject_id=subject_id, partition=partition)
        if expires_at is not None:
            request.expires_at.FromDatetime(expires_at)
        return int(self._call(self._enrollment.RenewConsent, request).revision)

    def withdraw_consents(self, subject_id: str, partition: str = "") -> int:
        """End every consent of a subject now; returns the revision."""
        request = enrollment_pb2.WithdrawConsentsRequest(subject_id=subject_id, partition=partition)
        return int(self._call(self._enrollment.WithdrawConsents, request).revision)

    def consents(self, subject_id: str, partition: str = "") -> list[RecordedConsent]:
        """Every consent of a subject, oldest first."""
        request = enrollment_pb2.ListConsentsRequest(subject_id=subject_id, partition=partition)
        return [
            RecordedConsent(
                _consent_from_message(record.consent),
                record.withdrawn_at.ToDatetime(tzinfo=UTC) if record.HasField("withdrawn_at") else None,
            )
            for record in self._call(self._enrollment.ListConsents, request).consents
        ]

    def unlock(self, subject_id: str = "", device: str = "") -> Unlocked:
        """Set the failure counters of a subject, a device or both to zero."""
        request = enrollment_pb2.UnlockRequest(subject_id=subject_id, device=device)
        answer = self._call(self._enrollment.Unlock, request)
        return Unlocked(answer.subject_failures, answer.device_failures)

    def delete_subject(self, subject_id: str, partition: str = "") -> int:
        """Remove a subject with all that is held; returns the revision."""
        request = enrollment_pb2.DeleteSubjectRequest(subject_id=subject_id, partition=partition)
        return int(self._call(self._enrollment.DeleteSubject, request).revision)

    def add_template(self, subject_id: str, probe: Probe, partition: str = "") -> AddedTemplate:
        """Enrol one capture."""
        request = enrollment_pb2.AddTemplateRequest(
            subject_id=subject_id, signed_probe=self.sign(probe), partition=partition
        )
        answer = self._call(self._enrollment.AddTemplate, request)
        names = [enrollment_pb2.EnrollmentWarning.Name(warning) for warning in answer.warnings]
        return AddedTemplate(
            template_id=answer.template_id,
            revision=answer.revision,
            warnings=tuple(name.removeprefix("ENROLLMENT_WARNING_").lower() for name in names),
            further_template_ids=tuple(answer.further_template_ids),
        )

    def templates(self, subject_id: str, partition: str = "", page_size: int = 100) -> Iterator[Template]:
        """A subject's templates, without their values."""
        token = ""
        while True:
            request = enrollment_pb2.ListTemplatesRequest(
                subject_id=subject_id, partition=partition, page_size=page_size, page_token=token
            )
            page = self._call(self._enrollment.ListTemplates, request)
            yield from map(_template_from_message, page.templates)
            token = page.next_page_token
            if not token:
                return

    def delete_template(self, template_id: str, partition: str = "") -> int:
        """Remove one template; returns the revision."""
        request = enrollment_pb2.DeleteTemplateRequest(template_id=template_id, partition=partition)
        return int(self._call(self._enrollment.DeleteTemplate, request).revision)

    def drop_partition(self, partition: str) -> int:
        """Remove a scratch partition; returns the revision."""
        request = enrollment_pb2.DropPartitionRequest(partition=partition)
        return int(self._call(self._enrollment.DropPartition, request).revision)

    def search_erased(self, receipt_json: str, timeout_s: float = 600.0) -> tuple[list[str], dict[str, int]]:
        """Have the service search its memory for what a receipt says is gone: names searched, traces by name."""
        request = enrollment_pb2.SearchErasedRequest(receipt_json=receipt_json)
        answer = self._call(self._enrollment.SearchErased, request, timeout_s)
        return list(answer.searched), {trace.place: trace.windows for trace in answer.found}

    def audit(self, after_id: int = 0, limit: int = 100, *, newest: bool = False) -> list[AuditRecord]:
        """Audit records in order; newest: the last `limit` ones."""
        request = audit_pb2.ListAuditRecordsRequest(after_id=after_id, page_size=limit, newest=newest)
        return [_record_from_message(record) for record in self._call(self._audit.ListAuditRecords, request).records]

    def _call(self, method: Callable[..., Any], request: Any, timeout_s: float | None = None) -> Any:
        try:
            with service_errors(self._address):
                return method(request, timeout=timeout_s or self._timeout_s)
        except ServiceError as error:
            if error.reason == "unknown_split":
                self._splits = None  # the service has moved on: ask anew before the next probe
            raise


@contextmanager
def service_errors(address: str) -> Iterator[None]:
    """Turn a gRPC error into a ServiceError of one clear line; `address` is the one tried."""
    try:
        yield
    except grpc.RpcError as error:
        raise service_error(error, address) from error


def service_error(error: grpc.RpcError, address: str) -> ServiceError:
    """The ServiceError of a failed call: status, machine-readable reason, and a line for a person."""
    status = error.code().name
    reason = error_reason(error)
    if reason:
        return ServiceError(f"{address} refused: {error.details()}", status=status, reason=reason)
    if status in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
        line = f"no service answers at {address}: is `duetface serve` running there, and is this its realm?"
        return ServiceError(line, status=status)
    return ServiceError(f"{address} refused with {status}: {error.details()}", status=status)


def error_reason(error: grpc.RpcError) -> str:
    """The ErrorReason of a refusal without its prefix, in lower case; empty if there is none."""
    status = rpc_status.from_call(error) if isinstance(error, grpc.Call) else None
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == "duetface":
            return str(info.reason).removeprefix("ERROR_REASON_").lower()
    return ""


def _served_split(served: verification_pb2.ServedSplit) -> SplitSpec:
    try:
        split = SplitSpec.from_dict(json.loads(served.manifest_json))
    except ValueError as error:
        raise ContractError(f"the service's manifest of split {served.name} is not JSON: update one end") from error
    if split.digest != served.digest:
        raise ContractError(f"the service's manifest of split {served.name} has another digest than it says")
    return split


def _consent_to_message(consent: Consent) -> enrollment_pb2.Consent:
    message = enrollment_pb2.Consent(purpose=consent.purpose, text_version=consent.text_version)
    message.given_at.FromDatetime(consent.given_at)
    if consent.expires_at is not None:
        message.expires_at.FromDatetime(consent.expires_at)
    return message


def _consent_from_message(message: enrollment_pb2.Consent) -> Consent:
    expires_at = message.expires_at.ToDatetime(tzinfo=UTC) if message.HasField("expires_at") else None
    return Consent(message.purpose, message.text_version, message.given_at.ToDatetime(tzinfo=UTC), expires_at)


def _subject_from_message(message: enrollment_pb2.Subject) -> Subject:
    return Subject(
        subject_id=message.subject_id,
        label=message.label,
        consent=_consent_from_message(message.consent),
        template_count=message.template_count,
        created_at=message.created_at.ToDatetime(tzinfo=UTC),
    )


def _template_from_message(message: enrollment_pb2.Template) -> Template:
    return Template(
        template_id=message.template_id,
        subject_id=message.subject_id,
        space_digest=message.space_digest,
        quality=message.quality,
        device=message.device,
        created_at=message.created_at.ToDatetime(tzinfo=UTC),
    )


def _record_from_message(message: audit_pb2.AuditRecord) -> AuditRecord:
    return AuditRecord(
        record_id=message.id,
        recorded_at=message.recorded_at.ToDatetime(tzinfo=UTC),
        event=message.event,
        actor=message.actor,
        subject_id=message.subject_id,
        outcome=message.outcome,
        reason=message.reason,
        revision=message.revision,
        detail=json.loads(message.detail_json or "{}"),
        actor_fingerprint=message.actor_fingerprint,
    )
