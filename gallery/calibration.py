"""From a false match rate to a threshold, and how sure the sample behind it lets us be (ISO/IEC 19795-1).

Built from comparisons of different people who took no part in training. Only the tail of the
impostor scores is kept, since no useful threshold lies below it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from duetface.errors import ConfigError
from duetface.metrics import clopper_pearson


class CalibrationError(ConfigError):
    """The sample behind a calibration does not support what was asked of it."""


@dataclass(frozen=True)
class SourceFigures:
    """People of one source set compared among themselves, at the thresholds of the whole sample.

    at_fmr: the FMRs of those thresholds.  impostor, genuine: comparisons.
    false_matches, false_non_matches: how many went wrong at each.
    """

    people: int
    impostor: int
    genuine: int
    at_fmr: tuple[float, ...]
    false_matches: tuple[int, ...]
    false_non_matches: tuple[int, ...]

    def __post_init__(self) -> None:
        """Raises CalibrationError for counts that cannot be."""
        if not len(self.at_fmr) == len(self.false_matches) == len(self.false_non_matches):
            raise CalibrationError("a source set needs one count a threshold")
        if any(count > self.impostor for count in self.false_matches):
            raise CalibrationError("more false matches than impostor comparisons")
        if any(count > self.genuine for count in self.false_non_matches):
            raise CalibrationError("more false non-matches than genuine comparisons")

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> SourceFigures:
        """From plain JSON values. Raises CalibrationError for an unknown or missing key."""
        try:
            counts: dict[str, Any] = {key: tuple(raw[key]) for key in ("at_fmr", "false_matches", "false_non_matches")}
            return SourceFigures(**{**raw, **counts})
        except (KeyError, TypeError) as error:
            raise CalibrationError(f"figures of a source set: {error}") from error


@dataclass(frozen=True)
class Calibration:
    """Impostor and genuine cosine similarities of one template space.

    impostor_tail: the largest impostor similarities, ascending.  n_impostor: comparisons, tail included.
    n_identities: different people behind them; comparisons of one person hang together, so the
    interval, which takes them as independent, is too narrow rather than too wide.
    genuine: similarities of the same person's pictures, ascending.  sample: where the pictures come from.
    by_source: the same by source set, for people who ask how much rates differ; no threshold comes from it.
    """

    n_impostor: int
    n_identities: int
    impostor_tail: tuple[float, ...]
    genuine: tuple[float, ...]
    sample: str
    by_source: Mapping[str, SourceFigures] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises CalibrationError for a sample that cannot be."""
        if not 0 < len(self.impostor_tail) <= self.n_impostor:
            raise CalibrationError(f"a tail of {len(self.impostor_tail)} among {self.n_impostor} comparisons")
        if list(self.impostor_tail) != sorted(self.impostor_tail) or list(self.genuine) != sorted(self.genuine):
            raise CalibrationError("similarities are not in ascending order")

    @property
    def smallest_fmr(self) -> float:
        """One false match in all comparisons: below that the sample says nothing."""
        return 1 / self.n_impostor

    @property
    def largest_fmr(self) -> float:
        """The share of comparisons that the tail covers."""
        return len(self.impostor_tail) / self.n_impostor

    def threshold_at(self, fmr: float) -> float:
        """The lowest similarity that at most this share of impostor comparisons reaches.

        A comparison matches if its similarity is at or above the threshold.
        Raises CalibrationError if the sample is too small for the rate, or the rate lies outside the tail.
        """
        allowed = self._allowed(fmr)
        refused, admitted = self.impostor_tail[-allowed - 1], self.impostor_tail[-allowed]
        # Midway, so that rounding lets nobody in; above both where they are equal.
        return max((refused + admitted) / 2, math.nextafter(refused, math.inf))

    def fmr_at(self, threshold: float) -> float:
        """Observed share of impostor comparisons at or above the threshold.

        Raises CalibrationError for a threshold below the tail, where the count is not known.
        """
        return self._matches(threshold) / self.n_impostor

    def interval(self, fmr: float) -> tuple[float, float]:
        """95 % Clopper-Pearson interval of the true FMR at threshold_at(fmr)."""
        low, high = clopper_pearson(self._matches(self.threshold_at(fmr)), self.n_impostor)
        return low, high

    def fnmr_at(self, threshold: float) -> float:
        """Observed share of genuine comparisons below the threshold. Raises CalibrationError without any."""
        if not self.genuine:
            raise CalibrationError("no genuine comparisons in this calibration")
        return bisect_left(self.genuine, threshold) / len(self.genuine)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; similarities with five decimals, far finer than they repeat."""
        plain = asdict(self)
        plain["impostor_tail"] = [round(value, 5) for value in self.impostor_tail]
        plain["genuine"] = [round(value, 5) for value in self.genuine]
        return plain

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Calibration:
        """The inverse of to_dict. Raises CalibrationError for an unknown or missing key; only by_source may lack."""
        expected = {known.name for known in fields(Calibration)}
        if set(raw) | {"by_source"} != expected:
            raise CalibrationError(f"calibration has keys {sorted(raw)}, expected {sorted(expected)}")
        sources = {name: SourceFigures.from_dict(figures) for name, figures in raw.get("by_source", {}).items()}
        similarities = {key: tuple(raw[key]) for key in ("impostor_tail", "genuine")}
        return Calibration(**{**raw, **similarities, "by_source": sources})

    def _allowed(self, fmr: float) -> int:
        """How many impostor comparisons may match."""
        allowed = int(fmr * self.n_impostor + 1e-9)
        if allowed < 1:
            raise CalibrationError(
                f"an FMR of {fmr:g} was asked for, but {self.n_impostor} impostor comparisons support "
                f"{self.smallest_fmr:.2g} at best: choose that or more, or calibrate on more people"
            )
        if allowed >= len(self.impostor_tail):
            raise CalibrationError(f"an FMR of {fmr:g} was asked for; this calibration reaches {self.largest_fmr:.2g}")
        return allowed

    def _matches(self, threshold: float) -> int:
        if threshold < self.impostor_tail[0]:
            raise CalibrationError(
                f"the threshold lies below the kept tail, where the FMR is over {self.largest_fmr:.2g}"
            )
        return len(self.impostor_tail) - bisect_left(self.impostor_tail, threshold)
