"""The loop: who is asked about, what is told, and what happens when the service or the camera is gone."""

import io
import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from duetface.errors import DeviceError, ServiceError
from duetface.types import Decision, Outcome, Probe
from edge_agent.agent import Agent
from edge_agent.camera import EveryFrame
from edge_agent.config import AgentConfig
from edge_agent.hooks import CommandHooks
from edge_agent.pipeline import Protector
from edge_agent.report import JsonLines, StatusLine
from edge_agent.sources import Frame
from edge_agent.stream import Decided, Offline, Online, Refused, StreamEvent

NOBODY = np.full((240, 320, 3), 90, np.uint8)
S = 10**9


class InstantDecider:
    """Answers each probe by a rule, as soon as anybody asks what happened."""

    def __init__(self, decide: Callable[[int], Decision | None], first: StreamEvent | None = None) -> None:
        """decide: from the number of the question to its answer, or None for silence."""
        self.asked: list[tuple[Probe, int]] = []
        self._decide = decide
        self.events: deque[StreamEvent] = deque([first or Online()])

    def submit(self, probe: Probe, tag: int) -> None:
        self.asked.append((probe, tag))
        decision = self._decide(len(self.asked))
        if decision is not None:
            self.events.append(Decided(decision, tag, wire_bytes=9000, round_trip_ms=12.5))

    def next_event(self, timeout_s: float = 0.0) -> StreamEvent | None:
        return self.events.popleft() if self.events else None


class LiveFrames:
    """A camera's feed, by a list; None is a time-out."""

    live = True

    def __init__(self, frames: list[Frame | None]) -> None:
        self.dropped = 2
        self._frames = deque(frames)
        self.closed = False

    @property
    def ended(self) -> bool:
        return not self._frames

    def take(self, timeout_s: float) -> Frame | None:
        return self._frames.popleft() if self._frames else None

    def close(self) -> None:
        self.closed = True


class FileFrames:
    """A file's frames."""

    name = "film"
    live = False

    def __init__(self, frames: list[Frame]) -> None:
        self._frames = frames

    def frames(self) -> Iterator[Frame]:
        yield from self._frames

    def close(self) -> None:
        pass


class Counting:
    """A preview that is closed by its person at a given picture."""

    def __init__(self, close_at: int) -> None:
        self.shown = 0
        self._close_at = close_at

    def show(self, rgb_u8_hwc: np.ndarray) -> bool:
        self.shown += 1
        return self.shown < self._close_at

    def close(self) -> None:
        pass


ACCEPT = Decision(Outcome.ACCEPT, "match", "alice", fmr=1e-4, decision_id="d", expires_in_s=5.0)
REJECT = Decision(Outcome.REJECT, "no_match", fmr=1e-4, decision_id="d")


