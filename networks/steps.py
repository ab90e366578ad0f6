"""Quantiser steps of the fixed splits: one a server channel, Y's, then Cb's and Cr's. Measured, not derived.

`python -m training steps --split NAME` shows what other steps would cost.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from duetface.frequency import BLOCK, frequency_maps
from duetface.splitting import COMPONENTS

# Luma channels whose RMS over 302 training crops is 10 or more (docs/adr/0001): a wider step keeps
# their peaks (309 measured, 381 representable) from saturating; the others have room at 254.
STRONG_LUMA_CHANNELS = frozenset({3, 4, 5, 6, 10, 11, 12, 17, 18, 19, 24, 25, 26, 32, 40})
STRONG_STEP = 3.0
STEP = 2.0
INTERPOLATED_FINER = 4  # times, at upsampling 2: `python -m training steps --split r2`
# Peaks over the same crops: 726, 494, 570. Only splits that keep fewer than the paper's ten channels send these.
LOW_LUMA_STEPS = {2: 6.0, 9: 4.0, 16: 5.0}

# At upsampling 8, steps that reach half of the largest value seen in 60 training crops, as a share of what any
# picture could reach. Wider steps round more, narrower ones saturate more: the linear attack does best here (49 to
# 53 dB), so that the eight bits of a message are no protection that a sender of float32 would not have.
LUMA_SHARE_AXIS, LUMA_SHARE_INSIDE = 0.5, 0.175  # channels with u = 0 or v = 0; all others
CHROMA_SHARE = 0.075
HALF_RANGE = 127.5


def high_pass_steps(channels: Sequence[int], upsampling: int = 1) -> tuple[float, ...]:
    """For upsampling 1 and 2: plain numbers, since a block's coefficients span some hundreds.

    channels: the server's, of one colour plane.  At upsampling 2 the high ones are faint: most have an RMS below 2.
    """
    luma = [LOW_LUMA_STEPS.get(c, STRONG_STEP if c in STRONG_LUMA_CHANNELS else STEP) for c in channels]
    steps = luma + [STEP] * ((COMPONENTS - 1) * len(channels))
    return tuple(step / (INTERPOLATED_FINER if upsampling > 1 else 1) for step in steps)


def published_steps(channels: Sequence[int], crop: int, upsampling: int) -> tuple[float, ...]:
    """For upsampling 4 and 8: 127 steps reach the share of |M_u X M_v^T| <= 127.5 |M_u|_1 |M_v|_1."""
    reach = np.abs(frequency_maps(crop, upsampling)).sum(axis=2).max(axis=1)  # (8,) row sums |M_u|_1
    largest = [float(HALF_RANGE * reach[c // BLOCK] * reach[c % BLOCK] / 127) for c in channels]
    axis = [c < BLOCK or c % BLOCK == 0 for c in channels]
    shares = [LUMA_SHARE_AXIS if on else LUMA_SHARE_INSIDE for on in axis]
    luma = [share * step for share, step in zip(shares, largest, strict=True)]
    return tuple(luma + [CHROMA_SHARE * step for step in largest] * (COMPONENTS - 1))
