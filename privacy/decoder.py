"""The trained attacker: one family of residual convolutional decoders from whatever is observed to the crop.

Planes of a message, a template or both enter by stems of their own at a 14 x 14 grid; the body is the same for all,
so that the figures of message and template differ by what is in them and not by the attacker. Width and depth grow
until the figures stop rising. Needs torch and NumPy only: it also runs on a machine without the service.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from privacy.ridge import Arrays
from privacy.start import RidgeStart

GRID = 14


@dataclass(frozen=True)
class DecoderSize:
    """width: channels at 56 x 56, twice and four times as many at 28 and 14.  blocks: residuals a level."""

    width: int = 32
    blocks: int = 2


class Stem(nn.Module):
    """One observed plane (B, C, H, W) -> (B, channels, 14, 14)."""

    mean: Tensor
    spread: Tensor

    def __init__(self, shape: tuple[int, ...], channels: int, mean: Tensor, spread: Tensor) -> None:
        """shape: (C, H, W); a template is (D, 1, 1).  mean, spread: (C,) over the attacker's own faces."""
        super().__init__()
        inputs, side, _ = shape
        self.fold = nn.PixelUnshuffle(side // GRID) if side > GRID else nn.Identity()
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1))
        self.register_buffer("spread", spread.reshape(1, -1, 1, 1))
        self.project: nn.Module
        if side == 1:  # no place to keep: the projection makes one
            self.project = nn.Sequential(
                nn.Flatten(), nn.Linear(inputs, channels * 49), nn.Unflatten(1, (channels, 7, 7))
            )
        else:
            folded = inputs * max(side // GRID, 1) ** 2
            self.project = nn.Conv2d(folded, channels, 3, padding=1)

    def forward(self, plane: Tensor) -> Tensor:
        """Standardise, project, bring to the grid."""
        x: Tensor = self.project(self.fold((plane.float() - self.mean) / self.spread))
        if x.shape[-1] != GRID:
            x = nn.functional.interpolate(x, (GRID, GRID), mode="bilinear", align_corners=False)
        return x


class Residual(nn.Module):
    """x + f(x), f two 3 x 3 convolutions with batch normalisation before each. (B, C, H, W) throughout."""

    def __init__(self, channels: int) -> None:
        """channels: in and out."""
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        result: Tensor = x + self.body(x)
        return result


class Decoder(nn.Module):
    """Observed planes -> (B, 3, 112, 112) in 0 to 255, not clipped."""

    mean_face: Tensor

    def __init__(
        self, stems: Mapping[str, Stem], size: DecoderSize, mean_face: Tensor, start: RidgeStart | None = None
    ) -> None:
        """stems: one a plane, with 4 * width channels.

        mean_face: (3, 112, 112), where an untrained one starts.  start: what it adds to the mean face there, if wished.
        """
        super().__init__()
        self.start = start
        wide, middle, narrow = 4 * size.width, 2 * size.width, size.width
        self.stems = nn.ModuleDict(stems)
        self.body = nn.Sequential(
            *(Residual(wide) for _ in range(size.blocks)),
            *_finer(wide, middle),
            *(Residual(middle) for _ in range(size.blocks)),
            *_finer(middle, narrow),
            *(Residual(narrow) for _ in range(size.blocks)),
            nn.BatchNorm2d(narrow),
            nn.SiLU(),
            *_finer(narrow, 3),
        )
        # The way around the body: a linear map of the stems, which alone undoes a block transform.
        self.around = nn.Sequential(nn.Conv2d(wide, 3 * 64, 3, padding=1), nn.PixelShuffle(8))
        self.register_buffer("mean_face", mean_face)
        for last in (self.body[-2], self.around[0]):
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    def forward(self, observed: Mapping[str, Tensor]) -> Tensor:
        """Plane name -> (B, C, H, W)."""
        x = torch.stack([stem(observed[name]) for name, stem in self.stems.items()]).sum(dim=0)
        picture: Tensor = self.mean_face + 64.0 * (self.body(x) + self.around(x))
        return picture if self.start is None else picture + self.start(observed)


def build_decoder(
    observed: Arrays, size: DecoderSize, mean_face: NDArray[np.floating], seed: int, start: RidgeStart | None = None
) -> Decoder:
    """An untrained decoder for these inputs.

    observed: name -> (N, C, H, W) of the attacker's own faces; the statistics come from them.
    mean_face: (112, 112, 3).  start: see Decoder.
    """
    stems = make_stems(observed, 4 * size.width, seed)
    mean = torch.from_numpy(np.ascontiguousarray(mean_face.transpose(2, 0, 1))).float()
    return Decoder(stems, size, mean, start)


def make_stems(observed: Arrays, channels: int, seed: int) -> dict[str, Stem]:
    """One stem a plane; seeds torch, so that whatever is built next is repeatable as well."""
    torch.manual_seed(seed)
    return {name: _stem(array, channels) for name, array in observed.items()}


def reconstruct(decoder: Decoder, observed: Arrays, device: str = "cpu", batch: int = 128) -> NDArray[np.uint8]:
    """(N, 112, 112, 3) uint8 pictures, as an attacker would save them."""
    decoder.eval()
    count = len(next(iter(observed.values())))
    pictures = []
    with torch.inference_mode():
        for start in range(0, count, batch):
            made = decoder(to_tensors(observed, slice(start, start + batch), device))
            pictures.append(made.round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(pictures)


def to_tensors(observed: Arrays, rows: slice | NDArray[np.int64], device: str) -> dict[str, Tensor]:
    """Chosen rows of each plane as tensors."""
    return {name: torch.from_numpy(np.ascontiguousarray(array[rows])).to(device) for name, array in observed.items()}


def _stem(array: NDArray[np.generic], channels: int) -> Stem:
    sample = array[:: max(1, len(array) // 2000)].astype(np.float32)
    mean = sample.mean(axis=(0, 2, 3))
    spread = sample.std(axis=(0, 2, 3)) + 1e-3  # a silent channel stays silent
    return Stem(array.shape[1:], channels, torch.from_numpy(mean), torch.from_numpy(spread))


def _finer(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, 4 * outputs, 3, padding=1), nn.PixelShuffle(2)
