"""Which of the teacher's blocks and which part of the crop its embedding rests on: how the learned client was cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from networks.mobile_face_net import MobileFaceNet, unit_length
from training.datasets import Faces

MARGINS = (0, 8, 16)  # pixels of the crop that are blank on each side


@dataclass(frozen=True)
class LeftOut:
    """cosine: of the embedding to the whole teacher's of the whole crop, the mean over the faces."""

    what: str
    cosine: float


@torch.inference_mode()
def leave_out(teacher: MobileFaceNet, faces: Faces, count: int = 200, margin: int = 8) -> Iterator[LeftOut]:
    """Blank margins first, the margin at half the detail, then one residual block at a time under that margin."""
    rows = faces.training_rows()
    chosen = rows[:: max(1, len(rows) // count)][:count]
    pictures = to_pictures(np.stack([faces.crops[row] for row in chosen]))
    whole = unit_length(teacher(pictures))

    def cosine(shown: Tensor) -> float:
        return float((unit_length(teacher(shown)) * whole).sum(dim=1).mean())

    for side in MARGINS:
        yield LeftOut(f"margin of {side} px", cosine(with_margin(pictures, side)))
    shown = with_margin(pictures, margin)
    yield LeftOut(f"margin of {margin} px, half the pixels a side", cosine(with_margin(halved(pictures), margin)))
    for stage, blocks in zip((28, 14, 7), teacher.stages, strict=True):
        for place in range(1, len(blocks)):
            block, blocks[place] = blocks[place], nn.Identity()
            yield LeftOut(f"{stage} x {stage}, block {place}", cosine(shown))
            blocks[place] = block


def to_pictures(crops: NDArray[np.uint8]) -> Tensor:
    """(N, 112, 112, 3) uint8 -> (N, 3, 112, 112) in [-1, 1]."""
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 127.5 - 1


def halved(pictures: Tensor) -> Tensor:
    """(N, 3, 112, 112) with the detail of 56 x 56: means of 2 x 2 pixels, enlarged again."""
    small = nn.functional.avg_pool2d(pictures, 2)
    return nn.functional.interpolate(small, scale_factor=2, mode="bicubic", align_corners=False)


def with_margin(pictures: Tensor, margin: int) -> Tensor:
    """Mid-grey on each side, so many pixels wide."""
    if not margin:
        return pictures
    blank = torch.zeros_like(pictures)
    blank[:, :, margin:-margin, margin:-margin] = pictures[:, :, margin:-margin, margin:-margin]
    return blank
