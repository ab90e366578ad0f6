"""The learned split's trunk: the teacher's blocks on a small picture, as many as a device can afford.

A picture of half the scale without its border has a fifth of the pixels, and half of the residual blocks are left
out: 57 of the teacher's 439 M multiply-accumulates. Which blocks stay was found by leaving each out of the teacher:
those without which its embedding turns away the most are kept (docs/adr/0040).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from networks.mobile_face_net import EMBEDDING, MobileFaceNet

PICTURE = 48  # pixels a side: the middle 96 x 96 of a crop, halved
GRIDS = (12, 6, 3)  # of the three stages
KEPT_28, KEPT_14, KEPT_7 = (0, 2, 3), (0, 1, 2, 3), (0, 1, 2)
_COARSEST, _CHANNELS = 3, 64


class SmallFaceNet(nn.Module):
    """(B, 3, 48, 48) RGB in [-1, 1] -> (B, 512), not normalised."""

    def __init__(self, teacher: MobileFaceNet) -> None:
        """teacher: whose blocks are taken, random or trained; its modules are used, not copied."""
        super().__init__()
        self.stem = teacher.stem
        self.stage_12 = nn.Sequential(*(teacher.stage_28[i] for i in KEPT_28))
        self.stage_6 = nn.Sequential(*(teacher.stage_14[i] for i in KEPT_14))
        self.stage_3 = nn.Sequential(*(teacher.stage_7[i] for i in KEPT_7))
        *convolutions, linear = teacher.head
        assert isinstance(linear, nn.Linear)
        self.head = nn.Sequential(*convolutions, _coarser(linear))

    @property
    def stages(self) -> tuple[nn.Sequential, ...]:
        """The bottlenecks, stage by stage."""
        return self.stage_12, self.stage_6, self.stage_3

    def forward(self, picture: Tensor) -> Tensor:
        """(B, 3, 48, 48) -> (B, 512)."""
        return self.looked(picture)[-1]

    def looked(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The maps of the three stages, (B, C, k, k) with k of GRIDS, and the embedding (B, 512)."""
        at_12 = self.stage_12(self.stem(picture))
        at_6 = self.stage_6(at_12)
        at_3 = self.stage_3(at_6)
        return at_12, at_6, at_3, self.head(at_3)


@torch.no_grad()
def _coarser(linear: nn.Linear) -> nn.Linear:
    """The teacher's last layer, from 7 x 7 cells to 3 x 3: each new cell carries the weights of those it covers."""
    fine = linear.weight.reshape(EMBEDDING, _CHANNELS, 7, 7)
    coarse = nn.functional.interpolate(fine, size=(_COARSEST, _COARSEST), mode="area") * (7 / _COARSEST) ** 2
    layer = nn.Linear(_CHANNELS * _COARSEST**2, EMBEDDING)
    layer.weight.copy_(coarse.reshape(EMBEDDING, -1))
    layer.bias.copy_(linear.bias)
    return layer
