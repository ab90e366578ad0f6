"""A client without manners: sends whatever a test wants, and shows the refusal as it came."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from duetface.codec import probe_to_bytes
from duetface.identity import ClientIdentity, sign_probe
from duetface.types import Probe
from duetface.v1 import audit_pb2_grpc, enrollment_pb2_grpc, face_pb2, verification_pb2, verification_pb2_grpc
from tests.fakes.network import OTHER_SPLIT, TEST_SPLIT

SPLITS = {split.digest: split for split in (TEST_SPLIT, OTHER_SPLIT)}
TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Refused:
    """A refusal: status name, reason without prefix, the delay it asks for."""

    status: str
    reason: str
    retry_after_s: float
    message: str


def refused(call: Callable[[], Any]) -> Refused:
    """Make a call that must be refused."""
    try:
        answer = call()
    except grpc.RpcError as error:
        return refusal_of(error)
    raise AssertionError(f"expected a refusal, got {type(answer).__name__}")


def refusal_of(error: grpc.RpcError) -> Refused:
    """Read a refusal."""
    status = rpc_status.from_call(error)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status.details if status else ():
        detail.Unpack(info)
        detail.Unpack(retry)
    assert not info.domain or info.domain == "duetface"
    return Refused(
        status=error.code().name,
        reason=info.reason.removeprefix("ERROR_REASON_").lower(),
        retry_after_s=retry.retry_delay.ToTimedelta().total_seconds(),
        message=error.details(),
    )


class Caller:
    """Stubs of every service over one connection.  identity: signs; the channel's certificate unless a test swaps."""

    def __init__(self, channel: grpc.Channel, identity: ClientIdentity) -> None:
        """Use `connect`."""
        self.channel = channel
        self.identity = identity
        self.verification = verification_pb2_grpc.VerificationServiceStub(channel)
        self.enrollment = enrollment_pb2_grpc.EnrollmentServiceStub(channel)
        self.audit = audit_pb2_grpc.AuditServiceStub(channel)

    @staticmethod
    def connect(address: str, identity: ClientIdentity) -> "Caller":
        """Over mutual TLS."""
        return Caller(grpc.secure_channel(address, identity.channel_credentials()), identity)

    def __enter__(self) -> "Caller":
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the channel."""
        self.channel.close()

    def nonce(self) -> bytes:
        """A fresh one."""
        request = verification_pb2.GetChallengeRequest()
        return bytes(self.verification.GetChallenge(request, timeout=TIMEOUT_S).nonce)

    def signed(self, probe: Probe | bytes, nonce: bytes | None = None, sequence: int = 0) -> face_pb2.SignedProbe:
        """A signed probe, or signed bytes that may be no probe at all."""
        serialised = probe if isinstance(probe, bytes) else serialise(probe)
        return sign_probe(self.identity, self.nonce() if nonce is None else nonce, sequence, serialised)

    def verify(self, signed: face_pb2.SignedProbe, subject_id: str = "alice") -> verification_pb2.Decision:
        """1:1."""
        request = verification_pb2.VerifyRequest(subject_id=subject_id, signed_probe=signed)
        return self.verification.Verify(request, timeout=TIMEOUT_S).decision

    def identify(self, signed: face_pb2.SignedProbe) -> verification_pb2.Decision:
        """1:N."""
        request = verification_pb2.IdentifyRequest(signed_probe=signed)
        return self.verification.Identify(request, timeout=TIMEOUT_S).decision


def serialise(probe: Probe) -> bytes:
    """The probe's bytes, aged now."""
    return probe_to_bytes(probe, SPLITS, time.monotonic_ns())
