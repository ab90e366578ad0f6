"""The agent's loop: source -> newest frame -> protector -> stream -> decisions.

It asks about each face once, rests after the answer, says when it is off-line, and never decides.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

import cv2

from duetface.errors import DeviceError
from duetface.identity import ClientIdentity
from duetface.types import Outcome, Probe
from edge_agent.camera import FrameFeed, open_feed, open_source
from edge_agent.config import AgentConfig
from edge_agent.hooks import CommandHooks
from edge_agent.pipeline import Outcome as Capture
from edge_agent.pipeline import Protector
from edge_agent.preview import Preview, PreviewFile, Window, draw
from edge_agent.quality import RetryReason
from edge_agent.report import JsonLines, StatusLine
from edge_agent.sources import Frame
from edge_agent.stream import Decided, DecisionStream, Offline, Online, Refused, Stale, StreamEvent
from edge_agent.tracking import Tracker

ONLINE: Final = "on-line"
TAKE_TIMEOUT_S: Final = 0.2  # how long the loop waits for a frame before it looks at events again
SHOWN_FOR_S: Final = 2.0  # a decision stays in the preview
CAMERA_SILENCE_S: Final = 20.0  # longer than a driver's own time-out, after which the source itself complains


class Decider(Protocol):
    """What the loop needs of edge_agent.stream.DecisionStream."""

    def submit(self, probe: Probe, tag: int) -> None:
        """Send a probe."""

    def next_event(self, timeout_s: float = 0.0) -> StreamEvent | None:
        """What happened next."""


@dataclass
class Tally:
    """What an agent has seen; `last` is the newest outcome, for an exit code."""

    frames: int = 0
    asked: int = 0
    outcomes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    last: Outcome | None = None

    def count(self, outcome: Outcome) -> None:
        """Count one outcome."""
        self.outcomes[outcome] += 1
        self.last = outcome


@dataclass(frozen=True)
class _Question:
    """The capture that a probe was made of."""

    frame: Frame
    timings_ms: Mapping[str, float]


class Agent:
    """The loop itself; everything it works with is handed in."""

    def __init__(
        self,
        config: AgentConfig,
        feed: FrameFeed,
        protector: Protector,
        stream: Decider,
        lines: JsonLines,
        status: StatusLine,
        hooks: CommandHooks,
        previews: Sequence[Preview] = (),
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """feed: closed by the caller.  previews: shown each frame; closing one of them ends the loop."""
        self.tally = Tally()
        self._config = config
        self._feed = feed
        self._protector = protector
        self._stream = stream
        self._lines = lines
        self._status = status
        self._hooks = hooks
        self._previews = previews
        self._monotonic_s = monotonic_s
        self._tracker = Tracker(config.tracking)
        self._questions: dict[int, _Question] = {}  # by track; a track has one question under way
        self._lost = False  # a question went down with its connection
        self._refused: RetryReason | None = None
        self._told: tuple[RetryReason, str] | None = None  # with the picture's name: each file gets its line
        self._connection = "connecting"
        self._shown: tuple[str, Outcome | None, float] = ("", None, 0.0)
        self._moments: deque[float] = deque(maxlen=30)
        self._position_ns = 0
        self._stopped = False

    def stop(self) -> None:
        """End `run` after the present frame."""
        self._stopped = True

    def run(self) -> Tally:
        """Go on until the source ends or `stop` is called.

        Raises CaptureError (DeviceError for a camera) as the source does, and ServiceError or
        ContractError when the service refuses this agent for good.
        """
        heard_s = self._monotonic_s()
        while not self._stopped:
            frame = self._feed.take(TAKE_TIMEOUT_S)
            self._events(0.0)
            if frame is not None:
                heard_s = self._monotonic_s()
                self._look(frame)
                self._look_again_until_answered(frame)
            elif self._feed.ended:
                break
            elif self._monotonic_s() - heard_s > CAMERA_SILENCE_S:
                raise DeviceError(f"no picture for {CAMERA_SILENCE_S:.0f} s: is the camera in use by another program?")
            self._show_status()
        self._events(0.0)
        return self.tally

    def _look(self, frame: Frame) -> None:
        self.tally.frames += 1
        self._position_ns = frame.position_ns
        self._moments.append(self._monotonic_s())
        capture = self._protector.protect(frame.rgb_u8_hwc, frame.captured_at_monotonic_ns)
        if capture.probe is None or capture.detection is None:
            self._refuse(capture.reason, frame)
        else:
            self._refused = self._told = None
            self._consider(frame, capture, capture.probe)
        self._preview(frame, capture)

    def _consider(self, frame: Frame, capture: Capture, probe: Probe) -> None:
        """Ask about the face unless its track rests or is being asked about."""
        assert capture.detection is not None
        track = self._tracker.observe(capture.detection.box_xyxy_px, frame.position_ns)
        if not self._tracker.should_ask(track, frame.position_ns):
            return
        self._tracker.asked(track, frame.position_ns)
        self._questions = {track.number: _Question(frame, capture.timings_ms)}
        self._stream.submit(probe, track.number)
        self.tally.asked += 1

    def _look_again_until_answered(self, frame: Frame) -> None:
        """A file waits for its answers: its next frame is not a later look at the same moment.

        When the connection breaks meanwhile, the same frame is asked about again.
        """
        while not self._feed.live and not self._stopped:
            self._await_answer()
            if not self._lost:
                return
            self._lost = False
            self._look(replace(frame, captured_at_monotonic_ns=time.monotonic_ns()))

    def _await_answer(self) -> None:
        """Wait until the question under way is answered, given up, or lost and the connection is back."""
        since_s = self._monotonic_s()
        while (self._questions or self._lost) and not self._stopped:
            if self._connection != ONLINE:
                since_s = self._monotonic_s()  # off-line is not slow
            elif self._lost:
                return
            elif self._monotonic_s() - since_s > self._config.answer_within_s:
                self._status.note(f"no answer within {self._config.answer_within_s:g} s")
                self._questions.clear()
                return
            self._events(TAKE_TIMEOUT_S)
            self._show_status()

    def _refuse(self, reason: RetryReason | None, frame: Frame) -> None:
        """Say once why captures are not used; an empty view of a camera is nothing to report."""
        if reason is None or (reason, frame.name) == self._told:
            return
        self._refused, self._told = reason, (reason, frame.name)
        if reason is RetryReason.NO_FACE and self._feed.live:
            return
        self._lines.refused(reason, frame)
        self.tally.count(Outcome.RETRY)

    def _events(self, timeout_s: float) -> None:
        while (event := self._stream.next_event(timeout_s)) is not None:
            timeout_s = 0.0
            match event:
                case Online(split_digests):
                    self._connection = ONLINE
                    self._protector.encode_for(split_digests)  # the service may have begun to move to another split
                    self._status.note(f"connected to {self._config.address}")
                case Offline(reason, delay_s):
                    self._connection = f"off-line, next try in {delay_s:.0f} s"
                    self._lose_question()
                    self._status.note(f"off-line, no decisions: {reason}")
                case Stale():
                    self._lose_question()
                case Refused(error):
                    raise error
                case Decided():
                    self._decided(event)

    def _lose_question(self) -> None:
        """No answer will come: the face may be asked about again at once."""
        self._tracker.forget_question()
        self._lost = self._lost or bool(self._questions)
        self._questions.clear()

    def _decided(self, event: Decided) -> None:
        decision = event.decision
        self._tracker.decided(event.tag, decision.outcome, self._position_ns)
        question = self._questions.pop(event.tag, None)
        if question is None:
            return  # too late: the face was given up, and a decision must not act on another one
        self.tally.count(decision.outcome)
        self._lines.decided(event, question.frame, question.timings_ms)
        self._hooks.run(decision)
        words = f"{decision.outcome} {decision.subject_id or decision.reason}"
        self._shown = words, decision.outcome, self._monotonic_s() + SHOWN_FOR_S

    def _message(self) -> tuple[str, Outcome | None]:
        words, outcome, until_s = self._shown
        if self._monotonic_s() < until_s:
            return words, outcome
        if self._refused is not None:
            return self._refused.advice, Outcome.RETRY
        return ("" if self._connection == ONLINE else self._connection), None

    def _preview(self, frame: Frame, capture: Capture) -> None:
        if not self._previews:
            return
        words, outcome = self._message()
        picture = draw(frame.rgb_u8_hwc, capture.detection, words, outcome)
        for preview in self._previews:
            if not preview.show(picture):
                self.stop()

    def _show_status(self) -> None:
        span_s = self._moments[-1] - self._moments[0] if len(self._moments) > 1 else 0.0
        rate = f"{(len(self._moments) - 1) / span_s:.1f} frames/s" if span_s > 0 else ""
        dropped = f"{self._feed.dropped} dropped" if self._feed.dropped else ""
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self.tally.outcomes.items() if count)
        self._status.update(self._connection, rate, dropped, counts, self._message()[0])


def run_agent(
    config: AgentConfig,
    models_root: Path,
    environment: Mapping[str, str],
    lines: JsonLines | None = None,
    status: StatusLine | None = None,
    on_ready: Callable[[Agent], None] = lambda agent: None,
) -> Tally:
    """Build an agent of its settings, run it to the end of its source, and clean up.

    environment: what the commands of decisions inherit.  on_ready: gets the agent, to stop it on a signal.
    Raises DuetFaceError for whatever the command line has to tell in one line.
    """
    cv2.setNumThreads(1)  # as LiteRT and ONNX Runtime: the device's other cores are for others
    with ExitStack() as stack:
        shown = stack.enter_context(status or StatusLine())
        identity = ClientIdentity.load(config.identity_folder)
        protector = Protector.load(models_root, config.split_names)
        previews = _previews(config, stack)
        hooks = CommandHooks(
            {Outcome.ACCEPT: config.on_accept, Outcome.REJECT: config.on_reject}, environment, config.command_timeout_s
        )
        stack.callback(hooks.close)
        feed = open_feed(open_source(config.source))
        stack.callback(feed.close)
        stream = DecisionStream(config.address, identity, protector.able_digests, config.subject_id, config.purpose)
        stack.callback(stream.close)
        stream.start()
        agent = Agent(config, feed, protector, stream, lines or JsonLines(around=shown.aside), shown, hooks, previews)
        on_ready(agent)
        return agent.run()


def _previews(config: AgentConfig, stack: ExitStack) -> list[Preview]:
    previews: list[Preview] = []
    if config.window:
        previews.append(Window(f"DuetFace {config.source}"))
    if config.preview_file is not None:
        previews.append(PreviewFile(config.preview_file))
    for preview in previews:
        stack.callback(preview.close)
    return previews
