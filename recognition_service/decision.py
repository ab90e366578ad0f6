"""From similarities to a decision: pure functions, no I/O, no clock.

The threshold comes from the template space's calibration at the realm's FMR, so a decision says at which
false match rate it was taken and, for a search, which FPIR the present gallery size makes of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from duetface.types import LivenessLevel, Outcome, Quality
from gallery.records import SubjectMatch
from recognition_service.config import LivenessPolicy


@dataclass(frozen=True)
class OperatingPoint:
    """The FMR that was asked for and the cosine similarity in [-1, 1] that the calibration gives it."""

    fmr: float
    threshold: float


@dataclass(frozen=True)
class CapturePolicy:
    """What a capture must fulfil before it is compared.

    min_quality: unified quality in [0, 1].  max_age_us: microseconds from capture to signing.
    """

    min_quality: float
    max_age_us: int
    liveness: LivenessPolicy


@dataclass(frozen=True)
class Verdict:
    """What a comparison came to, with the figures that only an auditor may see.

    reason: the name of a DecisionReason in lower case.
    subject_id: who is accepted, "" else.  nearest_subject_id: the best subject of a search, whatever the outcome.
    cosine_similarity: of the best template, None where nothing was compared.
    fpir: of a search, at the gallery's size; 0 for a verification.
    space_digest: of the template space that it was taken in; empty where nothing was compared.
    """

    outcome: Outcome
    reason: str
    subject_id: str = ""
    fpir: float = 0.0
    cosine_similarity: float | None = None
    nearest_subject_id: str = ""
    space_digest: bytes = b""


LOCKED_OUT = Verdict(Outcome.REJECT, "locked_out")
SUPERSEDED = Verdict(Outcome.RETRY, "superseded")
OVERLOADED = Verdict(Outcome.RETRY, "overloaded")
STALE = Verdict(Outcome.RETRY, "stale")
LOW_QUALITY = Verdict(Outcome.RETRY, "low_quality")
LIVENESS_REQUIRED = Verdict(Outcome.RETRY, "liveness_required")


def judge_capture(age_us: int, quality: Quality, liveness: LivenessLevel, policy: CapturePolicy) -> Verdict | None:
    """A retry if the capture must not be compared, else None."""
    if age_us > policy.max_age_us:
        return STALE
    if quality.unified < policy.min_quality:
        return LOW_QUALITY
    if policy.liveness is LivenessPolicy.REQUIRED and liveness is not LivenessLevel.PASSED:
        return LIVENESS_REQUIRED
    return None


def resting_liveness(claimed: LivenessLevel, policy: LivenessPolicy) -> LivenessLevel:
    """The liveness that a decision may say it rests on: never more than the policy made of the device's claim."""
    if policy is LivenessPolicy.OFF or claimed is LivenessLevel.OFF:
        return LivenessLevel.OFF
    return claimed if policy is LivenessPolicy.REQUIRED else LivenessLevel.ADVISORY


def decide_verification(subject_id: str, cosine_similarity: float | None, point: OperatingPoint) -> Verdict:
    """1:1.  cosine_similarity: of the subject's best template; None for an unknown subject, a rejection like any."""
    matches = cosine_similarity is not None and cosine_similarity >= point.threshold
    return Verdict(
        outcome=Outcome.ACCEPT if matches else Outcome.REJECT,
        reason="match" if matches else "no_match",
        subject_id=subject_id if matches else "",
        cosine_similarity=cosine_similarity,
    )


def decide_identification(ranked: Sequence[SubjectMatch], gallery_size: int, point: OperatingPoint) -> Verdict:
    """1:N, open-set: the best subject if above the threshold, else nobody.

    ranked: best first, may be empty.  gallery_size: templates searched.
    """
    best = ranked[0] if ranked else None
    matches = best is not None and best.cosine_similarity >= point.threshold
    return Verdict(
        outcome=Outcome.ACCEPT if matches else Outcome.REJECT,
        reason="match" if matches else "no_match",
        subject_id=best.subject_id if best and matches else "",
        fpir=false_positive_identification_rate(point.fmr, gallery_size),
        cosine_similarity=best.cosine_similarity if best else None,
        nearest_subject_id=best.subject_id if best else "",
    )


def decide_in_both(verdicts: Sequence[Verdict], gallery_size: int, fmr: float) -> Verdict:
    """1:N in several spaces, e.g. while a gallery moves from one to the other.

    verdicts: one a space, at least one.  gallery_size: templates searched in all of them, each at this FMR; the FPIR
    told is of them together.  Spaces that name different people have found nobody.
    """
    fpir = false_positive_identification_rate(fmr, gallery_size)
    accepted = [verdict for verdict in verdicts if verdict.outcome is Outcome.ACCEPT]
    if len({verdict.subject_id for verdict in accepted}) == 1:
        return replace(accepted[0], fpir=fpir)
    return replace(verdicts[0], outcome=Outcome.REJECT, reason="no_match", subject_id="", fpir=fpir)


def false_positive_identification_rate(fmr: float, gallery_size: int) -> float:
    """1 - (1 - fmr)^size (ISO/IEC 19795-1, independent comparisons), exact for small fmr too."""
    return -math.expm1(gallery_size * math.log1p(-fmr)) if fmr < 1.0 else float(gallery_size > 0)
