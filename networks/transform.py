"""The fixed linear maps as torch layers: picture -> DCT channels (client) and back (server).

Their numbers come from duetface.frequency, so training, serving and attacks cannot drift apart.
Buffers are not persistent: a checkpoint holds what was trained and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from duetface import frequency
from duetface.spec import SplitSpec
from duetface.splitting import CHANNELS, COMPONENTS, rows_of
from networks.constants import register_constant
from networks.estimate import EstimatingInverse

# The high-pass is faint: times 4 it fills the teacher's range (docs/method.md 8.6).
HIGH_PASS_GAIN = 4.0
# Frequencies of a block that tell its slope: 7 alone would do in float; with 6, eight bits lose half as much.
SLOPES = (6, 7)


class BlockDct(nn.Module):
    """(B, 3, 112, 112) RGB 0..255 -> client and server channels, as duetface.frequency and splitting."""

    colour: Tensor
    rows: Tensor
    client: Tensor
    server: Tensor

    def __init__(self, spec: SplitSpec) -> None:
        """spec: which channels go where, and the upsampling."""
        super().__init__()
        maps = frequency.frequency_maps(spec.crop, spec.upsampling)
        self.blocks = maps.shape[1]
        register_constant(self, "colour", frequency.RGB_TO_YCBCR)
        register_constant(self, "rows", maps.reshape(frequency.BLOCK * self.blocks, spec.crop))
        register_constant(self, "client", rows_of(spec.client_channels))
        register_constant(self, "server", rows_of(spec.server_channels))

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (B, 3 * client, K, K) and (B, 3 * server, K, K) float32, K blocks a side."""
        ycbcr = torch.einsum("cr,brhw->bchw", self.colour, rgb)
        # Y is centred before the transform: subtracting 128 from DC afterwards would round differently.
        ycbcr = torch.cat([ycbcr[:, :1] - 128, ycbcr[:, 1:]], dim=1)
        square = self.rows @ ycbcr @ self.rows.T  # (B, 3, 8 K, 8 K)
        block, k = frequency.BLOCK, self.blocks
        stacked = square.reshape(-1, COMPONENTS, block, k, block, k).permute(0, 1, 2, 4, 3, 5)
        channels = stacked.reshape(-1, COMPONENTS * CHANNELS, k, k)
        return channels[:, self.client], channels[:, self.server]


class InverseBlockDct(nn.Module):
    """Server channels at upsampling 1 -> a picture-shaped input: the missing channels are zero, the rest is lifted.

    One transposed convolution of stride 8 per colour plane, then YCbCr -> RGB. Centred on 0, where the teacher
    expects mid-grey. Blocks do not overlap here: a better guess at what is missing has nothing to go by.
    """

    basis: Tensor
    colour: Tensor

    def __init__(self, spec: SplitSpec) -> None:
        """spec: the server's channels."""
        super().__init__()
        dct = frequency.dct_matrix()
        basis = np.einsum("ux,vy->uvxy", dct, dct).reshape(CHANNELS, frequency.BLOCK, frequency.BLOCK)
        chosen = basis[list(spec.server_channels)]
        register_constant(self, "basis", np.concatenate([chosen] * COMPONENTS)[:, None])  # (3 * S, 1, 8, 8)
        back = np.linalg.inv(frequency.RGB_TO_YCBCR) * (HIGH_PASS_GAIN / 127.5)
        register_constant(self, "colour", back[:, :, None, None])  # a 1 x 1 convolution

    def forward(self, coefficients: Tensor) -> Tensor:
        """(B, 3 * S, K, K) -> (B, 3, 112, 112)."""
        planes = nn.functional.conv_transpose2d(coefficients, self.basis, stride=frequency.BLOCK, groups=COMPONENTS)
        return nn.functional.conv2d(planes, self.colour)


