"""The published split at its eightfold upsampling, as messages of this project: for comparison only.

It hides nothing from linear algebra (docs/method.md 4.1). It is not in models/ and no agent can make it.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from duetface.frequency import frequency_maps
from duetface.spec import PlaneSpec, SplitSpec
from networks.registry import PAPER_CLIENT_CHANNELS, PAPER_SERVER_CHANNELS

UPSAMPLING = 8
CROP = 112

# Steps that reach half of the largest value seen in 60 training crops, as a share of what any picture could reach.
# Wider steps round more, narrower ones saturate more: the linear attack does best here (49 to 53 dB), so that the
# eight bits of a message are no protection that a sender of float32 would not have.
LUMA_SHARE_AXIS, LUMA_SHARE_INSIDE = 0.5, 0.175  # channels with u = 0 or v = 0; all others
CHROMA_SHARE = 0.075
HALF_RANGE = 127.5


@cache
def published_split(upsampling: int = UPSAMPLING) -> SplitSpec:
    """The paper's channels, 8 bits each with one step a channel, without masks: the attack needs none."""
    blocks = CROP * upsampling // 8
    plane = PlaneSpec(
        name="coefficients",
        shape=(3 * len(PAPER_SERVER_CHANNELS), blocks, blocks),
        bits=8,
        signed=True,
        codec="stored",
        scale=_steps(upsampling),
    )
    return SplitSpec(
        name="paper" if upsampling == UPSAMPLING else f"paper-x{upsampling}",
        version=1,
        family="fixed",
        crop=CROP,
        colour="ycbcr-full-range",
        upsampling=upsampling,
        block=8,
        client_channels=PAPER_CLIENT_CHANNELS,
        server_channels=PAPER_SERVER_CHANNELS,
        planes=(plane,),
    )


def _steps(upsampling: int) -> tuple[float, ...]:
    """One step a channel: 127 steps reach the share of |M_u X M_v^T| <= 127.5 |M_u|_1 |M_v|_1."""
    reach = np.abs(frequency_maps(CROP, upsampling)).sum(axis=2).max(axis=1)  # (8,) row sums |M_u|_1
    luma = []
    for channel in PAPER_SERVER_CHANNELS:
        u, v = divmod(channel, 8)
        share = LUMA_SHARE_INSIDE if u and v else LUMA_SHARE_AXIS
        luma.append(float(share * HALF_RANGE * reach[u] * reach[v] / 127))
    chroma = [float(CHROMA_SHARE * HALF_RANGE * reach[c // 8] * reach[c % 8] / 127) for c in PAPER_SERVER_CHANNELS]
    return tuple(luma + chroma + chroma)
