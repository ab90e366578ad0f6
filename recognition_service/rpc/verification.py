"""VerificationService: nonces, what is served, and decisions on single captures.  Streams are in streaming.py."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from json import dumps

from duetface.codec import decision_to_message
from duetface.identity import Role
from duetface.types import Decision
from duetface.v1 import face_pb2, verification_pb2, verification_pb2_grpc
from recognition_service.clocks import Clocks
from recognition_service.config import LivenessPolicy
from recognition_service.pipeline import Operation, Question, Recogniser, recognise
from recognition_service.refusals import RoleError
from recognition_service.rpc.context import Context, caller_of, deadline_of
from recognition_service.rpc.fields import number_of, partition_of, purpose_of, subject_id_of
from recognition_service.rpc.streaming import Streams
from recognition_service.rpc.vouching import vouched_once
from recognition_service.session import NonceBook

_REQUIRED_LIVENESS = {
    LivenessPolicy.OFF: face_pb2.LIVENESS_LEVEL_OFF,
    LivenessPolicy.ADVISORY: face_pb2.LIVENESS_LEVEL_ADVISORY,
    LivenessPolicy.REQUIRED: face_pb2.LIVENESS_LEVEL_PASSED,
}


@dataclass(frozen=True)
class Served:
    """What GetServiceInfo tells beside splits, spaces and operating point."""

    realm: str
    version: str
    liveness: LivenessPolicy


class VerificationServicer(verification_pb2_grpc.VerificationServiceServicer):
    """Checks a request, asks the pipeline, writes the answer."""

    def __init__(
        self,
        recogniser: Recogniser,
        nonces: NonceBook,
        nonce_lifetime_s: float,
        streams: Streams,
        served: Served,
        longest_s: float,
        clocks: Clocks,
    ) -> None:
        """longest_s: the deadline of a call that brings none, or a longer one."""
        self._recogniser = recogniser
        self._nonces = nonces
        self._nonce_lifetime_s = nonce_lifetime_s
        self._streams = streams
        self._served = served
        self._longest_s = longest_s
        self._clocks = clocks

    async def GetChallenge(
        self, request: verification_pb2.GetChallengeRequest, context: Context
    ) -> verification_pb2.GetChallengeResponse:
        """Hand out one nonce for one probe."""
        fingerprint = caller_of(context).peer.fingerprint
        answer = verification_pb2.GetChallengeResponse(
            nonce=self._nonces.issue(fingerprint, self._clocks.monotonic_s())
        )
        answer.valid_for.FromMilliseconds(round(self._nonce_lifetime_s * 1000))
        return answer

    async def GetServiceInfo(
        self, request: verification_pb2.GetServiceInfoRequest, context: Context
    ) -> verification_pb2.GetServiceInfoResponse:
        """Tell splits, space and operating point."""
        spaces = self._recogniser.spaces
        answer = verification_pb2.GetServiceInfoResponse(
            realm=self._served.realm,
            space_digest=spaces.current.digest,
            upcoming_space_digest=b"" if spaces.upcoming is None else spaces.upcoming.digest,
            fmr=self._recogniser.policy.fmr,
            version=self._served.version,
            required_liveness=_REQUIRED_LIVENESS[self._served.liveness],
        )
        for digest, split in self._recogniser.splits.items():
            # As SplitSpec.digest hashes it, so that a client can check the digest over these very bytes.
            manifest = dumps(split.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
            answer.splits.add(name=split.name, digest=digest, manifest_json=manifest.encode())
        answer.now.FromDatetime(self._clocks.now())
        return answer

    async def Verify(
        self, request: verification_pb2.VerifyRequest, context: Context
    ) -> verification_pb2.VerifyResponse:
        """1:1."""
        question = Question(
            operation=Operation.VERIFY,
            caller=caller_of(context),
            deadline_s=deadline_of(context, self._longest_s, self._clocks),
            subject_id=subject_id_of(request.subject_id),
            purpose=purpose_of(request.purpose),
            at_least_revision=number_of("at_least_revision", request.at_least_revision),
        )
        decision = await self._decide(request.signed_probe, question)
        return verification_pb2.VerifyResponse(decision=decision_to_message(decision))

    async def Identify(
        self, request: verification_pb2.IdentifyRequest, context: Context
    ) -> verification_pb2.IdentifyResponse:
        """1:N, open-set."""
        caller = caller_of(context)
        if request.partition and not caller.has(Role.OPERATOR, Role.AUDITOR):
            raise RoleError("a search in a scratch partition is for operator and auditor in one certificate")
        question = Question(
            operation=Operation.IDENTIFY,
            caller=caller,
            deadline_s=deadline_of(context, self._longest_s, self._clocks),
            purpose=purpose_of(request.purpose),
            partition=partition_of(request.partition),
            at_least_revision=number_of("at_least_revision", request.at_least_revision),
        )
        decision = await self._decide(request.signed_probe, question)
        return verification_pb2.IdentifyResponse(decision=decision_to_message(decision))

    async def Authenticate(
        self, request_iterator: AsyncIterator[verification_pb2.AuthenticateRequest], context: Context
    ) -> AsyncIterator[verification_pb2.AuthenticateResponse]:
        """A stream of captures."""
        async for answer in self._streams.serve(request_iterator, caller_of(context)):
            yield answer

    async def _decide(self, signed: face_pb2.SignedProbe, question: Question) -> Decision:
        probe = vouched_once(signed, question.caller, self._nonces, self._clocks.monotonic_s())
        return await recognise(self._recogniser, probe, question)
