"""Error rates and their intervals."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetface.metrics import Rate, clopper_pearson, search_scores

similarities = st.lists(st.floats(-1, 1, width=32), max_size=40)


def binomial_tail(at_least: int, trials: int, p: float) -> float:
    """P(X >= at_least), the slow obvious way."""
    return sum(math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(at_least, trials + 1))


@given(trials=st.integers(1, 60), share=st.floats(0, 1))
def test_the_limits_are_where_the_binomial_tails_hold_two_and_a_half_percent(trials: int, share: float) -> None:
    """That is the definition of the exact interval; the continued fraction must agree with the plain sum."""
    count = round(share * trials)
    low, high = clopper_pearson(count, trials)
    if count > 0:
        assert binomial_tail(count, trials, low) == pytest.approx(0.025, abs=1e-9)
    if count < trials:
        assert 1 - binomial_tail(count + 1, trials, high) == pytest.approx(0.025, abs=1e-9)
    assert 0 <= low <= count / trials <= high <= 1


def test_no_error_in_n_trials_gives_the_rule_of_three() -> None:
    """0 of 30 000 is the figure that a claim of FMR 1e-4 needs; ln(40)/n at 97.5 %."""
    low, high = clopper_pearson(0, 30_000)
    assert low == 0
    assert high == pytest.approx(math.log(40) / 30_000, rel=1e-3)


def test_many_trials_still_converge() -> None:
    """Calibration counts millions of impostor comparisons."""
    low, high = clopper_pearson(1_000, 10_000_000)
    assert low == pytest.approx(0.939e-4, rel=1e-2)
    assert high == pytest.approx(1.064e-4, rel=1e-2)


def test_nothing_tried_means_nothing_known() -> None:
    """A rate of no trials must not look like a perfect one."""
    assert Rate(0, 0).interval == (0.0, 1.0)


def test_an_impossible_count_is_refused() -> None:
    """A negative or too large count is a bug of the caller."""
    with pytest.raises(ValueError, match="5 of 4"):
        clopper_pearson(5, 4)


@given(own=similarities, strangers=similarities, missed=st.integers(0, 5), wanted=st.floats(0, 1))
def test_the_swept_threshold_never_exceeds_the_wanted_fpir(
    own: list[float], strangers: list[float], missed: int, wanted: float
) -> None:
    """Ties at the threshold must all stay out, or the reported FPIR would be a lie."""
    point = search_scores(own, missed, strangers).at_fpir(wanted)
    assert point.fpir.value <= wanted + 1e-9
    assert point.fpir.count == sum(score >= point.threshold for score in strangers)
    assert point.tpir.count == sum(score >= point.threshold for score in own)
    assert point.tpir.trials == len(own) + missed


@given(own=similarities, strangers=similarities)
def test_no_lower_threshold_would_have_kept_the_wanted_fpir(own: list[float], strangers: list[float]) -> None:
    """The best TPIR that the wanted FPIR allows is what is asked for."""
    scores = search_scores(own, 0, strangers)
    point = scores.at_fpir(0.1)
    lower = [score for score in strangers if score < point.threshold]
    if lower:
        assert scores.at(max(lower)).fpir.value > 0.1


@given(own=similarities, strangers=similarities)
def test_a_det_curve_falls_as_fpir_rises(own: list[float], strangers: list[float]) -> None:
    """More strangers let in can only let more known people in."""
    fpir, fnir = search_scores(own, 0, strangers).det_curve()
    assert (np.diff(fpir) >= 0).all()
    assert (np.diff(fnir) <= 0).all()


def test_a_probe_that_found_another_person_is_a_miss_at_any_threshold() -> None:
    """-inf stands for "somebody else came first"."""
    assert search_scores([-math.inf, 0.5], 0, []).at_fpir(0.05).tpir.count == 1