class IntegratingInverse(nn.Module):
    """Server channels of the published split (upsampling 8) -> the picture less the mean of each colour plane.

    A block there spans less than a pixel, so channels (0, v) and (u, 0) of the highest frequencies are the
    picture's slopes, and a Poisson equation gives the picture back (docs/method.md 4.1). It is separable: with
    M_0 V orthonormal and V^T (sum of M_u^T M_u) V diagonal, it is solved by products of 112 x 112 matrices, where
    the paper's stem takes thirty times the work. The other channels say the same again and are not read.
    """

    level: Tensor
    slopes: Tensor
    basis: Tensor
    inverse: Tensor
    colour: Tensor
    across: Tensor
    down: Tensor

    def __init__(self, spec: SplitSpec) -> None:
        """spec: a split whose server holds the channels of SLOPES along both axes. Raises ValueError otherwise."""
        super().__init__()
        wanted = {*SLOPES, *(frequency.BLOCK * u for u in SLOPES)}
        if not wanted <= set(spec.server_channels):
            raise ValueError(f"split {spec.name}: the server lacks some of the channels {sorted(wanted)}")
        maps = frequency.frequency_maps(spec.crop, spec.upsampling)  # (8, K, 112); K = 112 blocks at upsampling 8
        basis, weight = poisson_basis(maps[0], maps[list(SLOPES)])
        register_constant(self, "level", maps[0] @ basis)  # (K, 112)
        register_constant(self, "slopes", maps[list(SLOPES)] @ basis)  # (S, K, 112)
        register_constant(self, "basis", basis)
        register_constant(self, "inverse", weight)
        register_constant(self, "across", _places(spec, SLOPES))
        register_constant(self, "down", _places(spec, [frequency.BLOCK * u for u in SLOPES]))
        back = np.linalg.inv(frequency.RGB_TO_YCBCR) / 127.5
        register_constant(self, "colour", back[:, :, None, None])  # a 1 x 1 convolution

    def forward(self, coefficients: Tensor) -> Tensor:
        """(B, 3 * S, K, K) -> (B, 3, 112, 112)."""
        shape = (-1, COMPONENTS, len(SLOPES), *coefficients.shape[-2:])
        across = coefficients[:, self.across].reshape(shape)  # (B, 3, S, K, K) = M_0 X M_v^T
        down = coefficients[:, self.down].reshape(shape)  # M_u X M_0^T
        across = self.level.T @ (across @ self.slopes).sum(dim=2)
        down = (self.slopes.transpose(1, 2) @ down).sum(dim=2) @ self.level
        planes = self.basis @ ((across + down) * self.inverse) @ self.basis.T
        return nn.functional.conv2d(planes, self.colour)


def poisson_basis(
    level: NDArray[np.floating], slopes: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """V and 1 / (a_i + a_j) with V^T L^T L V = 1 and V^T (sum of S^T S) V = diag(a).

    level: (K, N), of full rank.  slopes: (S, K, N), which all map a constant to zero.
    The entry of the constant, whose a is 0, is 0: nothing is known of it.
    """
    lower = np.linalg.inv(np.linalg.cholesky(level.T @ level))
    slope = np.einsum("skn,skm->nm", slopes, slopes)
    values, vectors = np.linalg.eigh(lower @ slope @ lower.T)
    sums = values[:, None] + values[None, :]
    sums[0, 0] = np.inf
    return lower.T @ vectors, 1 / sums


def _places(spec: SplitSpec, channels: Sequence[int]) -> NDArray[np.int64]:
    """Where the given channels of Y, Cb and Cr stand among the server's, component by component."""
    each = np.array([spec.server_channels.index(channel) for channel in channels])
    places: NDArray[np.int64] = len(spec.server_channels) * np.arange(COMPONENTS)[:, None] + each
    return places.reshape(-1)


def inverse_transform(spec: SplitSpec) -> nn.Module:
    """The fixed layer that shows the trunk a picture of what was sent. (B, C, K, K) -> (B, 3, 112, 112)."""
    if spec.colour == "rgb":
        return nn.Identity()
    if spec.upsampling == 1:
        return InverseBlockDct(spec)
    return IntegratingInverse(spec) if spec.upsampling == max(frequency.UPSAMPLINGS) else EstimatingInverse(spec)


class Quantiser(nn.Module):
    """Values as they arrive at the service: rounded to the plane's codes and decoded again.

    The gradient passes straight through the rounding (Bengio et al., arXiv 1308.3432).
    """

    scale: Tensor

    def __init__(self, spec: SplitSpec, plane: str) -> None:
        """plane: name of the plane whose scale, offset and bits are used."""
        super().__init__()
        described = spec.plane(plane)
        register_constant(self, "scale", np.asarray(described.scale)[:, None, None])
        self.offset = described.offset
        highest = 2 ** (described.bits - 1) - 1 if described.signed else 2**described.bits - 1
        self.low, self.high = (-highest if described.signed else 0), highest

    def forward(self, values: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape, each value one of the plane's levels."""
        # In place: at upsampling 8 a batch's coefficients are half a gigabyte, and each copy costs more than the sum.
        codes = (values.detach() - self.offset).div_(self.scale).round_().clamp_(self.low, self.high)
        decoded = codes.mul_(self.scale).add_(self.offset)
        return values + (decoded - values.detach()) if values.requires_grad else decoded
