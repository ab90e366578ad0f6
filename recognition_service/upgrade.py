"""Moving a gallery to another template space without losing anybody: an accepted capture becomes a template there.

What is written down lasts, so it takes more than the decision did: a stranger whom chance let in once must not be let
in from then on.  The decision was taken in the present space alone, at a lower false match rate (`at_most_fmr`), on a
capture good enough for an enrolment, that resembles nobody else in the new space.
"""

import asyncio
import logging
from dataclasses import dataclass

from duetface.codec import ReceivedProbe
from duetface.errors import ConfigError, DuetFaceError
from duetface.types import LivenessLevel, Outcome
from gallery.gallery import Gallery
from gallery.records import Upgrade
from recognition_service.access import Caller
from recognition_service.batcher import Embedding
from recognition_service.config import LivenessPolicy
from recognition_service.decision import Verdict
from recognition_service.network import Thresholds
from recognition_service.spaces import ServedSpace, Spaces

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class UpgradePolicy:
    """What a capture must fulfil to be taken along.

    at_most_fmr: the rate at which a stranger's capture may get this far; over all comparisons of a search together.
    min_quality: as for an enrolment.  thresholds: the present space's calibration.
    """

    at_most_fmr: float
    min_quality: float
    liveness: LivenessPolicy
    thresholds: Thresholds

    def admits(self, verdict: Verdict, compared: int, quality: float, liveness: LivenessLevel) -> bool:
        """compared: templates that the capture was compared with, 1 for a claim.  quality: unified, in [0, 1]."""
        if verdict.outcome is not Outcome.ACCEPT or verdict.cosine_similarity is None or quality < self.min_quality:
            return False
        if self.liveness is not LivenessPolicy.OFF and liveness is not LivenessLevel.PASSED:
            return False
        try:
            return verdict.cosine_similarity >= self.thresholds.threshold_at(self.at_most_fmr / max(compared, 1))
        except ConfigError:
            return False  # so many comparisons that the calibration cannot tell


@dataclass(frozen=True)
class Accepted:
    """A decision that was given, and on whose question.  deadline_s: monotonic seconds."""

    verdict: Verdict
    decision_id: str
    partition: str
    caller: Caller
    deadline_s: float


class Upgrader:
    """Takes accepted captures along; whatever goes wrong, the decision stands as it was given."""

    def __init__(self, spaces: Spaces, gallery: Gallery, policy: UpgradePolicy) -> None:
        """Does nothing where `spaces` has no upcoming one."""
        self._spaces = spaces
        self._gallery = gallery
        self._policy = policy

    async def take_along(self, accepted: Accepted, received: ReceivedProbe) -> None:
        """Make one template in the upcoming space, if the capture may become one and the subject lacks it."""
        upcoming, verdict = self._spaces.upcoming, accepted.verdict
        # Never from a scratch partition, and never on the word of the upcoming space itself.
        if upcoming is None or accepted.partition or verdict.space_digest != self._spaces.current.digest:
            return
        face = received.faces.get(upcoming.split.digest)
        if face is None or not self._admits(verdict, received):
            return
        try:
            if await asyncio.to_thread(self._lacks, verdict.subject_id, upcoming):
                embedding = await upcoming.batcher.submit(face, accepted.deadline_s)
                await asyncio.to_thread(self._add, accepted, received.quality.unified, embedding, upcoming)
        except DuetFaceError as error:
            # An ended consent, a full queue, another replica that was faster: the next accepted capture will do.
            logger.info("not taken along", extra={"decision": accepted.decision_id, "cause": str(error)})

    def _admits(self, verdict: Verdict, received: ReceivedProbe) -> bool:
        is_search = verdict.fpir > 0
        compared = self._gallery.searched("", self._spaces.current.digest) if is_search else 1
        return self._policy.admits(verdict, compared, received.quality.unified, received.liveness)

    def _lacks(self, subject_id: str, upcoming: ServedSpace) -> bool:
        counts = self._gallery.template_counts(subject_id)
        enough = min(self._spaces.captures, counts.get(self._spaces.current.digest, 0))
        return counts.get(upcoming.digest, 0) < enough

    def _add(self, accepted: Accepted, quality: float, embedding: Embedding, upcoming: ServedSpace) -> None:
        subject_id = accepted.verdict.subject_id
        own = self._gallery.verify_similarity(subject_id, embedding, upcoming.digest)
        ranked = self._gallery.identify(embedding, upcoming.digest, 2)
        others = [match.cosine_similarity for match in ranked if match.subject_id != subject_id]
        threshold = upcoming.point.threshold
        if (own is not None and own < threshold) or max(others, default=-1.0) >= threshold:
            cause = "it is unlike the subject's own there, or like another's"
            logger.info("not taken along", extra={"decision": accepted.decision_id, "cause": cause})
            return
        caller = accepted.caller
        self._gallery.add_template(
            subject_id,
            upcoming.digest,
            embedding,
            quality,
            caller.peer.name,
            caller.actor,
            upgrade=Upgrade(self._spaces.current.digest, accepted.decision_id, self._spaces.captures),
        )
