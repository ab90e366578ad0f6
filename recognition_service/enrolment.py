"""How a capture becomes a template: the rules before it, the comparison with what is there, the warnings."""

import asyncio
from dataclasses import dataclass
from enum import StrEnum

from duetface.codec import ReceivedProbe
from gallery.gallery import Gallery
from gallery.records import AddedTemplate, SubjectRecord
from recognition_service.access import Caller
from recognition_service.batcher import Embedding
from recognition_service.config import Enrolment
from recognition_service.pipeline import Operation, Question, Recogniser
from recognition_service.refusals import QualityError, StaleError


class Caution(StrEnum):
    """What an operator should look at; the names of EnrollmentWarning in lower case."""

    FAR_FROM_OWN = "far_from_own"
    CLOSE_TO_OTHER = "close_to_other"
    LOW_QUALITY = "low_quality"


@dataclass(frozen=True)
class Enrolled:
    """A committed template and what an operator should look at."""

    template: AddedTemplate
    warnings: tuple[Caution, ...]


class Enroller:
    """The stages of an enrolment, each a method; `enrol` calls them in order."""

    def __init__(self, recogniser: Recogniser, gallery: Gallery, space_digest: bytes, policy: Enrolment) -> None:
        """space_digest: of the templates made."""
        self.recogniser = recogniser
        self._gallery = gallery
        self._space_digest = space_digest
        self._policy = policy

    async def require_subject(self, subject_id: str, partition: str) -> SubjectRecord:
        """The subject, before its capture costs anything.  Raises NotFoundError."""
        return await asyncio.to_thread(self._gallery.subject, subject_id, partition)

    def require_quality(self, received: ReceivedProbe) -> None:
        """Raises StaleError or QualityError."""
        if received.age_us > self.recogniser.policy.capture.max_age_us:
            raise StaleError(f"the capture is {received.age_us} us old: look again and sign at once")
        if received.quality.unified < self._policy.min_quality:
            raise QualityError(
                f"the capture's quality is {received.quality.unified:.2f}, expected {self._policy.min_quality:.2f} "
                "or more: take another picture"
            )

    async def add(
        self, subject: SubjectRecord, received: ReceivedProbe, embedding: Embedding, caller: Caller
    ) -> Enrolled:
        """Compare with what is there, then store; SQL and search run in a thread.

        Raises TemplateLimitError: only the gallery's own transaction can count what comes at the same time.
        """
        return await asyncio.to_thread(self._add, subject, received, embedding, caller)

    def _add(self, subject: SubjectRecord, received: ReceivedProbe, embedding: Embedding, caller: Caller) -> Enrolled:
        warnings = self._warnings(subject, received, embedding)
        template = self._gallery.add_template(
            subject.subject_id,
            self._space_digest,
            embedding,
            received.quality.unified,
            caller.peer.name,
            caller.actor,
            partition=subject.partition,
        )
        if not subject.partition and self._gallery.lock_out_state(subject.subject_id, "").subject.failures:
            # An operator has just looked at the person: that is the way out of a lock-out.
            self._gallery.unlock(caller.actor, subject_id=subject.subject_id)
        return Enrolled(template, warnings)

    def _warnings(self, subject: SubjectRecord, received: ReceivedProbe, embedding: Embedding) -> tuple[Caution, ...]:
        threshold = self.recogniser.policy.point.threshold
        own = self._gallery.verify_similarity(
            subject.subject_id, embedding, self._space_digest, partition=subject.partition
        )
        ranked = self._gallery.identify(embedding, self._space_digest, 2, partition=subject.partition)
        others = [match.cosine_similarity for match in ranked if match.subject_id != subject.subject_id]
        found = {
            Caution.FAR_FROM_OWN: own is not None and own < threshold,
            Caution.CLOSE_TO_OTHER: max(others, default=-1.0) >= threshold,
            Caution.LOW_QUALITY: received.quality.unified < self._policy.warn_quality,
        }
        return tuple(warning for warning, is_found in found.items() if is_found)


async def enrol(
    stages: Enroller, probe: bytes, subject_id: str, partition: str, caller: Caller, deadline_s: float
) -> Enrolled:
    """Make a template of one vouched probe.  Raises a DuetFaceError of the refusals table."""
    subject = await stages.require_subject(subject_id, partition)
    received = stages.recogniser.decode(probe)
    stages.require_quality(received)
    question = Question(Operation.VERIFY, caller, deadline_s, subject_id=subject_id, partition=partition)
    embedding = await stages.recogniser.embed(received, question)
    return await stages.add(subject, received, embedding, caller)
