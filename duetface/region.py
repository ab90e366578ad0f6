"""The region of interest: which part of each grid cell the face covers (docs/method.md 1.6).

Attention outside the face (hair, collar, background) is worth nothing to recognition and tells
the service about the scene, so each mask is multiplied by this region before it leaves the device.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CROP_PX = 112


def region_of_interest(hull_px: NDArray[np.floating], grid: int) -> NDArray[np.float32]:
    """Share of each cell of a grid x grid raster over the crop that lies inside a polygon.

    hull_px: (K, 2) vertices (x, y) in crop pixels, in order, pixel centres at whole numbers; may
    reach outside the crop.  grid: a divisor of 112.
    Returns (grid, grid) float32 in [0, 1]: the mean over the pixel centres in the cell, so a coarse
    grid is the exact mean of a finer one.
    A hull that is degenerate, not finite or beside the crop gives all ones: no region is known,
    so none is preferred, and nothing downstream is divided by zero.
    """
    return coarsened(face_pixels(hull_px), grid)


def face_pixels(hull_px: NDArray[np.floating]) -> NDArray[np.bool_]:
    """(112, 112) bool: is the pixel's centre inside the hull; all True where no region is known."""
    inside = _pixels_inside(np.asarray(hull_px, np.float64))
    return inside if inside.any() else np.ones_like(inside)


def coarsened(pixels: NDArray[np.bool_], grid: int) -> NDArray[np.float32]:
    """(112, 112) bool -> (grid, grid) float32, the share of each cell. Raises ValueError for an unfit grid."""
    if CROP_PX % grid:
        raise ValueError(f"grid {grid} does not divide the crop of {CROP_PX} pixels")
    cell = CROP_PX // grid
    share: NDArray[np.float32] = pixels.reshape(grid, cell, grid, cell).mean(axis=(1, 3)).astype(np.float32)
    return share


def _pixels_inside(polygon: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(112, 112) bool by the even-odd rule: is the pixel centre inside?"""
    if polygon.ndim != 2 or len(polygon) < 3 or not np.isfinite(polygon).all():
        return np.zeros((CROP_PX, CROP_PX), np.bool_)
    rows = np.arange(CROP_PX, dtype=np.float64)
    x0, y0 = polygon.T
    x1, y1 = np.roll(polygon, -1, axis=0).T
    # An edge crosses a row when exactly one end lies at or above it; horizontal edges never do.
    crosses = (y0[:, None] <= rows) != (y1[:, None] <= rows)  # (K, 112)
    height = np.where(y1 == y0, 1.0, y1 - y0)
    at = x0[:, None] + (rows - y0[:, None]) * ((x1 - x0) / height)[:, None]  # (K, 112) x of the crossing
    columns = np.arange(CROP_PX, dtype=np.float64)
    to_the_right = crosses[:, :, None] & (at[:, :, None] > columns)  # (K, 112, 112)
    inside: NDArray[np.bool_] = to_the_right.sum(axis=0) % 2 == 1
    return inside
