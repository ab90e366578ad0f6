"""Linear attacks: the public transform solved for the picture, with no training (docs/method.md 4).

The message of a fixed split says y = A x for known A, to within half a step a value. The picture sought minimises

    |A x - y|^2  +  smoothness * r^2 * |gradient of x|^2,

r being the upsampling, which repeats every pixel r^2 times in A. Conjugate gradients start from the mean colour,
so whatever A does not see and the prior does not move stays there. Weighing each channel by its step would be
closer to the noise but spreads the weights over ten orders of magnitude, and then nothing converges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duetface.errors import ConfigError
from duetface.frequency import BLOCK, RGB_TO_YCBCR, centred_ycbcr, frequency_maps
from duetface.spec import SplitSpec
from duetface.splitting import COMPONENTS
from privacy.observation import Observed

Floats = NDArray[np.float64]

SMOOTHNESS = (0.0, 1e-8, 1e-4, 1e-2)  # relative to the data term; an attacker reports the best
ITERATIONS = 60  # half of them were enough for every split of docs/method.md 4.1
RELATIVE_ENERGY = 1e-18  # of the first residual: where float64 has no more to give


@dataclass(frozen=True)
class LinearSystem:
    """The normal equations of one split, a colour plane at a time.

    gram, partners: (T, N, N) such that A^T A x = sum over t of gram[t] x partners[t]; rows u of the block of which
    the same channels are sent share one t: gram is their sum of M_u^T M_u, partners the sum of M_v^T M_v.
    smooth: (N, N), gradient^T gradient of one line.  smoothness: weight of the prior, r^2 included.
    redundant: whether r > 1.
    """

    gram: Floats
    partners: Floats
    smooth: Floats
    smoothness: float
    redundant: bool

    def apply(self, planes: Floats) -> Floats:
        """(..., 3, N, N) -> the same: (A^T A + smoothness * gradient^T gradient) x."""
        result = self.smoothness * (self.smooth @ planes + planes @ self.smooth)
        for gram, partner in zip(self.gram, self.partners, strict=True):
            result += gram @ planes @ partner
        return np.asarray(result)

    def preconditioner(self) -> Preconditioner:
        """What the operator does to each cosine of the whole picture, were they its eigenvectors: nearly so if r > 1.

        At r = 1 the operator is a projection with the prior, two clusters of eigenvalues: best left alone, and
        without prior the answer then is the zero fill, which moves nothing that was not sent.
        """
        if not self.redundant:
            return Preconditioner(np.eye(len(self.smooth)), np.ones_like(self.smooth))
        cosines = cosine_basis(self.smooth.shape[0])
        seen = np.einsum("ti,tj->ij", _gains(self.gram, cosines), _gains(self.partners, cosines))
        rough = _gains(self.smooth[None], cosines)[0]
        gain = seen + self.smoothness * (rough[:, None] + rough[None, :])
        return Preconditioner(cosines, 1 / np.maximum(gain, 1e-9 * gain.max()))


@dataclass(frozen=True)
class Preconditioner:
    """An approximate inverse, diagonal in the cosines of the picture. Solving for a face takes 100 steps, not 10,000.

    cosines: (N, N), a frequency a row.  inverse_gain: (N, N).
    """

    cosines: Floats
    inverse_gain: Floats

    def apply(self, planes: Floats) -> Floats:
        """(..., N, N) -> the same."""
        spectrum = self.cosines @ planes @ self.cosines.T
        return np.asarray(self.cosines.T @ (spectrum * self.inverse_gain) @ self.cosines)


def is_linear(spec: SplitSpec) -> bool:
    """Whether the first plane is a fixed linear map of the picture."""
    return spec.family == "fixed" and spec.colour == "ycbcr-full-range"


def system_of(spec: SplitSpec, smoothness: float) -> LinearSystem:
    """Raises ConfigError for a split whose message is no linear map of the picture."""
    if not is_linear(spec):
        raise ConfigError(f"split {spec.name} is not linear in the picture: attack it by ridge regression or a decoder")
    maps = frequency_maps(spec.crop, spec.upsampling)
    gram = np.einsum("ukp,ukq->upq", maps, maps)
    sent = np.zeros(BLOCK * BLOCK)
    sent[list(spec.server_channels)] = 1.0
    kinds, kind_of_row = np.unique(sent.reshape(BLOCK, BLOCK), axis=0, return_inverse=True)
    summed = np.stack([gram[kind_of_row == kind].sum(axis=0) for kind in range(len(kinds))])
    partners = np.einsum("tv,vpq->tpq", kinds, gram)
    step = np.diff(np.eye(spec.crop), axis=0)
    prior = smoothness * spec.upsampling**2
    return LinearSystem(summed, partners, step.T @ step, prior, redundant=spec.upsampling > 1)


def reconstruct(
    observed: Observed, mean_rgb: NDArray[np.floating], smoothness: float, iterations: int = ITERATIONS
) -> Floats:
    """Solve for the pictures behind messages of a fixed split.

    mean_rgb: (N, 3) or (3,), the mean colour of each picture: known, or guessed from other people's.
    Returns (N, 112, 112, 3) float64 RGB, not clipped.
    """
    spec = observed.split
    return solve(spec, observed.values(spec.planes[0].name).astype(np.float64), mean_rgb, smoothness, iterations)


def solve(
    spec: SplitSpec, values: Floats, mean_rgb: NDArray[np.floating], smoothness: float, iterations: int
) -> Floats:
    """As `reconstruct`, from decoded values (N, 3 * S, K, K)."""
    system = system_of(spec, smoothness)
    means = np.broadcast_to(np.asarray(mean_rgb, np.float64), (len(values), 3))
    start = np.stack([_flat(mean, spec.crop) for mean in means])  # (N, 3, 112, 112)
    right = np.stack([_adjoint(value, spec) for value in values])
    return rgb_of(conjugate_gradients(system, right, start, iterations))


def conjugate_gradients(system: LinearSystem, right: Floats, start: Floats, iterations: int) -> Floats:
    """Preconditioned (Saad, Iterative methods, algorithm 9.1), each colour plane its own system. (N, 3, P, P)."""
    preconditioner = system.preconditioner()
    x = start.copy()
    residual = right - system.apply(x)
    direction = preconditioner.apply(residual)
    energy = _dot(residual, direction)
    enough = RELATIVE_ENERGY * energy
    for _ in range(iterations):
        going = energy > enough  # a plane that is solved must not go on dividing rounding errors
        if not going.any():
            break
        moved = system.apply(direction)
        step = np.where(going, energy / np.where(going, _dot(direction, moved), 1.0), 0.0)
        x += step * direction
        residual -= step * moved
        ready = preconditioner.apply(residual)
        next_energy = _dot(residual, ready)
        direction = ready + np.where(going, next_energy / np.where(going, energy, 1.0), 0.0) * direction
        energy = next_energy
    return x


def rgb_of(planes: Floats) -> Floats:
    """Centred (N, 3, H, W) Y, Cb, Cr -> (N, H, W, 3) RGB."""
    shifted = planes.copy()
    shifted[:, 0] += 128.0
    return np.asarray(np.einsum("rc,nchw->nhwr", np.linalg.inv(RGB_TO_YCBCR), shifted))


def cosine_basis(size: int) -> Floats:
    """(N, N) orthonormal DCT-II of a whole line, row k being frequency k."""
    k, x = np.arange(size)[:, None], np.arange(size)[None, :]
    rows = np.cos((2 * x + 1) * k * np.pi / (2 * size)) * np.sqrt(2 / size)
    rows[0] /= np.sqrt(2)
    return np.asarray(rows, np.float64)


def _gains(maps: Floats, cosines: Floats) -> Floats:
    """(T, N, N) -> (T, N): c_k^T map c_k of each cosine."""
    return np.asarray(np.einsum("kp,tpq,kq->tk", cosines, maps, cosines, optimize=True))


def _flat(mean_rgb: Floats, size: int) -> Floats:
    """(3,) mean colour -> (3, N, N) centred planes."""
    pixel = centred_ycbcr(np.zeros((1, 1, 3), np.uint8))[:, 0, 0] + RGB_TO_YCBCR @ mean_rgb
    return np.broadcast_to(pixel[:, None, None], (3, size, size)).astype(np.float64)


def _adjoint(values: Floats, spec: SplitSpec) -> Floats:
    """A^T y of one picture: (3 * S, K, K) -> (3, N, N)."""
    maps = frequency_maps(spec.crop, spec.upsampling)
    blocks = maps.shape[1]
    channels = np.zeros((COMPONENTS, BLOCK * BLOCK, blocks, blocks))
    channels[:, list(spec.server_channels)] = values.reshape(COMPONENTS, -1, blocks, blocks)
    stacked = channels.reshape(COMPONENTS, BLOCK, BLOCK, blocks, blocks).transpose(0, 1, 3, 2, 4)
    square = stacked.reshape(COMPONENTS, BLOCK * blocks, BLOCK * blocks)
    rows = maps.reshape(BLOCK * blocks, -1)
    return np.asarray(rows.T @ square @ rows)


def _dot(left: Floats, right: Floats) -> Floats:
    return np.asarray((left * right).sum(axis=(2, 3), keepdims=True))