@pytest.fixture
def run(gate: Protector, pictures, tmp_path: Path):
    """Runs an agent on pictures by name, one each half second; returns agent, JSON lines and notes."""
    hooks = CommandHooks({}, {})

    def frames(names: list[str]) -> list[Frame]:
        shown = [NOBODY if name == "nobody" else pictures[name] for name in names]
        return [Frame(picture, 0, index * S // 2, index, "film") for index, picture in enumerate(shown)]

    def ran(feed, decider, previews=(), **settings):
        config = AgentConfig(source="film", address="host:1", identity_folder=tmp_path, **settings)
        lines, notes = io.StringIO(), io.StringIO()
        status = StatusLine(Console(file=notes, force_terminal=False, width=200))
        agent = Agent(config, feed, gate, decider, JsonLines(lines), status, hooks, previews)
        error = None
        try:
            agent.run()
        except (DeviceError, ServiceError) as raised:
            error = raised
        return agent, [json.loads(line) for line in lines.getvalue().splitlines()], notes.getvalue(), error

    ran.frames = frames
    yield ran
    hooks.close()


def test_a_face_in_view_is_asked_about_once(run) -> None:
    """Four seconds of one face within the rest after an accept: one question, one line."""
    decider = InstantDecider(lambda number: ACCEPT)
    agent, lines, _, _ = run(LiveFrames(run.frames(["obama"] * 8)), decider)
    assert len(decider.asked) == 1
    assert [line["outcome"] for line in lines] == ["accept"]
    assert agent.tally.outcomes[Outcome.ACCEPT] == 1
    assert agent.tally.last is Outcome.ACCEPT


def test_a_line_says_all_that_a_program_needs_and_no_biometric_value(run) -> None:
    """The format that others parse."""
    _, lines, _, _ = run(LiveFrames(run.frames(["obama"])), InstantDecider(lambda number: ACCEPT))
    (line,) = lines
    assert set(line) == {
        "at", "outcome", "reason", "subject_id", "liveness", "fmr", "fpir", "decision_id", "expires_in_s", "track",
        "source", "frame", "wire_bytes", "device_ms", "round_trip_ms",
    }  # fmt: skip
    assert line["liveness"] == "off"
    assert (line["subject_id"], line["wire_bytes"], line["round_trip_ms"]) == ("alice", 9000, 12.5)
    assert set(line["device_ms"]) == {"detect", "align", "quality", "encode"}


def test_a_rejected_face_is_asked_about_again_after_its_rest(run) -> None:
    """At 0 s, and after two more seconds in view."""
    decider = InstantDecider(lambda number: REJECT)
    run(LiveFrames(run.frames(["obama"] * 6)), decider)
    assert len(decider.asked) == 2


def test_the_next_person_is_asked_about_at_once(run) -> None:
    """After a gap with nobody in view."""
    decider = InstantDecider(lambda number: ACCEPT)
    run(LiveFrames(run.frames(["obama", "nobody", "nobody", "nobody", "astronaut"])), decider)
    assert [tag for _, tag in decider.asked] == [1, 2]


def test_an_empty_corridor_is_no_event(run) -> None:
    """A camera that sees nobody all night fills no disk."""
    agent, lines, _, _ = run(LiveFrames(run.frames(["nobody"] * 5)), InstantDecider(lambda number: ACCEPT))
    assert lines == []
    assert agent.tally.frames == 5


def test_a_reason_is_told_once_for_as_long_as_it_lasts(run) -> None:
    """A blurred face for a second is one line, not thirty."""
    frames = run.frames(["obama"] * 4)
    dark = [replace(frame, rgb_u8_hwc=(frame.rgb_u8_hwc * 0.1).astype(np.uint8)) for frame in frames]
    _, lines, _, _ = run(LiveFrames(dark), InstantDecider(lambda number: ACCEPT))
    assert [(line["outcome"], line["reason"]) for line in lines] == [("retry", "too_dark")]


def test_every_picture_of_a_file_gets_its_line(run) -> None:
    """Also those of which no face could be used, with the reason."""
    frames = run.frames(["obama", "nobody", "nobody", "astronaut"])
    spaced = [replace(frame, position_ns=frame.index * 3600 * S, name=f"{frame.index}.jpg") for frame in frames]
    decider = InstantDecider(lambda number: [ACCEPT, REJECT][number - 1])
    _, lines, _, _ = run(EveryFrame(FileFrames(spaced)), decider)
    assert [(line["frame"], line["outcome"], line["reason"]) for line in lines] == [
        (0, "accept", "match"),
        (1, "retry", "no_face"),
        (2, "retry", "no_face"),
        (3, "reject", "no_match"),
    ]


def test_a_file_asks_again_when_the_connection_broke(run) -> None:
    """The same frame, with a fresh time of capture; no picture is passed over because the network was."""
    decider = InstantDecider(lambda number: None if number == 1 else ACCEPT)
    submit = decider.submit

    def breaking(probe: Probe, tag: int) -> None:
        submit(probe, tag)
        if len(decider.asked) == 1:
            decider.events.extend([Offline("no service answers", 1.0), Online()])

    decider.submit = breaking
    _, lines, notes, _ = run(EveryFrame(FileFrames(run.frames(["obama"]))), decider)
    assert [(line["frame"], line["outcome"]) for line in lines] == [(0, "accept")]
    assert notes.splitlines()[-2:] == ["off-line, no decisions: no service answers", "connected to host:1"]
    first, second = (probe.captured_at_monotonic_ns for probe, _ in decider.asked)
    assert second > first


def test_a_file_gives_up_on_a_service_that_does_not_answer(run) -> None:
    """It says so and goes on to the next picture."""
    decider = InstantDecider(lambda number: None if number == 1 else REJECT)
    frames = [replace(frame, position_ns=frame.index * 3600 * S) for frame in run.frames(["obama", "biden"])]
    _, lines, notes, _ = run(EveryFrame(FileFrames(frames)), decider, answer_within_s=0.1)
    assert [line["frame"] for line in lines] == [1]
    assert "no answer within 0.1 s" in notes


def test_a_video_says_once_that_nobody_is_there(run) -> None:
    """Its frames are one view, not many pictures."""
    decider = InstantDecider(lambda number: ACCEPT)
    _, lines, _, _ = run(EveryFrame(FileFrames(run.frames(["nobody", "nobody", "obama", "nobody"]))), decider)
    assert [line["reason"] for line in lines] == ["no_face", "match", "no_face"]


def test_off_line_nothing_is_decided(run) -> None:
    """The agent says so and waits; there is no decision of its own."""
    decider = InstantDecider(lambda number: None, first=Offline("no service answers at host:1", 3.0))
    agent, lines, notes, _ = run(LiveFrames(run.frames(["obama"] * 3)), decider)
    assert lines == []
    assert "off-line, no decisions: no service answers at host:1" in notes
    assert agent.tally.last is None


def test_a_service_that_refuses_the_agent_ends_it(run) -> None:
    """Trying on would not help; the command line tells the line and exits 4."""
    refusal = ServiceError("host:1 refused: role", status="PERMISSION_DENIED", reason="role")
    decider = InstantDecider(lambda number: None, first=Refused(refusal))
    *_, error = run(LiveFrames(run.frames(["obama"])), decider)
    assert error is refusal


def test_a_late_answer_opens_no_door_for_the_next_person(run) -> None:
    """The track it was about is no longer asked about: no line, no command."""
    decider = InstantDecider(lambda number: None)
    feed = LiveFrames(run.frames(["obama", "nobody", "nobody", "nobody", "astronaut", "astronaut"]))
    submit = decider.submit

    def late(probe: Probe, tag: int) -> None:
        submit(probe, tag)
        if tag == 2:
            decider.events.append(Decided(ACCEPT, tag=1, wire_bytes=1, round_trip_ms=1.0))

    decider.submit = late
    agent, lines, _, _ = run(feed, decider)
    assert lines == []
    assert agent.tally.outcomes[Outcome.ACCEPT] == 0


def test_closing_the_window_ends_the_agent(run) -> None:
    """At the next picture."""
    preview = Counting(close_at=2)
    agent, _, _, _ = run(LiveFrames(run.frames(["nobody"] * 9)), InstantDecider(lambda number: None), [preview])
    assert preview.shown == agent.tally.frames == 2


def test_settings_refuse_what_they_do_not_know(tmp_path: Path) -> None:
    """A misspelt setting must not be a default."""
    with pytest.raises(ValueError, match="on_acept"):
        AgentConfig(source="0", address="h:1", identity_folder=tmp_path, on_acept="open")
