"""How a capture becomes a template: the rules before it, the comparison with what is there, the warnings."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from duetface.codec import ReceivedProbe
from duetface.errors import TemplateLimitError
from gallery.gallery import Gallery
from gallery.records import AddedTemplate, SubjectRecord
from recognition_service.access import Caller
from recognition_service.config import Enrolment
from recognition_service.pipeline import Embedded, Recogniser
from recognition_service.refusals import QualityError, StaleError


class Caution(StrEnum):
    """What an operator should look at; the names of EnrollmentWarning in lower case."""

    FAR_FROM_OWN = "far_from_own"
    CLOSE_TO_OTHER = "close_to_other"
    LOW_QUALITY = "low_quality"


@dataclass(frozen=True)
class Enrolled:
    """What was committed: a template in each space that the capture had a face for, and what to look at.

    templates: the current space's first, at least one.
    """

    templates: tuple[AddedTemplate, ...]
    warnings: tuple[Caution, ...]


class Enroller:
    """The stages of an enrolment, each a method; `enrol` calls them in order."""

    def __init__(self, recogniser: Recogniser, gallery: Gallery, policy: Enrolment) -> None:
        """recogniser: knows the spaces and their networks."""
        self.recogniser = recogniser
        self._gallery = gallery
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

    async def embed(self, received: ReceivedProbe, deadline_s: float) -> list[Embedded]:
        """The capture in each space that is served: whoever enrols while a gallery moves is there already."""
        return [
            Embedded(space, await space.batcher.submit(received.faces[space.split.digest], deadline_s))
            for space in self.recogniser.spaces.of(received.faces)
        ]

    async def add(
        self, subject: SubjectRecord, received: ReceivedProbe, embedded: Sequence[Embedded], caller: Caller
    ) -> Enrolled:
        """Compare with what is there, then store; SQL and search run in a thread.

        Raises TemplateLimitError: only the gallery's own transaction can count what comes at the same time.
        """
        return await asyncio.to_thread(self._add, subject, received, embedded, caller)

    def _add(
        self, subject: SubjectRecord, received: ReceivedProbe, embedded: Sequence[Embedded], caller: Caller
    ) -> Enrolled:
        warnings = {warning for one in embedded for warning in self._warnings(subject, received, one)}
        templates = [self._store(subject, received.quality.unified, embedded[0], caller)]
        for one in embedded[1:]:
            # The subject may have come to the upcoming space's limit by itself: then it needs nothing there.
            with suppress(TemplateLimitError):
                templates.append(self._store(subject, received.quality.unified, one, caller))
        if not subject.partition and self._gallery.lock_out_state(subject.subject_id, "").subject.failures:
            # An operator has just looked at the person: that is the way out of a lock-out.
            self._gallery.unlock(caller.actor, subject_id=subject.subject_id)
        return Enrolled(tuple(templates), tuple(caution for caution in Caution if caution in warnings))

    def _store(self, subject: SubjectRecord, quality: float, embedded: Embedded, caller: Caller) -> AddedTemplate:
        return self._gallery.add_template(
            subject.subject_id,
            embedded.space.digest,
            embedded.embedding,
            quality,
            caller.peer.name,
            caller.actor,
            partition=subject.partition,
        )

    def _warnings(self, subject: SubjectRecord, received: ReceivedProbe, embedded: Embedded) -> set[Caution]:
        threshold, digest = embedded.space.point.threshold, embedded.space.digest
        own = self._gallery.verify_similarity(
            subject.subject_id, embedded.embedding, digest, partition=subject.partition
        )
        ranked = self._gallery.identify(embedded.embedding, digest, 2, partition=subject.partition)
        others = [match.cosine_similarity for match in ranked if match.subject_id != subject.subject_id]
        found = {
            Caution.FAR_FROM_OWN: own is not None and own < threshold,
            Caution.CLOSE_TO_OTHER: max(others, default=-1.0) >= threshold,
            Caution.LOW_QUALITY: received.quality.unified < self._policy.warn_quality,
        }
        return {warning for warning, is_found in found.items() if is_found}


async def enrol(
    stages: Enroller, probe: bytes, subject_id: str, partition: str, caller: Caller, deadline_s: float
) -> Enrolled:
    """Make templates of one vouched probe.  Raises a DuetFaceError of the refusals table."""
    subject = await stages.require_subject(subject_id, partition)
    received = stages.recogniser.decode(probe)
    stages.require_quality(received)
    embedded = await stages.embed(received, deadline_s)
    return await stages.add(subject, received, embedded, caller)
