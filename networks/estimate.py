"""The best linear guess at the picture from what a split with upsampling sends (r = 2; docs/training.md).

An interpolated picture has fewer degrees of freedom than coefficients, so most of what stayed on the device follows
from what was sent. The picture X of a colour plane is modelled as a first-order Markov process along both axes
(Jain, "A sinusoidal family of unitary transforms", IEEE PAMI 1(4), 1979), rounding as noise of step^2 / 12. Under
that model the mean squared error of estimates of the form

    X = sum over u of L_u Y_u R_u,    Y_u = [M_u X M_v^T + rounding, side by side for each v that is sent with u]

(docs/method.md 1.1) is brought down by alternating least squares; each half step is a linear system in closed form.
No picture takes part. Eight terms, because the exact estimate is a matrix of 12,544 x 12,544 a plane.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from duetface import frequency
from duetface.spec import SplitSpec
from duetface.splitting import COMPONENTS
from networks.constants import register_constant

NEIGHBOURS_ALIKE = 0.95  # correlation of neighbouring pixels
LUMA_SPREAD, CHROMA_SPREAD = 50.0, 14.0  # standard deviations of a face crop's planes, in levels of 0 to 255
ROUNDS = 6  # luma of r2: .3571 of the variance is left, .3572 after four rounds, .3570 after twelve

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sent:
    """What the service holds of one colour plane.

    vertical: (U, K, N), M_u of each vertical frequency u that occurs.  horizontal: (J, N), M_v of each pair (u, v),
    K rows a pair, pair after pair.  group: (J,), the place of each row's u among the U.  noise: (J,), variances.
    """

    vertical: Array
    horizontal: Array
    group: NDArray[np.int64]
    noise: Array


def bilinear_estimate(sent: Sent, spread: float) -> tuple[Array, Array]:
    """L (N, U K), all L_u side by side, and R (J, N), all R_u below each other.  spread: of the plane's values."""
    groups, blocks, size = sent.vertical.shape
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    alike = spread * NEIGHBOURS_ALIKE**distance  # E[X A X^T] = alike * trace(A alike)
    rows = sent.vertical.reshape(-1, size)
    seen, both_seen = sent.horizontal @ alike, sent.horizontal @ alike @ sent.horizontal.T
    rows_seen, both_rows = rows @ alike, rows @ alike @ rows.T
    member = (sent.group == np.arange(groups)[:, None]).astype(np.float64)  # (U, J)
    right = sent.horizontal
    for _ in range(ROUNDS):
        own = member @ (right * seen).sum(axis=1)
        pairs = member @ ((right @ right.T) * both_seen) @ member.T
        loud = member @ (sent.noise * np.square(right).sum(axis=1))
        normal = both_rows * np.kron(pairs, np.ones((blocks, blocks))) + np.diag(np.repeat(loud, blocks))
        left = _solve(normal, rows_seen * np.repeat(own, blocks)[:, None]).T
        parts = np.einsum("nuk,ukm->unm", left.reshape(size, groups, blocks), sent.vertical)
        own = np.einsum("unm,nm->u", parts, alike)
        pairs = np.einsum("unm,wnm->uw", parts @ alike, parts)
        loud = np.square(left).reshape(size, groups, blocks).sum(axis=(0, 2))
        normal = both_seen * (member.T @ pairs @ member) + np.diag(sent.noise * (member.T @ loud))
        right = _solve(normal, seen * (member.T @ own)[:, None])
    return left, right


def _solve(normal: Array, aim: Array) -> Array:
    ridge = 1e-9 * np.trace(normal) / len(normal)  # directions that nothing is sent of
    solved: Array = np.linalg.solve(normal + ridge * np.eye(len(normal)), aim)
    return solved


class EstimatingInverse(nn.Module):
    """Server channels -> that estimate as RGB, centred on 0, where the teacher expects mid-grey."""

    luma_left: Tensor
    luma_right: Tensor
    chroma_left: Tensor
    chroma_right: Tensor
    colour: Tensor

    def __init__(self, spec: SplitSpec) -> None:
        """spec: a split whose server channels ascend, so that those of one u stand together."""
        super().__init__()
        channels = np.array(spec.server_channels)
        vertical, self.counts = (found.tolist() for found in np.unique(channels // frequency.BLOCK, return_counts=True))
        self.blocks = spec.blocks
        maps = frequency.frequency_maps(spec.crop, spec.upsampling).astype(np.float64)
        rounding = np.square(spec.planes[0].scale).reshape(COMPONENTS, -1) / 12
        for name, plane, spread in (("luma", 0, LUMA_SPREAD), ("chroma", 1, CHROMA_SPREAD)):
            left, right = bilinear_estimate(
                Sent(
                    maps[vertical],
                    maps[channels % frequency.BLOCK].reshape(-1, spec.crop),
                    np.repeat(np.arange(len(vertical)), np.multiply(self.counts, self.blocks)),
                    np.repeat(rounding[plane], self.blocks),
                ),
                spread,
            )
            register_constant(self, f"{name}_left", left)
            register_constant(self, f"{name}_right", right)
        back = np.linalg.inv(frequency.RGB_TO_YCBCR) / 127.5
        register_constant(self, "colour", back[:, :, None, None])  # a 1 x 1 convolution

    def forward(self, coefficients: Tensor) -> Tensor:
        """(B, 3 * S, K, K) -> (B, 3, 112, 112)."""
        planes = coefficients.reshape(-1, COMPONENTS, sum(self.counts), self.blocks, self.blocks)
        luma = self._estimated(planes[:, :1], self.luma_left, self.luma_right)
        chroma = self._estimated(planes[:, 1:], self.chroma_left, self.chroma_right)
        return nn.functional.conv2d(torch.cat([luma, chroma], dim=1), self.colour)

    def _estimated(self, planes: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """(B, P, S, K, K) -> (B, P, N, N)."""
        across, done = [], 0
        for count in self.counts:
            beside = planes[:, :, done : done + count].transpose(2, 3)  # (B, P, K, count, K)
            beside = beside.reshape(-1, planes.shape[1], self.blocks, count * self.blocks)
            across.append(beside @ right[done * self.blocks : (done + count) * self.blocks])
            done += count
        return left @ torch.cat(across, dim=2)
