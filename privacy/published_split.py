"""The published split at its eightfold upsampling, as messages of this project: for comparison only.

It hides nothing from linear algebra (docs/method.md 4.1). No agent can make it, and `serve` refuses it.
"""

from __future__ import annotations

from functools import cache

from duetface.spec import SplitSpec
from networks.registry import fixed_split, without_masks

UPSAMPLING = 8


@cache
def published_split(upsampling: int = UPSAMPLING) -> SplitSpec:
    """The paper's channels, 8 bits each with one step a channel, without masks: the attack needs none."""
    return without_masks(fixed_split("paper" if upsampling == UPSAMPLING else f"paper-x{upsampling}", upsampling))
