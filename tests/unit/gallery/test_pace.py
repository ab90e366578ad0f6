"""Work in the background takes a small share of one processor, until somebody waits for it."""

import threading
import time

import pytest

from gallery.pace import Pace, WorkStopped


def work(pace: Pace, steps: int, step_s: float) -> tuple[float, float]:
    """So many steps, each followed by a rest; returns the seconds worked and rested, however busy the machine is."""
    worked_s = rested_s = 0.0
    pace.begin()
    for _ in range(steps):
        began_s = time.monotonic()
        time.sleep(step_s)
        ended_s = time.monotonic()
        pace.rest()
        worked_s, rested_s = worked_s + ended_s - began_s, rested_s + time.monotonic() - ended_s
    return worked_s, rested_s


def test_whoever_works_rests_seven_times_as_long():
    """An eighth of a processor: searches beside it go on as if it were not there."""
    worked_s, rested_s = work(Pace(), steps=5, step_s=0.01)
    assert rested_s >= 7 * worked_s


def test_work_that_somebody_waits_for_does_not_rest():
    """A receipt is asked for while the background searches: it must not take eight times as long."""
    pace = Pace()
    with pace.hurried(), pace.hurried():
        worked_s, rested_s = work(pace, steps=5, step_s=0.02)
    assert rested_s < worked_s
    worked_s, rested_s = work(pace, steps=2, step_s=0.01)
    assert rested_s >= 7 * worked_s


def test_a_rest_ends_as_soon_as_somebody_waits():
    """Even a long one, after a step that a slow disk held up."""
    pace, times = Pace(), list[tuple[float, float]]()
    worker = threading.Thread(target=lambda: times.append(work(pace, 1, 1.0)))
    worker.start()
    time.sleep(1.2)  # into a rest of 7 s
    with pace.hurried():
        worker.join()
    assert times[0][1] < 4 * times[0][0]


def test_a_stop_ends_the_work_at_its_next_rest():
    """A service that ends must not search a large database to its end first."""
    pace = Pace()
    pace.stop()
    with pace.hurried(), pytest.raises(WorkStopped):
        work(pace, steps=1, step_s=0.0)
    with pytest.raises(WorkStopped):
        work(pace, steps=1, step_s=0.0)
