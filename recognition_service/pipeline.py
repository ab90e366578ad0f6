"""The way of a face on the service's side: decode, batch, embed, search, decide, audit."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum

from duetface.codec import ReceivedProbe, probe_from_bytes
from duetface.errors import OverloadedError
from duetface.identity import Role
from duetface.spec import SplitSpec
from duetface.types import Decision, LivenessLevel, Outcome
from gallery.gallery import Gallery
from gallery.records import Counted, DecisionRecord
from recognition_service.access import Caller
from recognition_service.audit import AuditTrail
from recognition_service.batcher import Batcher, Embedding
from recognition_service.clocks import Clocks
from recognition_service.decision import (
    LOCKED_OUT,
    STALE,
    CapturePolicy,
    OperatingPoint,
    Verdict,
    decide_identification,
    decide_verification,
    judge_capture,
    resting_liveness,
)
from recognition_service.lockout import LockOutPolicy, OneAtATime
from recognition_service.refusals import RevisionError, StaleError

# A revision is awaited with growing pauses: one from this very moment is near, the others cost a look at the store.
REVISION_POLL_S = (0.02, 0.2)
REVISIONS_AHEAD = 1_000_000  # more than any gallery commits within a deadline: a client's mistake or mischief


class Operation(StrEnum):
    """What was asked, as the audit names it."""

    VERIFY = "verify"
    IDENTIFY = "identify"
    AUTHENTICATE = "authenticate"


@dataclass(frozen=True)
class Question:
    """What is asked about one capture.

    subject_id: claimed (1:1), or "" to search the gallery (1:N).  purpose: for the audit.
    partition: a scratch partition, "" for the realm's gallery.  sequence: of the probe on its stream.
    at_least_revision: how new the templates must be.  deadline_s: monotonic seconds.
    """

    operation: Operation
    caller: Caller
    deadline_s: float
    subject_id: str = ""
    purpose: str = ""
    partition: str = ""
    at_least_revision: int = 0
    sequence: int = 0

    def of_face(self, sequence: int, deadline_s: float) -> "Question":
        """A stream's question about one of its faces."""
        return replace(self, sequence=sequence, deadline_s=deadline_s)


@dataclass(frozen=True)
class Policy:
    """The realm's rules.  valid_for_s: seconds that a decision may be acted upon."""

    point: OperatingPoint
    capture: CapturePolicy
    lock_out: LockOutPolicy
    count_searches: bool
    valid_for_s: float


