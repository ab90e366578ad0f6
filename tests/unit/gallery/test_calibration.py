"""From a false match rate to a threshold, against counting one by one."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetface.errors import ConfigError
from gallery.calibration import Calibration, CalibrationError, SourceFigures

similarities = st.lists(st.floats(-1, 1), min_size=20, max_size=200)


def calibration_of(impostor: list[float], genuine: tuple[float, ...] = (0.2, 0.5, 0.8)) -> Calibration:
    """All impostor similarities kept."""
    return Calibration(len(impostor), 10, tuple(sorted(impostor)), genuine, "made up")


@given(impostor=similarities, fmr=st.floats(0.05, 0.9))
def test_no_more_impostors_match_than_the_rate_allows(impostor: list[float], fmr: float) -> None:
    """The promise behind every threshold, whatever ties the sample holds."""
    threshold = calibration_of(impostor).threshold_at(fmr)
    assert sum(value >= threshold for value in impostor) <= fmr * len(impostor) + 1e-9


@given(impostor=st.lists(st.floats(-1, 1).map(lambda x: round(x, 3)), min_size=20, max_size=200, unique=True))
def test_without_ties_the_rate_is_used_up(impostor: list[float]) -> None:
    """A threshold stricter than asked for would reject people for nothing."""
    calibration = calibration_of(impostor)
    assert calibration.fmr_at(calibration.threshold_at(0.1)) == pytest.approx(len(impostor) // 10 / len(impostor))


def test_a_rate_below_one_in_the_sample_is_refused_and_the_smallest_told() -> None:
    """Rule of the sample: nobody can state 1e-6 from a thousand comparisons."""
    calibration = calibration_of(list(np.linspace(-0.2, 0.4, 1000)))
    with pytest.raises(CalibrationError, match=r"1000 impostor comparisons support 0\.001 at best"):
        calibration.threshold_at(1e-6)
    assert issubclass(CalibrationError, ConfigError)  # a service refuses to start on it
    assert calibration.threshold_at(1e-3) < 0.4


def test_a_rate_outside_the_kept_tail_is_refused() -> None:
    """Below the tail the count is not known, and a guess would be a false statement."""
    calibration = Calibration(1000, 10, (0.3, 0.4, 0.5), (), "tail only")
    assert 0.3 < calibration.threshold_at(0.002) < 0.4
    with pytest.raises(CalibrationError, match=r"this calibration reaches 0\.003"):
        calibration.threshold_at(0.003)
    with pytest.raises(CalibrationError, match="below the kept tail"):
        calibration.fmr_at(0.1)


def test_the_interval_is_that_of_clopper_and_pearson() -> None:
    """Known values: 10 of 1000 gives 0.0048 to 0.0183 (scipy.stats.beta, 95 %)."""
    low, high = calibration_of(list(np.linspace(-0.2, 0.4, 1000))).interval(0.01)
    assert (low, high) == (pytest.approx(0.004806, abs=1e-5), pytest.approx(0.018314, abs=1e-5))


def test_misses_are_counted_below_the_threshold() -> None:
    """A similarity equal to the threshold is a match, as in the service."""
    calibration = calibration_of([0.0] * 20, genuine=(0.1, 0.3, 0.5, 0.7))
    assert calibration.fnmr_at(0.5) == 0.5
    with pytest.raises(CalibrationError, match="no genuine"):
        calibration_of([0.0] * 20, genuine=()).fnmr_at(0.5)


def test_a_calibration_survives_json() -> None:
    """It travels in space.json."""
    calibration = calibration_of([0.1, 0.25, 0.3])
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration


def test_unknown_and_missing_keys_are_refused() -> None:
    """A calibration of another form must not set thresholds."""
    raw = calibration_of([0.1, 0.2]).to_dict()
    with pytest.raises(CalibrationError, match="calibration has keys"):
        Calibration.from_dict({**raw, "bias": 0})
    with pytest.raises(CalibrationError, match="calibration has keys"):
        Calibration.from_dict({})


@pytest.mark.parametrize(
    ("count", "tail", "message"),
    [(3, (0.2, 0.1), "ascending"), (1, (0.1, 0.2), "tail of 2 among 1"), (3, (), "tail of 0")],
)
def test_a_sample_that_cannot_be_is_refused(count: int, tail: tuple[float, ...], message: str) -> None:
    """Checked once, where it is read."""
    with pytest.raises(CalibrationError, match=message):
        Calibration(count, 1, tail, (), "broken")


def test_figures_by_source_set_come_back_from_the_manifest() -> None:
    """They are counts beside the sample: no threshold comes from them."""
    calibration = calibration_of([0.1, 0.2, 0.3])
    figures = {"portraits": SourceFigures(5, 40, 6, (0.1, 0.01), (4, 0), (1, 2))}
    told = replace(calibration, by_source=figures)
    again = Calibration.from_dict(json.loads(json.dumps(told.to_dict())))
    assert again == told and again.threshold_at(0.34) == calibration.threshold_at(0.34)


def test_a_manifest_from_before_they_were_kept_has_no_figures_by_source_set() -> None:
    """It still serves."""
    raw = calibration_of([0.1, 0.2]).to_dict()
    del raw["by_source"]
    assert Calibration.from_dict(raw).by_source == {}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"false_matches": (41, 0)}, "more false matches than impostor comparisons"),
        ({"false_non_matches": (1, 7)}, "more false non-matches than genuine"),
        ({"at_fmr": (0.1,)}, "one count a threshold"),
        ({"bias": 1}, "bias"),
    ],
)
def test_counts_that_cannot_be_are_refused(change: dict[str, object], says: str) -> None:
    """A manifest that was edited by hand."""
    good = asdict(SourceFigures(5, 40, 6, (0.1, 0.01), (4, 0), (1, 2)))
    with pytest.raises(CalibrationError, match=says):
        SourceFigures.from_dict({**good, **change})
