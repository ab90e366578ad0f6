"""Guided enrolment at a camera, frame by frame."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from duetface.errors import DeviceError
from duetface.types import Probe
from edge_agent.enrolment import Enrolled
from edge_agent.guided import GuidedEnrolment, frames_of
from edge_agent.pipeline import Outcome
from edge_agent.quality import RetryReason
from edge_agent.sources import Frame

SECOND_NS = 1_000_000_000
PROBE = Probe((), 0)


@dataclass
class ScriptedProtector:
    """Answers each frame with the next of its answers: a probe, or a reason."""

    answers: list[RetryReason | None]

    def protect(self, _rgb_u8_hwc: object, _captured_at_ns: int) -> Outcome:
        """The next answer."""
        reason = self.answers.pop(0)
        return Outcome(None if reason else PROBE, reason, None, None, None)


@dataclass
class ListedEnrolment:
    """Keeps what is enrolled in a list; warnings: of the captures, in turn."""

    warnings: list[tuple[str, ...]] = field(default_factory=list)
    templates: list[str] = field(default_factory=list)

    def add_probe(self, result: Enrolled, _probe: Probe, _label: str) -> Enrolled:
        """Make one more template."""
        self.templates.append(f"t{len(self.templates) + 1}")
        warnings = self.warnings.pop(0) if self.warnings else ()
        return Enrolled(result.subject_id, result.picture, template_id=self.templates[-1], warnings=warnings)

    def delete_template(self, template_id: str) -> int:
        """Take one back."""
        self.templates.remove(template_id)
        return 1


def guide(
    answers: list[RetryReason | None], at_s: Sequence[float], count: int, warnings: list[tuple[str, ...]] | None = None
) -> tuple[list[Enrolled], list[str], ListedEnrolment]:
    """Run over frames at these times; returns the results, what was said, and what is enrolled."""
    said: list[str] = []
    enrolment = ListedEnrolment(warnings or [])
    picture = np.zeros((2, 2, 3), np.uint8)
    frames = [Frame(picture, 0, round(second * SECOND_NS), index, "camera") for index, second in enumerate(at_s)]
    guided = GuidedEnrolment(enrolment, enrolment, ScriptedProtector(answers), said.append)  # type: ignore[arg-type]
    return guided.run("alice", "", frames, count), said, enrolment


def test_the_same_fault_is_told_once_and_another_one_anew() -> None:
    """Thirty lines a second help nobody; a new fault has to be told at once."""
    dark, far = RetryReason.TOO_DARK, RetryReason.FACE_TOO_SMALL
    _, said, _ = guide([dark, dark, far, far, dark], [0, 0.1, 0.2, 0.3, 0.4], 2)
    assert said == [dark.advice, far.advice, dark.advice]


def test_captures_of_one_moment_count_as_one() -> None:
    """Three frames of a tenth of a second hold one look, not three."""
    results, said, enrolment = guide([None] * 6, [0, 0.1, 0.2, 0.8, 0.9, 1.6], 3)
    assert len(results) == len(enrolment.templates) == 3
    assert said == [
        "1 of 3 taken: now turn the head a little",
        "2 of 3 taken: now turn the head a little",
        "3 of 3 taken",
    ]


def test_a_capture_of_somebody_else_is_taken_back() -> None:
    """The operator is told, and the gallery holds only what agrees."""
    results, said, enrolment = guide([None] * 3, [0, 1, 2], 2, [(), ("far_from_own",), ()])
    assert [bool(one.template_id) for one in results] == [True, False, True]
    assert len(enrolment.templates) == 2
    assert "taken back" in said[1]


def test_a_minute_without_a_usable_face_ends_it() -> None:
    """A camera that nobody stands before must not be watched for ever."""
    nobody = RetryReason.NO_FACE
    results, said, _ = guide([nobody] * 4, [0, 30, 61, 90], 2)
    assert results == []
    assert said[-1] == "no usable face for a minute: stopped"


def test_captures_that_never_agree_end_it_too() -> None:
    """Three tries for each wanted capture are enough to see that something is wrong."""
    results, _, enrolment = guide([None] * 9, list(range(9)), 1, [("far_from_own",)] * 9)
    assert (len(results), enrolment.templates) == (3, [])


class SilentFeed:
    """A camera that is there and gives nothing."""

    dropped = 0
    ended = False
    live = True

    def take(self, timeout_s: float) -> Frame | None:
        """Never a frame."""

    def close(self) -> None:
        """Nothing to close."""


def test_a_camera_that_gives_nothing_is_a_device_error() -> None:
    """Waiting for ever for a camera that another program holds looks like a hang."""
    with pytest.raises(DeviceError, match="in use by another program"):
        next(frames_of(SilentFeed()))