class Recogniser:
    """The stages of a decision, each a method; `recognise` calls them in order."""

    def __init__(
        self,
        splits: Mapping[bytes, SplitSpec],
        space_digest: bytes,
        batcher: Batcher,
        gallery: Gallery,
        audit: AuditTrail,
        policy: Policy,
        clocks: Clocks,
    ) -> None:
        """splits: by digest, those whose faces the space's network reads."""
        self.splits = splits
        self.policy = policy
        self._space_digest = space_digest
        self._batcher = batcher
        self._gallery = gallery
        self._audit = audit
        self._clocks = clocks
        self._device_lock = OneAtATime()
        self._subject_lock = OneAtATime()

    def decode(self, probe: bytes) -> ReceivedProbe:
        """The first face that is served, every length checked.  Raises MessageError or ContractError."""
        return probe_from_bytes(probe, self.splits)

    async def reach(self, question: Question) -> None:
        """Wait until the gallery has the question's revision; while it waits it holds nobody else up.

        Raises RevisionError when the deadline comes first, and at once for a revision that cannot come in time.
        """
        wanted, pause_s = question.at_least_revision, REVISION_POLL_S[0]
        while wanted and (missing := wanted - await asyncio.to_thread(lambda: self._gallery.revision)) > 0:
            if missing > REVISIONS_AHEAD or self._clocks.monotonic_s() + pause_s >= question.deadline_s:
                raise RevisionError(f"revision {wanted} is not here yet: try again, or ask where it was written")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, REVISION_POLL_S[1])

    @asynccontextmanager
    async def attempt(self, question: Question) -> AsyncIterator[None]:
        """One counted attempt at a time of one device and on one subject: guesses must not outrun their counters.

        The device comes first, always: so nobody who holds a subject waits for a device, which could end in a
        deadlock, and a device that guesses at many names keeps no more than one of them waiting.
        Raises OverloadedError at the deadline, whatever held the attempt up: no caller waits for ever.
        """
        try:
            async with asyncio.timeout(question.deadline_s - self._clocks.monotonic_s()), AsyncExitStack() as held:
                if self._counts(question):
                    await held.enter_async_context(self._device_lock.hold(question.caller.peer.name))
                if question.subject_id:
                    await held.enter_async_context(self._subject_lock.hold(question.subject_id))
                yield
        except TimeoutError as error:
            raise OverloadedError("no decision within the deadline: try again", retry_after_s=1.0) from error

    async def refuse_unlooked(self, received: ReceivedProbe, question: Question) -> Verdict | None:
        """A verdict without a comparison: locked out, too old, of low quality, or without the liveness asked for."""
        if await self._is_locked_out(question):
            return LOCKED_OUT
        verdict = judge_capture(received.age_us, received.quality, received.liveness, self.policy.capture)
        if verdict is STALE and question.operation is not Operation.AUTHENTICATE:
            # A stream drops the frame and goes on; a single call with an old capture is refused (face.proto).
            raise StaleError(f"the capture is {received.age_us} us old: look again and sign at once")
        return verdict

    async def embed(self, received: ReceivedProbe, question: Question) -> Embedding:
        """(512,) float32 of unit length, in a batch with the faces of other callers."""
        return await self._batcher.submit(received.face, question.deadline_s)

    async def search_and_decide(self, embedding: Embedding, question: Question) -> Verdict:
        """Compare with the claimed subject, or with everybody, at templates new enough."""
        if question.subject_id:
            return await asyncio.to_thread(self._verify, embedding, question)
        return await asyncio.to_thread(self._identify, embedding, question)

    def unlooked(self, verdict: Verdict, sequence: int) -> Decision:
        """The answer to a face that nobody looked at: no comparison, so no audit row to name."""
        return Decision(verdict.outcome, verdict.reason, fmr=self.policy.point.fmr, sequence=sequence)

    async def record(self, verdict: Verdict, received: ReceivedProbe, question: Question) -> Decision:
        """Audit and count a verdict, then tell it: similarity only to an auditor."""
        liveness = resting_liveness(received.liveness, self.policy.capture.liveness)
        decision = self._decision(verdict, liveness, question)
        await self._audit.decision(self._record(verdict, decision, question))
        return decision

    def _counts(self, question: Question) -> bool:
        """Whether a rejection is a failure: of a claim, or of a search if the site says so; never in a partition."""
        return not question.partition and (bool(question.subject_id) or self.policy.count_searches)

    async def _is_locked_out(self, question: Question) -> bool:
        if not self._counts(question):
            return False
        state = await asyncio.to_thread(self._gallery.lock_out_state, question.subject_id, question.caller.peer.name)
        now = self._clocks.now()
        return any(
            self.policy.lock_out.locked(count.failures, count.last_failure_at, now)
            for count in (state.subject, state.device)
        )

    def _verify(self, embedding: Embedding, question: Question) -> Verdict:
        similarity = self._gallery.verify_similarity(
            question.subject_id,
            embedding,
            self._space_digest,
            partition=question.partition,
            at_least_revision=question.at_least_revision,
        )
        return decide_verification(question.subject_id, similarity, self.policy.point)

    def _identify(self, embedding: Embedding, question: Question) -> Verdict:
        ranked = self._gallery.identify(
            embedding,
            self._space_digest,
            k=1,
            partition=question.partition,
            at_least_revision=question.at_least_revision,
        )
        searched = self._gallery.searched(question.partition, self._space_digest)
        return decide_identification(ranked, searched, self.policy.point)

    def _decision(self, verdict: Verdict, liveness: LivenessLevel, question: Question) -> Decision:
        is_auditor = question.caller.has(Role.AUDITOR)
        return Decision(
            outcome=verdict.outcome,
            reason=verdict.reason,
            subject_id=verdict.subject_id,
            fmr=self.policy.point.fmr,
            fpir=verdict.fpir,
            liveness=liveness,
            sequence=question.sequence,
            decision_id=str(uuid.uuid4()),
            expires_in_s=self.policy.valid_for_s,
            cosine_similarity=verdict.cosine_similarity if is_auditor else None,
            nearest_subject_id=verdict.nearest_subject_id if is_auditor else "",
        )

    def _record(self, verdict: Verdict, decision: Decision, question: Question) -> DecisionRecord:
        return DecisionRecord(
            actor=question.caller.actor,
            device=question.caller.peer.name,
            operation=question.operation.value,
            outcome=decision.outcome.value,
            reason=decision.reason,
            subject_id=question.subject_id or decision.subject_id,
            space_digest=self._space_digest,
            fmr=decision.fmr,
            liveness=decision.liveness.value,
            decision_id=decision.decision_id,
            partition=question.partition,
            counted=self._counted(verdict, question),
            details={"purpose": question.purpose, "fpir": decision.fpir, "sequence": question.sequence},
        )

    def _counted(self, verdict: Verdict, question: Question) -> Counted:
        compared = verdict.reason in ("match", "no_match")
        if not compared or not self._counts(question):
            return Counted.NOT
        return Counted.SUCCESS if verdict.outcome is Outcome.ACCEPT else Counted.FAILURE


async def recognise(stages: Recogniser, probe: bytes, question: Question) -> Decision:
    """Decide on one vouched probe.  Raises a DuetFaceError of the refusals table."""
    received = stages.decode(probe)
    await stages.reach(question)
    async with stages.attempt(question):
        verdict = await stages.refuse_unlooked(received, question)
        if verdict is None:
            embedding = await stages.embed(received, question)  # batched with other callers' faces
            verdict = await stages.search_and_decide(embedding, question)
        return await stages.record(verdict, received, question)
