"""The token bucket of each certificate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetface.errors import OverloadedError
from recognition_service import admission
from recognition_service.admission import Admission


def test_a_burst_is_admitted_and_then_a_rate() -> None:
    """A device that wakes up may catch up, but not for long."""
    rule = Admission(rate_per_s=10.0, burst=3)
    for _ in range(3):
        rule.admit("door", 0.0)
    with pytest.raises(OverloadedError, match="more than 10 requests a second") as refused:
        rule.admit("door", 0.0)
    assert refused.value.retry_after_s == pytest.approx(0.1)
    rule.admit("door", 0.1001)


def test_one_certificate_does_not_take_anothers_tokens() -> None:
    """A runaway camera must not close the other doors."""
    rule = Admission(rate_per_s=1.0, burst=1)
    rule.admit("runaway", 0.0)
    with pytest.raises(OverloadedError):
        rule.admit("runaway", 0.0)
    rule.admit("door", 0.0)


@given(gaps=st.lists(st.floats(0, 5), max_size=60), rate=st.floats(0.1, 50), burst=st.integers(1, 20))
def test_never_more_than_burst_plus_rate_times_time(gaps: list[float], rate: float, burst: int) -> None:
    """Whatever the timing, the promise of a token bucket holds."""
    rule, now, admitted = Admission(rate, burst), 0.0, 0
    for gap in gaps:
        now += gap
        try:
            rule.admit("door", now)
        except OverloadedError as refused:
            assert 0 < refused.retry_after_s <= 1 / rate + 1e-9
        else:
            admitted += 1
    assert admitted <= burst + rate * now + 1e-6


def test_memory_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates come and go for years."""
    monkeypatch.setattr(admission, "MAX_BUCKETS", 10)
    rule = Admission(1.0, 1)
    for number in range(100):
        rule.admit(f"door-{number}", 0.0)
    assert len(rule._buckets) == 10
