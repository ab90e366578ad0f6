"""One face, one track: whom a decision was about, and when to ask again.

Rules only: no clock, no camera.  Times are positions on the source's time line, nanoseconds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duetface.types import Outcome
from edge_agent.detector import overlaps

Box = NDArray[np.float32]


@dataclass(frozen=True)
class TrackingPolicy:
    """When two sightings are one face, and how long a decision rests.

    minimum_overlap: intersection over union of the boxes.  maximum_step: of the box's centre, in box widths,
    for a face that jumps between slow frames.  lost_after_s: a face unseen for longer is a new one.
    after_*_s: seconds before the same track is asked about again.
    answer_within_s: a question without an answer is given up.
    """

    minimum_overlap: float = 0.3
    maximum_step: float = 0.5
    lost_after_s: float = 1.0
    after_accept_s: float = 5.0
    after_reject_s: float = 2.0  # the service counts failures; a face that is not known gains nothing by haste
    after_retry_s: float = 0.3
    answer_within_s: float = 5.0

    def rest_s(self, outcome: Outcome) -> float:
        """Seconds to leave a track alone after an outcome."""
        rests = {Outcome.ACCEPT: self.after_accept_s, Outcome.REJECT: self.after_reject_s}
        return rests.get(outcome, self.after_retry_s)


@dataclass
class Track:
    """One face as long as it stays in view.

    waiting_until_ns: while a question is under way, when to give it up; None if there is none.
    """

    number: int
    box_xyxy_px: Box
    seen_at_ns: int
    ask_from_ns: int = 0
    waiting_until_ns: int | None = None


class Tracker:
    """Follows the principal face of each frame; holds one track."""

    def __init__(self, policy: TrackingPolicy) -> None:
        self._policy = policy
        self._track: Track | None = None
        self._count = 0

    def observe(self, box_xyxy_px: Box, now_ns: int) -> Track:
        """Return the track that a face at this place belongs to; a new one if it is another face."""
        track = self._track
        if track is None or not self._continues(track, box_xyxy_px, now_ns):
            self._count += 1
            track = self._track = Track(self._count, box_xyxy_px, now_ns, ask_from_ns=now_ns)
        track.box_xyxy_px, track.seen_at_ns = box_xyxy_px, now_ns
        return track

    def should_ask(self, track: Track, now_ns: int) -> bool:
        """Whether the service is to be asked about this track now."""
        if track.waiting_until_ns is not None and now_ns < track.waiting_until_ns:
            return False
        return now_ns >= track.ask_from_ns

    def asked(self, track: Track, now_ns: int) -> None:
        """Note that a question is under way."""
        track.waiting_until_ns = now_ns + round(self._policy.answer_within_s * 1e9)

    def decided(self, number: int, outcome: Outcome, now_ns: int) -> None:
        """Note the answer about a track; one that is gone already is passed over."""
        if self._track is not None and self._track.number == number:
            self._track.waiting_until_ns = None
            self._track.ask_from_ns = now_ns + round(self._policy.rest_s(outcome) * 1e9)

    def forget_question(self) -> None:
        """The connection broke: no answer will come, the track may be asked about again."""
        if self._track is not None:
            self._track.waiting_until_ns = None

    def _continues(self, track: Track, box_xyxy_px: Box, now_ns: int) -> bool:
        if not 0 <= now_ns - track.seen_at_ns <= self._policy.lost_after_s * 1e9:
            return False
        if float(overlaps(box_xyxy_px, track.box_xyxy_px[None])[0]) >= self._policy.minimum_overlap:
            return True
        step = (box_xyxy_px[:2] + box_xyxy_px[2:] - track.box_xyxy_px[:2] - track.box_xyxy_px[2:]) / 2
        widths = float(box_xyxy_px[2] - box_xyxy_px[0]), float(track.box_xyxy_px[2] - track.box_xyxy_px[0])
        like_size = max(widths) <= 1.5 * min(widths)
        return like_size and float(np.hypot(step[0], step[1])) <= self._policy.maximum_step * max(widths)
