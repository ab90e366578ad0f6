"""Hints: the maps of the teacher's stages, which a client made of some of its blocks has to find again.

Romero et al., "FitNets", arXiv 1412.6550. Without them a client that was cut out of the teacher learns for a long
time nothing but the mean of all faces (docs/method.md 9.2 saw the same).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from networks.mobile_face_net import MobileFaceNet

BORDER = 8  # pixels of the crop that the client does not see
CROP = 112


class Hints(nn.Module):
    """Mean squared error of standardised maps, summed over the stages; the teacher sees the same changed picture."""

    def __init__(self, teacher: MobileFaceNet) -> None:
        """teacher: trained; it stays as it is."""
        super().__init__()
        self.teacher = teacher.eval().requires_grad_(False)

    def forward(self, rgb: Tensor, maps: tuple[Tensor, ...]) -> Tensor:
        """rgb: (B, 3, 112, 112) in 0..255.  maps: of three stages, (B, C, k, k).  Returns a scalar."""
        picture = (rgb / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast(rgb.device.type, torch.bfloat16):
            at_28 = self.teacher.stage_28(self.teacher.stem(picture))
            at_14 = self.teacher.stage_14(at_28)
            at_7 = self.teacher.stage_7(at_14)
        pairs = zip(maps, (at_28, at_14, at_7), strict=True)
        return torch.stack([difference(mine, seen_by_client(theirs.float(), mine)) for mine, theirs in pairs]).sum()


def seen_by_client(teachers: Tensor, clients: Tensor) -> Tensor:
    """The teacher's map without the border and at the client's size: (B, C, K, K) -> (B, C, k, k)."""
    finer = nn.functional.interpolate(teachers, scale_factor=2, mode="nearest")  # half cells: the border is 0.5 of 7
    border = BORDER * finer.shape[-1] // CROP
    middle = finer[:, :, border:-border, border:-border]
    return nn.functional.avg_pool2d(middle, middle.shape[-1] // clients.shape[-1])


def difference(clients: Tensor, teachers: Tensor) -> Tensor:
    """Mean squared error in units of each channel's standard deviation at the teacher. (B, C, k, k) -> scalar."""
    deviation = teachers.std(dim=(0, 2, 3), keepdim=True) + 1e-3
    return ((clients.float() - teachers) / deviation).square().mean()
