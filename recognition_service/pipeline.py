"""The way of a face on the service's side: decode, batch, embed, search, decide, audit."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum

from duetface.codec import ReceivedProbe, probe_from_bytes
from duetface.errors import OverloadedError
from duetface.identity import Role
from duetface.types import Decision, LivenessLevel, Outcome
from gallery.gallery import Gallery
from gallery.records import Counted, DecisionRecord
from recognition_service.access import Caller
from recognition_service.audit import AuditTrail
from recognition_service.batcher import Embedding
from recognition_service.clocks import Clocks
from recognition_service.decision import (
    LOCKED_OUT,
    STALE,
    CapturePolicy,
    Verdict,
    decide_identification,
    decide_in_both,
    decide_verification,
    judge_capture,
    resting_liveness,
)
from recognition_service.lockout import LockOutPolicy, OneAtATime
from recognition_service.refusals import RevisionError, StaleError
from recognition_service.spaces import ServedSpace, Spaces
from recognition_service.upgrade import Accepted, Upgrader

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


@dataclass(frozen=True, eq=False)
class Embedded:
    """A capture in one space.  embedding: (512,) float32 of unit length."""

    space: ServedSpace
    embedding: Embedding


@dataclass(frozen=True)
class Policy:
    """The realm's rules.  fmr: of one comparison.  valid_for_s: seconds that a decision may be acted upon."""

    fmr: float
    capture: CapturePolicy
    lock_out: LockOutPolicy
    count_searches: bool
    valid_for_s: float


class Recogniser:
    """The stages of a decision, each a method; `recognise` calls them in order."""

    def __init__(
        self,
        spaces: Spaces,
        gallery: Gallery,
        audit: AuditTrail,
        policy: Policy,
        upgrader: Upgrader,
        clocks: Clocks,
    ) -> None:
        """upgrader: takes accepted captures along to the space that the gallery moves to."""
        self.spaces = spaces
        self.splits = spaces.splits
        self.policy = policy
        self._gallery = gallery
        self._audit = audit
        self._upgrader = upgrader
        self._clocks = clocks
        self._device_lock = OneAtATime()
        self._subject_lock = OneAtATime()

    def decode(self, probe: bytes) -> ReceivedProbe:
        """The faces whose splits are served, every length checked.  Raises MessageError or ContractError."""
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

    async def embed(self, received: ReceivedProbe, question: Question) -> Sequence[Embedded]:
        """The capture in the space where the claim is decided, or in each that is searched.

        In batches with the faces of other callers.
        """
        spaces = await self._spaces_of(received, question)
        return [
            Embedded(space, await space.batcher.submit(received.faces[space.split.digest], question.deadline_s))
            for space in spaces
        ]

    async def search_and_decide(self, embedded: Sequence[Embedded], question: Question) -> Verdict:
        """Compare with the claimed subject, or with everybody, at templates new enough."""
        if question.subject_id:
            return await asyncio.to_thread(self._verify, embedded[0], question)
        return await asyncio.to_thread(self._identify, embedded, question)

    def unlooked(self, verdict: Verdict, sequence: int) -> Decision:
        """The answer to a face that nobody looked at: no comparison, so no audit row to name."""
        return Decision(verdict.outcome, verdict.reason, fmr=self.policy.fmr, sequence=sequence)

    async def record(self, verdict: Verdict, received: ReceivedProbe, question: Question) -> Decision:
        """Audit and count a verdict, then tell it: similarity only to an auditor."""
        liveness = resting_liveness(received.liveness, self.policy.capture.liveness)
        decision = self._decision(verdict, liveness, question)
        await self._audit.decision(self._record(verdict, decision, question))
        return decision

    async def take_along(
        self, verdict: Verdict, decision: Decision, received: ReceivedProbe, question: Question
    ) -> Decision:
        """Let an accepted capture become a template of the space that the gallery moves to; the decision stands."""
        await self._upgrader.take_along(
            Accepted(verdict, decision.decision_id, question.partition, question.caller, question.deadline_s), received
        )
        return decision

    async def _spaces_of(self, received: ReceivedProbe, question: Question) -> Sequence[ServedSpace]:
        able = self.spaces.of(received.faces)
        if len(able) == 1 or not question.subject_id:
            return able
        counts = await asyncio.to_thread(self._gallery.template_counts, question.subject_id, question.partition)
        return [self.spaces.of_claim(received.faces, counts)]

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

    def _verify(self, embedded: Embedded, question: Question) -> Verdict:
        space = embedded.space
        similarity = self._gallery.verify_similarity(
            question.subject_id,
            embedded.embedding,
            space.digest,
            partition=question.partition,
            at_least_revision=question.at_least_revision,
        )
        verdict = decide_verification(question.subject_id, similarity, space.point)
        return replace(verdict, space_digest=space.digest)

    def _identify(self, embedded: Sequence[Embedded], question: Question) -> Verdict:
        verdicts = [self._identify_in(one, question) for one in embedded]
        searched = sum(self._gallery.searched(question.partition, one.space.digest) for one in embedded)
        return decide_in_both(verdicts, searched, self.policy.fmr)

    def _identify_in(self, embedded: Embedded, question: Question) -> Verdict:
        space = embedded.space
        ranked = self._gallery.identify(
            embedded.embedding,
            space.digest,
            k=1,
            partition=question.partition,
            at_least_revision=question.at_least_revision,
        )
        searched = self._gallery.searched(question.partition, space.digest)
        return replace(decide_identification(ranked, searched, space.point), space_digest=space.digest)

    def _decision(self, verdict: Verdict, liveness: LivenessLevel, question: Question) -> Decision:
        is_auditor = question.caller.has(Role.AUDITOR)
        return Decision(
            outcome=verdict.outcome,
            reason=verdict.reason,
            subject_id=verdict.subject_id,
            fmr=self.policy.fmr,
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
            space_digest=verdict.space_digest or self.spaces.current.digest,
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
            embedded = await stages.embed(received, question)  # batched with other callers' faces
            verdict = await stages.search_and_decide(embedded, question)
        decision = await stages.record(verdict, received, question)
    return await stages.take_along(verdict, decision, received, question)
