"""The fixed linear maps as torch layers: picture -> DCT channels (client) and back (server).

Their numbers come from duetface.frequency, so training, serving and attacks cannot drift apart.
Buffers are not persistent: a checkpoint holds what was trained and nothing else.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from duetface import frequency
from duetface.spec import SplitSpec
from duetface.splitting import CHANNELS, COMPONENTS, rows_of

# The high-pass is faint: times 4 it fills the teacher's range (docs/method.md 8.6).
HIGH_PASS_GAIN = 4.0


def _constant(module: nn.Module, name: str, array: NDArray[np.floating] | NDArray[np.integer]) -> None:
    tensor = torch.from_numpy(np.array(array))
    module.register_buffer(name, tensor.float() if tensor.is_floating_point() else tensor, persistent=False)


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
        _constant(self, "colour", frequency.RGB_TO_YCBCR)
        _constant(self, "rows", maps.reshape(frequency.BLOCK * self.blocks, spec.crop))
        _constant(self, "client", rows_of(spec.client_channels))
        _constant(self, "server", rows_of(spec.server_channels))

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
    """Server channels -> a picture-shaped input: the missing channels are zero, the rest is lifted.

    One transposed convolution of stride 8 per colour plane, then (upsampling > 1) the pseudo-inverse of
    the interpolation, then YCbCr -> RGB. Centred on 0, where the teacher expects mid-grey.
    """

    basis: Tensor
    shrink: Tensor
    colour: Tensor

    def __init__(self, spec: SplitSpec) -> None:
        """spec: the server's channels and the upsampling."""
        super().__init__()
        self.upsampled = spec.upsampling > 1
        dct = frequency.dct_matrix()
        basis = np.einsum("ux,vy->uvxy", dct, dct).reshape(CHANNELS, frequency.BLOCK, frequency.BLOCK)
        chosen = basis[list(spec.server_channels)]
        _constant(self, "basis", np.concatenate([chosen] * COMPONENTS)[:, None])  # (3 * S, 1, 8, 8)
        if self.upsampled:
            large = spec.crop * spec.upsampling
            _constant(self, "shrink", np.linalg.pinv(frequency.interpolation_matrix(spec.crop, large)))
        back = np.linalg.inv(frequency.RGB_TO_YCBCR) * (HIGH_PASS_GAIN / 127.5)
        _constant(self, "colour", back[:, :, None, None])  # a 1 x 1 convolution

    def forward(self, coefficients: Tensor) -> Tensor:
        """(B, 3 * S, K, K) -> (B, 3, 112, 112)."""
        planes = nn.functional.conv_transpose2d(coefficients, self.basis, stride=frequency.BLOCK, groups=COMPONENTS)
        if self.upsampled:
            planes = self.shrink @ planes @ self.shrink.T
        return nn.functional.conv2d(planes, self.colour)


class Quantiser(nn.Module):
    """Values as they arrive at the service: rounded to the plane's codes and decoded again.

    The gradient passes straight through the rounding (Bengio et al., arXiv 1308.3432).
    """

    scale: Tensor

    def __init__(self, spec: SplitSpec, plane: str) -> None:
        """plane: name of the plane whose scale, offset and bits are used."""
        super().__init__()
        described = spec.plane(plane)
        _constant(self, "scale", np.asarray(described.scale)[:, None, None])
        self.offset = described.offset
        highest = 2 ** (described.bits - 1) - 1 if described.signed else 2**described.bits - 1
        self.low, self.high = (-highest if described.signed else 0), highest

    def forward(self, values: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape, each value one of the plane's levels."""
        codes = torch.round((values - self.offset) / self.scale).clamp(self.low, self.high)
        decoded = codes * self.scale + self.offset
        return values + (decoded - values).detach()
