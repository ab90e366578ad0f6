"""The interactive block, repaired: the client's attention raises what the server sees (docs/method.md 1.5).

The published code drew a fresh random projection at each call; the figure has no learned layer there.
Here the mask comes ready from the client, one channel, and one scalar weighs it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Above zero, because at w = 0 the client network gets no gradient; small, to keep the warm start.
INITIAL_WEIGHT = 0.1


class Interaction(nn.Module):
    """out = x + w * m * x. The gate of the paper (sigmoid) would throw a warm-started trunk away."""

    def __init__(self) -> None:
        """One trainable scalar."""
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(INITIAL_WEIGHT))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: (B, C, H, W).  mask: (B, 1, H, W) in [0, 1].  Returns x's shape."""
        return x * raised(self.weight * mask, x)


class GatedInteraction(nn.Module):
    """The figure's form, out = g + g * m with g = sigmoid(x), no learned layer: for the ablation."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: (B, C, H, W).  mask: (B, 1, H, W) in [0, 1].  Returns x's shape, values in (0, 2)."""
        return torch.sigmoid(x) * raised(mask, x)


def raised(attention: Tensor, x: Tensor) -> Tensor:
    """1 + attention in x's type: where x is bf16 the trunk stays so, instead of going on in float32."""
    return (1 + attention).to(x.dtype)


INTERACTIONS = {"weighted": Interaction, "gated": GatedInteraction}
