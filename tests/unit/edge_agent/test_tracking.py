"""One face is asked about once: a door must not be hammered, and a new face must not inherit an answer."""

import numpy as np
import pytest

from duetface.types import Outcome
from edge_agent.tracking import Tracker, TrackingPolicy

S = 10**9
POLICY = TrackingPolicy()


def box(x: float, y: float = 100.0, side: float = 100.0) -> np.ndarray:
    """A square box around a centre."""
    return np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2], np.float32)


def test_a_face_that_moves_stays_one_track() -> None:
    """Ten steps of a third of its width."""
    tracker = Tracker(POLICY)
    numbers = {tracker.observe(box(100 + 30 * step), step * S // 10).number for step in range(10)}
    assert numbers == {1}


@pytest.mark.parametrize(
    ("then", "at_ns"),
    [
        (box(500), S // 10),  # elsewhere
        (box(100), 2 * S),  # after a while
        (box(140, side=20), S // 10),  # of another size
        (box(100), -S),  # a time line that starts over
    ],
)
def test_another_face_is_another_track(then: np.ndarray, at_ns: int) -> None:
    """And may be asked about at once, whatever the last one was told."""
    tracker = Tracker(POLICY)
    first = tracker.observe(box(100), 0)
    tracker.asked(first, 0)
    second = tracker.observe(then, at_ns)
    assert second.number == first.number + 1
    assert tracker.should_ask(second, at_ns)


def test_one_question_at_a_time() -> None:
    """While it is under way nothing else is asked; without an answer it is given up."""
    tracker = Tracker(POLICY)
    track = tracker.observe(box(100), 0)
    assert tracker.should_ask(track, 0)
    tracker.asked(track, 0)
    assert not tracker.should_ask(track, 1)
    assert not tracker.should_ask(track, round(4.9 * S))
    assert tracker.should_ask(track, 5 * S)


@pytest.mark.parametrize(("outcome", "rest_s"), [(Outcome.ACCEPT, 5.0), (Outcome.REJECT, 2.0), (Outcome.RETRY, 0.3)])
def test_a_track_rests_after_its_answer(outcome: Outcome, rest_s: float) -> None:
    """For as long as the policy says."""
    tracker = Tracker(POLICY)
    track = tracker.observe(box(100), 0)
    tracker.asked(track, 0)
    tracker.decided(track.number, outcome, S)
    assert not tracker.should_ask(track, S + round((rest_s - 0.01) * S))
    assert tracker.should_ask(track, S + round(rest_s * S))


def test_an_answer_about_a_face_that_has_gone_changes_nothing() -> None:
    """The next person must not wait for the last one's accept."""
    tracker = Tracker(POLICY)
    gone = tracker.observe(box(100), 0)
    tracker.asked(gone, 0)
    here = tracker.observe(box(600), S // 10)
    tracker.decided(gone.number, Outcome.ACCEPT, S // 5)
    assert tracker.should_ask(here, S // 5)


def test_a_broken_connection_frees_the_question() -> None:
    """No answer will come over a stream that is gone."""
    tracker = Tracker(POLICY)
    track = tracker.observe(box(100), 0)
    tracker.asked(track, 0)
    tracker.forget_question()
    assert tracker.should_ask(track, 1)
