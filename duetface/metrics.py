"""Error rates of open-set identification and their confidence intervals (ISO/IEC 19795-1).

TPIR: share of enrolled people's probes whose own subject comes first, at or above the threshold.
FPIR: share of strangers' probes that any subject reaches the threshold for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
_TINY = 1e-300
_CONTINUED_FRACTION_LIMIT = 100_000


@dataclass(frozen=True)
class Rate:
    """An observed rate with its exact (Clopper-Pearson) interval at 95 %.

    value is 0 when nothing was tried; the interval then is the whole of [0, 1].
    """

    count: int
    trials: int

    @property
    def value(self) -> float:
        """The observed rate, in [0, 1]."""
        return self.count / self.trials if self.trials else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper limit, in [0, 1]."""
        return clopper_pearson(self.count, self.trials)


@dataclass(frozen=True)
class OperatingPoint:
    """One threshold of a sweep: TPIR at the largest observed FPIR that is not above the wanted one.

    threshold: cosine similarity; infinite when the wanted FPIR allows no acceptance at all.
    """

    threshold: float
    tpir: Rate
    fpir: Rate


@dataclass(frozen=True)
class SearchScores:
    """What a search of known people and strangers gave.

    own: (P,) float64, for every probe of a known person that was captured: the similarity of its own subject where
        that one came first, -inf where another did.
    missed: probes of known people of which no face could be captured; each counts against TPIR.
    strangers: (S,) float64, similarity of the nearest subject for every captured stranger.
    """

    own: NDArray[np.float64]
    missed: int
    strangers: NDArray[np.float64]

    def at(self, threshold: float) -> OperatingPoint:
        """TPIR and FPIR when a similarity of at least `threshold` is accepted."""
        hits = int(np.count_nonzero(self.own >= threshold))
        false = int(np.count_nonzero(self.strangers >= threshold))
        return OperatingPoint(threshold, Rate(hits, len(self.own) + self.missed), Rate(false, len(self.strangers)))

    def at_fpir(self, wanted: float) -> OperatingPoint:
        """The lowest threshold whose observed FPIR is at most `wanted`."""
        allowed = math.floor(wanted * len(self.strangers) + 1e-9)
        descending = np.sort(self.strangers)[::-1]
        if allowed >= len(descending):
            return self.at(-1.0)
        # Just above the first stranger who must not get in: with ties all of them stay out.
        return self.at(float(np.nextafter(descending[allowed], math.inf)))

    def det_curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """FPIR (rising) and FNIR = 1 - TPIR at every threshold that a stranger's similarity sets, each (S + 1,)."""
        points = [self.at_fpir(count / max(1, len(self.strangers))) for count in range(len(self.strangers) + 1)]
        fpir = np.array([point.fpir.value for point in points])
        return fpir, np.array([1.0 - point.tpir.value for point in points])


def search_scores(own: Sequence[float], missed: int, strangers: Sequence[float]) -> SearchScores:
    """SearchScores of plain numbers."""
    return SearchScores(np.asarray(own, np.float64), missed, np.asarray(strangers, np.float64))


def clopper_pearson(count: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact two-sided interval of a binomial proportion (Clopper and Pearson, Biometrika 1934).

    Raises ValueError for a count outside [0, trials].
    """
    if not 0 <= count <= trials:
        raise ValueError(f"{count} of {trials}: expected a count between 0 and the number of trials")
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if count == 0 else _beta_quantile(tail, count, trials - count + 1)
    high = 1.0 if count == trials else _beta_quantile(1.0 - tail, count + 1, trials - count)
    return low, high


def _beta_quantile(probability: float, a: float, b: float) -> float:
    """The x in [0, 1] at which the beta distribution's CDF reaches `probability`, by bisection."""
    low, high = 0.0, 1.0
    while high - low > 1e-15 * max(high, 1e-3):
        middle = (low + high) / 2.0
        if middle in (low, high):
            break
        if _beta_cdf(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0


def _beta_cdf(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function I_x(a, b) (DLMF 8.17.22)."""
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    # The continued fraction converges fast only left of the mean; use the symmetry on the right.
    if x < (a + 1.0) / (a + b + 2.0):
        return math.exp(log_front) * _beta_fraction(x, a, b) / a
    return 1.0 - math.exp(log_front) * _beta_fraction(1.0 - x, b, a) / b


def _beta_fraction(x: float, a: float, b: float) -> float:
    """Continued fraction of DLMF 8.17.22 by Lentz's method."""
    c, d = 1.0, 1.0 / _away_from_zero(1.0 - (a + b) * x / (a + 1.0))
    value = d
    for m in range(1, _CONTINUED_FRACTION_LIMIT):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / _away_from_zero(1.0 + term * d)
            c = _away_from_zero(1.0 + term / c)
            value *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
