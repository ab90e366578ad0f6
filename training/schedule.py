"""Learning rate over one run: a linear rise, then half a cosine down to nothing."""

from __future__ import annotations

import math


def rate_factor(progress: float, warm_up: float) -> float:
    """Share of the peak rate at a progress in [0, 1] through the run."""
    if progress < warm_up:
        return max(progress / warm_up, 0.02)  # never quite zero: the first steps should move
    return 0.5 * (1 + math.cos(math.pi * min((progress - warm_up) / (1 - warm_up), 1.0)))
