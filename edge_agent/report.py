"""What the agent says: one JSON line for each decision, and a status line for the person at the terminal."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from duetface.types import LivenessLevel, Outcome
from edge_agent.quality import RetryReason
from edge_agent.sources import Frame
from edge_agent.stream import Decided


def utc_now() -> datetime:
    """The wall clock: for people who read the lines, never for a rule."""
    return datetime.now(UTC)


class JsonLines:
    """Writes decisions to a text stream, one JSON object a line, each flushed."""

    def __init__(
        self,
        output: TextIO | None = None,
        now: Callable[[], datetime] = utc_now,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """output: standard output if None.  around: entered while a line is written, see StatusLine.aside."""
        self._output = output or sys.stdout
        self._now = now
        self._around = around

    def decided(self, event: Decided, frame: Frame, timings_ms: Mapping[str, float]) -> None:
        """Write a decision of the service.

        frame, timings_ms: of the capture that was decided.
        """
        decision = event.decision
        self._write(
            {
                "outcome": str(decision.outcome),
                "reason": decision.reason,
                "subject_id": decision.subject_id or None,
                "liveness": str(decision.liveness),
                "fmr": decision.fmr,
                "fpir": decision.fpir or None,
                "decision_id": decision.decision_id,
                "expires_in_s": decision.expires_in_s,
                "track": event.tag,
                "source": frame.name,
                "frame": frame.index,
                "wire_bytes": event.wire_bytes,
                "device_ms": {stage: round(value, 2) for stage, value in timings_ms.items()},
                "round_trip_ms": round(event.round_trip_ms, 2),
            }
        )

    def refused(self, reason: RetryReason, frame: Frame) -> None:
        """Write that a capture was not good enough to ask about; nothing left the device."""
        self._write(
            {
                "outcome": str(Outcome.RETRY),
                "reason": str(reason),
                "subject_id": None,
                "liveness": str(LivenessLevel.OFF),
                "source": frame.name,
                "frame": frame.index,
                "wire_bytes": 0,
            }
        )

    def _write(self, fields: dict[str, Any]) -> None:
        line = {"at": self._now().isoformat(timespec="milliseconds"), **fields}
        with self._around():
            self._output.write(json.dumps(line) + "\n")
            self._output.flush()


class StatusLine:
    """One line at the bottom of a terminal; nothing at all where standard error is none."""

    def __init__(self, console: Console | None = None) -> None:
        """console: on standard error if None."""
        self._console = console or Console(stderr=True)
        self._live: Live | None = None
        self._said = ""

    def __enter__(self) -> "StatusLine":
        """Begin to show the line."""
        if self._console.is_terminal:
            # Not redirected: rich would send the decisions of standard output to its own console.
            self._live = Live(
                console=self._console, transient=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the line away."""
        if self._live is not None:
            self._live.stop()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the line away while something else is written to the same terminal."""
        if self._live is None:
            yield
            return
        self._live.stop()
        try:
            yield
        finally:
            self._live.start()

    def update(self, *parts: str) -> None:
        """Show the parts that are not empty."""
        if self._live is not None:
            text = Text("  ·  ".join(part for part in parts if part), overflow="ellipsis", no_wrap=True)
            self._live.update(text, refresh=True)

    def note(self, line: str) -> None:
        """Say something that stays, once for as long as it is the same."""
        if line != self._said:
            self._said = line
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
