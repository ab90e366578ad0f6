"""Guided enrolment at a camera: says what is wrong, how many are taken, and takes back what does not agree."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from duetface.client import Client
from duetface.errors import DeviceError
from edge_agent.camera import FrameFeed
from edge_agent.enrolment import Enrolled, Enrolment
from edge_agent.pipeline import Protector
from edge_agent.quality import RetryReason
from edge_agent.sources import Frame

SPACING_NS = 700_000_000  # captures of one moment would all be the same look
PATIENCE_NS = 60_000_000_000  # without a usable face; then the person has left or cannot be taken here
SILENCE_S = 10.0
FAR = "far_from_own"


def frames_of(feed: FrameFeed) -> Iterator[Frame]:
    """Frames until the feed ends.  Raises DeviceError when none comes for ten seconds."""
    while True:
        frame = feed.take(SILENCE_S)
        if frame is not None:
            yield frame
        elif feed.ended:
            return
        else:
            raise DeviceError(f"no picture for {SILENCE_S:.0f} s: is the camera in use by another program?")


@dataclass
class GuidedEnrolment:
    """Takes `count` captures of one subject that agree with one another.

    tell: gets each line for the person in front of the camera.
    """

    enrolment: Enrolment
    client: Client
    protector: Protector
    tell: Callable[[str], None]
    results: list[Enrolled] = field(default_factory=list)
    _advice: RetryReason | None = None

    def run(self, subject_id: str, label: str, frames: Iterable[Frame], count: int) -> list[Enrolled]:
        """Go through the frames until enough captures are taken, or nobody usable came for a minute.

        Time is that of the frames, so nothing here waits.
        """
        last_ns: int | None = None
        for frame in frames:
            last_ns = frame.position_ns if last_ns is None else last_ns
            waited_ns = frame.position_ns - last_ns
            outcome = self.protector.protect(frame.rgb_u8_hwc, frame.captured_at_monotonic_ns)
            if outcome.probe is None:
                self._advise(outcome.reason)
                if waited_ns > PATIENCE_NS:
                    self.tell("no usable face for a minute: stopped")
                    break
            elif not self.results or waited_ns >= SPACING_NS:
                last_ns = frame.position_ns
                name = f"capture {len(self.results) + 1}"
                self._take(self.enrolment.add_probe(Enrolled(subject_id, name), outcome.probe, label), count)
                if self._taken >= count or len(self.results) >= 3 * count:
                    break
        return self.results

    @property
    def _taken(self) -> int:
        return sum(bool(result.template_id) for result in self.results)

    def _take(self, result: Enrolled, count: int) -> None:
        """Keep a capture, or take it back if it is not of the person of the ones before."""
        if FAR in result.warnings:
            self.client.delete_template(result.template_id)
            result = Enrolled(result.subject_id, result.picture, refusal=FAR)
            self.tell("does not agree with the captures before: taken back; is it the same person?")
        self.results.append(result)
        self._advice = None
        if result.template_id:
            turn = "" if self._taken >= count else ": now turn the head a little"
            self.tell(f"{self._taken} of {count} taken{turn}")

    def _advise(self, reason: RetryReason | None) -> None:
        """Say what is wrong, once for as long as it stays the same."""
        if reason is not None and reason is not self._advice:
            self._advice = reason
            self.tell(reason.advice)
