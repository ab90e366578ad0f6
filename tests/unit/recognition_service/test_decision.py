"""From similarities to a verdict."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetface.types import LivenessLevel, Outcome, Quality
from gallery.records import SubjectMatch
from recognition_service.config import LivenessPolicy
from recognition_service.decision import (
    LIVENESS_REQUIRED,
    LOW_QUALITY,
    STALE,
    CapturePolicy,
    OperatingPoint,
    decide_identification,
    decide_verification,
    false_positive_identification_rate,
    judge_capture,
    resting_liveness,
)

POINT = OperatingPoint(fmr=1e-4, threshold=0.4)
POLICY = CapturePolicy(min_quality=0.3, max_age_us=2_000_000, liveness=LivenessPolicy.OFF)
GOOD = Quality(unified=0.8)
cosines = st.floats(-1, 1)


@given(cosine=cosines)
def test_a_verification_accepts_at_the_threshold_and_above_only(cosine: float) -> None:
    """The threshold is where the stated FMR holds."""
    verdict = decide_verification("alice", cosine, POINT)
    assert (verdict.outcome is Outcome.ACCEPT) == (cosine >= 0.4)
    assert verdict.subject_id == ("alice" if cosine >= 0.4 else "")


def test_an_unknown_subject_is_told_what_a_stranger_is_told() -> None:
    """Who is enrolled is nobody's business."""
    unknown, stranger = decide_verification("bob", None, POINT), decide_verification("alice", 0.1, POINT)
    assert (unknown.outcome, unknown.reason, unknown.subject_id) == (Outcome.REJECT, "no_match", "")
    assert (unknown.outcome, unknown.reason, unknown.subject_id) == (
        stranger.outcome,
        stranger.reason,
        stranger.subject_id,
    )


@given(ranked=st.lists(cosines, max_size=5).map(lambda values: sorted(values, reverse=True)))
def test_a_search_accepts_the_best_or_nobody(ranked: list[float]) -> None:
    """Open-set: a stranger is rejected, not given the nearest name."""
    matches = [SubjectMatch(f"subject-{rank}", cosine) for rank, cosine in enumerate(ranked)]
    verdict = decide_identification(matches, 100, POINT)
    accepted = bool(ranked) and ranked[0] >= 0.4
    assert verdict.subject_id == ("subject-0" if accepted else "")
    assert verdict.nearest_subject_id == ("subject-0" if ranked else "")
    assert verdict.reason == ("match" if accepted else "no_match")


def test_an_empty_gallery_rejects_everybody() -> None:
    """Nobody is enrolled on the first day."""
    verdict = decide_identification([], 0, POINT)
    assert (verdict.outcome, verdict.fpir) == (Outcome.REJECT, 0.0)


@given(fmr=st.floats(1e-9, 0.1), size=st.integers(0, 10**9))
def test_the_fpir_is_that_of_independent_comparisons(fmr: float, size: int) -> None:
    """1 - (1 - fmr)^size, also where naive floats would give 0."""
    fpir = false_positive_identification_rate(fmr, size)
    assert 0.0 <= fpir <= 1.0
    assert fpir <= fmr * size * (1 + 1e-9)
    if size * fmr < 1e-3:
        assert fpir == pytest.approx(size * fmr, rel=1e-2)


def test_a_stale_capture_is_retried_before_anything_else() -> None:
    """What was true three seconds ago may have left the room."""
    assert judge_capture(2_000_001, Quality(unified=0.0), LivenessLevel.OFF, POLICY) is STALE
    assert judge_capture(2_000_000, GOOD, LivenessLevel.OFF, POLICY) is None


def test_a_capture_of_low_quality_is_retried_not_rejected() -> None:
    """A blurred face says nothing about who it is, so it must count as no failure."""
    assert judge_capture(0, Quality(unified=0.29), LivenessLevel.OFF, POLICY) is LOW_QUALITY
    assert judge_capture(0, Quality(unified=0.3), LivenessLevel.OFF, POLICY) is None


@pytest.mark.parametrize("level", list(LivenessLevel))
def test_required_liveness_takes_nothing_less_than_passed(level: LivenessLevel) -> None:
    """A check that ran and did not decide is not a check passed."""
    required = CapturePolicy(0.0, 2_000_000, LivenessPolicy.REQUIRED)
    expected = None if level is LivenessLevel.PASSED else LIVENESS_REQUIRED
    assert judge_capture(0, GOOD, level, required) is expected


@pytest.mark.parametrize(
    ("policy", "claimed", "stated"),
    [
        (LivenessPolicy.OFF, LivenessLevel.PASSED, LivenessLevel.OFF),
        (LivenessPolicy.ADVISORY, LivenessLevel.PASSED, LivenessLevel.ADVISORY),
        (LivenessPolicy.ADVISORY, LivenessLevel.OFF, LivenessLevel.OFF),
        (LivenessPolicy.REQUIRED, LivenessLevel.PASSED, LivenessLevel.PASSED),
    ],
)
def test_a_decision_states_no_more_liveness_than_it_rests_on(
    policy: LivenessPolicy, claimed: LivenessLevel, stated: LivenessLevel
) -> None:
    """A device's claim that nobody asked for must not look like a check that decided."""
    assert resting_liveness(claimed, policy) is stated
