"""The block DCT of a crop as linear maps, and its way back (docs/method.md 1.1).

The paper upsamples the crop r times (bilinear, corners aligned), cuts it into 8 x 8 blocks and takes the
orthonormal DCT of each. All of that is linear and separable, so no enlarged picture is needed: with
M_u = (row u of the DCT) x (rows 8k..8k+7 of the interpolation matrix), channel (u, v) = M_u X M_v^T.
At r = 1 the interpolation is the identity: plain JPEG blocks, critically sampled.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

BLOCK = 8
UPSAMPLINGS = (1, 2, 4, 8)

# Rec. ITU-T T.871 (JFIF) full range; Y is shifted by 128 too, so that every plane is centred on zero.
RGB_TO_YCBCR = np.array(
    [
        [0.299, 0.587, 0.114],
        [-0.299 / 1.772, -0.587 / 1.772, 0.886 / 1.772],
        [0.701 / 1.402, -0.587 / 1.402, -0.114 / 1.402],
    ]
)
_CENTRE = np.array([-128.0, 0.0, 0.0])  # Cb and Cr: + 128 of the standard, - 128 of the method


def centred_ycbcr(rgb_u8_hwc: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(H, W, 3) uint8 RGB -> (3, H, W) float64 Y, Cb, Cr, each within [-128, 127.5]."""
    planes = np.einsum("cr,hwr->chw", RGB_TO_YCBCR, rgb_u8_hwc.astype(np.float64))
    return np.asarray(planes + _CENTRE[:, None, None])


def block_dct(ycbcr: NDArray[np.floating], upsampling: int) -> NDArray[np.float64]:
    """Centred planes -> DCT channels, channel 64 * component + 8 * u + v.

    ycbcr: (3, N, N), N a multiple of 8 / upsampling.  u is the vertical frequency, v the horizontal.
    Returns (192, B, B) float64, B = N * upsampling / 8 blocks a side.
    """
    maps = frequency_maps(ycbcr.shape[-1], upsampling)  # (8, B, N)
    blocks = maps.shape[1]
    if upsampling == 1:
        return _critically_sampled(ycbcr, blocks)
    rows = maps.reshape(BLOCK * blocks, -1)  # (8 B, N), row u * B + k
    square = rows @ ycbcr @ rows.T  # (3, 8 B, 8 B)
    stacked = square.reshape(3, BLOCK, blocks, BLOCK, blocks).transpose(0, 1, 3, 2, 4)  # (3, u, v, k, l)
    return stacked.reshape(3 * BLOCK * BLOCK, blocks, blocks)


def _critically_sampled(ycbcr: NDArray[np.floating], blocks: int) -> NDArray[np.float64]:
    """The same at r = 1, where M_u is one row of the DCT a block: products of 8 x 8 matrices.

    The device's usual case: sixteen times fewer multiplications, and too small for BLAS to start threads,
    whose waiting for one another costs 80 ms where another process holds a core.
    """
    dct = dct_matrix()
    cut = ycbcr.reshape(3, blocks, BLOCK, blocks, BLOCK).transpose(0, 1, 3, 2, 4)  # (3, k, l, x, y)
    waves = dct @ cut @ dct.T  # (3, k, l, u, v)
    return np.ascontiguousarray(waves.transpose(0, 3, 4, 1, 2)).reshape(3 * BLOCK * BLOCK, blocks, blocks)


def inverse_block_dct(channels: NDArray[np.floating], upsampling: int) -> NDArray[np.float64]:
    """DCT channels -> centred planes by least squares; exact for channels that block_dct made.

    channels: (192, B, B).  Returns (3, N, N) float64.
    """
    blocks = channels.shape[-1]
    maps = frequency_maps(blocks * BLOCK // upsampling, upsampling)
    back = np.linalg.pinv(maps.reshape(BLOCK * blocks, -1))  # (N, 8 B)
    stacked = channels.reshape(3, BLOCK, BLOCK, blocks, blocks).transpose(0, 1, 3, 2, 4)
    square = stacked.reshape(3, BLOCK * blocks, BLOCK * blocks)  # rows (u, k), columns (v, l)
    return np.asarray(back @ square @ back.T)


@cache
def frequency_maps(size: int, upsampling: int) -> NDArray[np.float64]:
    """The eight maps M_u: (8, B, size) float64, B = size * upsampling / 8. Read-only, shared."""
    if upsampling not in UPSAMPLINGS:
        raise ValueError(f"upsampling {upsampling}: expected one of {UPSAMPLINGS}")
    large = size * upsampling
    if large % BLOCK:
        raise ValueError(f"{size} pixels enlarged {upsampling} times do not divide into blocks of {BLOCK}")
    interpolation = interpolation_matrix(size, large).reshape(large // BLOCK, BLOCK, size)
    maps: NDArray[np.float64] = np.einsum("up,kpi->uki", dct_matrix(), interpolation)
    maps.flags.writeable = False
    return maps


def dct_matrix(points: int = BLOCK) -> NDArray[np.float64]:
    """The orthonormal DCT-II of so many points (ITU-T T.81 A.3.3 for 8): row u is frequency u."""
    u, x = np.arange(points)[:, None], np.arange(points)[None, :]
    rows = np.cos((2 * x + 1) * u * np.pi / (2 * points)) * np.sqrt(2 / points)
    rows[0] /= np.sqrt(2)
    return np.asarray(rows, np.float64)


def interpolation_matrix(size: int, large: int) -> NDArray[np.float64]:
    """(large, size): bilinear sampling with aligned corners, at most two non-zeros a row.

    Sample i lies at i * (size - 1) / (large - 1): the step is 111/895 for the paper's 112 -> 896, not 1/8.
    """
    at = np.arange(large) * ((size - 1) / (large - 1))
    left = np.minimum(at.astype(np.int64), size - 2)
    share = at - left
    matrix = np.zeros((large, size))
    matrix[np.arange(large), left] = 1 - share
    matrix[np.arange(large), left + 1] = share
    return matrix
