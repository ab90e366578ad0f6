"""Work in the background takes a small share of one processor, until somebody waits for it."""

import threading
import time

import pytest

from gallery.pace import Pace, WorkStopped


def work(pace: Pace, steps: int, step_s: float) -> float:
    """So many steps, each followed by a rest; returns the seconds that all took."""
    pace.begin()
    began_s = time.monotonic()
    for _ in range(steps):
        time.sleep(step_s)
        pace.rest()
    return time.monotonic() - began_s


def test_whoever_works_rests_seven_times_as_long():
    """An eighth of a processor: searches beside it go on as if it were not there."""
    assert work(Pace(), steps=5, step_s=0.01) >= 5 * 8 * 0.01


def test_work_that_somebody_waits_for_does_not_rest():
    """A receipt is asked for while the background searches: it must not take eight times as long."""
    pace = Pace()
    with pace.hurried(), pace.hurried():
        assert work(pace, steps=5, step_s=0.01) < 5 * 8 * 0.01
    assert work(pace, steps=2, step_s=0.01) >= 2 * 8 * 0.01


def test_a_rest_ends_as_soon_as_somebody_waits():
    """Even a long one, after a step that a slow disk held up."""
    pace = Pace()
    worker = threading.Thread(target=work, args=(pace, 1, 0.2))
    worker.start()
    time.sleep(0.3)  # in the middle of a rest of 1.4 s
    asked_s = time.monotonic()
    with pace.hurried():
        worker.join()
    assert time.monotonic() - asked_s < 0.7


def test_a_stop_ends_the_work_at_its_next_rest():
    """A service that ends must not search a large database to its end first."""
    pace = Pace()
    pace.stop()
    with pace.hurried(), pytest.raises(WorkStopped):
        work(pace, steps=1, step_s=0.0)
    with pytest.raises(WorkStopped):
        work(pace, steps=1, step_s=0.0)
