"""How close a reconstruction is to the picture: PSNR, SSIM, and intervals by a bootstrap over people.

Every figure is a mean over pictures; a person with many pictures is resampled as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duetface.errors import ConfigError

PEAK = 255.0
WINDOW_TAPS = 11
WINDOW_SIGMA = 1.5
LUMA = np.array([0.299, 0.587, 0.114])  # Rec. ITU-T T.871, as in duetface.frequency

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % bootstrap interval over people."""

    mean: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Plain numbers, rounded."""
        return {"mean": rounded(self.mean), "low": rounded(self.low), "high": rounded(self.high)}


def rounded(value: float) -> float:
    """Four decimals, more would be noise; small rates keep three digits."""
    return round(value, 4) if abs(value) >= 0.01 else float(f"{value:.3g}")


def psnr(rgb: NDArray[np.generic], reference: NDArray[np.generic]) -> Floats:
    """Peak signal-to-noise ratio in dB of each picture, over all three colours.

    rgb, reference: (N, H, W, 3), 0 to 255, any type; values outside are clipped as a screen would.
    Returns (N,) float64; infinity for equal pictures.
    """
    difference = _on_screen(rgb) - _on_screen(reference)
    error = np.square(difference).reshape(len(difference), -1).mean(axis=1)
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(PEAK**2 / error))


def ssim(rgb: NDArray[np.generic], reference: NDArray[np.generic]) -> Floats:
    """Structural similarity of luma (Wang et al., IEEE TIP 13(4) 2004, eq. 13), mean over all whole windows.

    rgb, reference: (N, H, W, 3), 0 to 255.  Gaussian window of 11 taps, sigma 1.5; K1 = 0.01, K2 = 0.03.
    Returns (N,) float64 in [-1, 1].
    """
    x, y = _on_screen(rgb) @ LUMA, _on_screen(reference) @ LUMA  # (N, H, W)
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    mean_x, mean_y = _windowed(x), _windowed(y)
    variance_x = _windowed(x * x) - mean_x**2
    variance_y = _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )
    return np.asarray(similarity.mean(axis=(1, 2)))


def bootstrap(values: Floats, people: Sequence[str], seed: int = 1, resamples: int = 2000) -> Interval:
    """The mean of per-picture values and its 95 % percentile interval, people resampled with replacement.

    values: (N,).  people: who is on picture i.
    Raises ConfigError for fewer than two people: nothing could be said about others.
    """
    _, person = np.unique(np.asarray(people), return_inverse=True)
    count = int(person.max()) + 1 if len(person) else 0
    if count < 2 or len(person) != len(values):
        raise ConfigError(f"got {len(values)} values of {count} people, expected one a picture and two people or more")
    sums, pictures = np.bincount(person, values), np.bincount(person)
    drawn = np.random.default_rng(seed).integers(0, count, (resamples, count))
    means = sums[drawn].sum(axis=1) / pictures[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(np.mean(values)), float(low), float(high))


def gaussian_window() -> Floats:
    """(11,) weights that sum to 1."""
    taps = np.arange(WINDOW_TAPS) - WINDOW_TAPS // 2
    weights = np.exp(-(taps**2) / (2 * WINDOW_SIGMA**2))
    return np.asarray(weights / weights.sum())


def _windowed(planes: Floats) -> Floats:
    """Gaussian mean over each whole window: (N, H, W) -> (N, H - 10, W - 10)."""
    rows = np.lib.stride_tricks.sliding_window_view(planes, WINDOW_TAPS, axis=1) @ gaussian_window()
    return np.asarray(np.lib.stride_tricks.sliding_window_view(rows, WINDOW_TAPS, axis=2) @ gaussian_window())


def _on_screen(rgb: NDArray[np.generic]) -> Floats:
    if rgb.ndim != 4 or rgb.shape[-1] != 3:
        raise ValueError(f"got shape {rgb.shape}, expected (N, H, W, 3) RGB")
    return np.clip(rgb.astype(np.float64), 0.0, PEAK)
