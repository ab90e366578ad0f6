"""Learned linear attack: ridge regression from a neighbourhood of the message to each block of the picture.

Works for any split, linear in the picture or not (docs/method.md 4.2, last column): what a spy can do in a minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duetface.errors import ConfigError

CROP = 112
Arrays = Mapping[str, NDArray[np.generic]]
Floats = NDArray[np.float64]
NEIGHBOURHOOD = 3  # cells a side; a message of one cell has no neighbours
PENALTY = 1e-2  # of the mean variance of a feature; untuned
WIDEST_PLANE = 28  # a finer first plane would make more features than a spy has patience for


@dataclass(frozen=True)
class Ridge:
    """grid: cells a side.  weights: (features + 1, pixels of a block), the last row constant."""

    grid: int
    weights: Floats

    def reconstruct(self, observed: Arrays) -> Floats:
        """(N, 112, 112, 3) float64."""
        return np.concatenate([self._one(_rows(observed, slice(i, i + 1), self.grid)) for i in range(_count(observed))])

    def _one(self, features: Floats) -> Floats:
        side = CROP // self.grid
        blocks = (features @ self.weights).reshape(1, self.grid, self.grid, side, side, 3)
        return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(1, CROP, CROP, 3)


def learn(observed: Arrays, rgb: NDArray[np.uint8], penalty: float = PENALTY) -> Ridge:
    """Fit on the attacker's own faces.

    observed: name -> (N, C, H, W); the grid is that of the first plane.  rgb: (N, 112, 112, 3).
    Raises ConfigError if the grid is too fine.
    """
    grid = grid_of(observed)
    if grid > WIDEST_PLANE:
        raise ConfigError(f"a grid of {grid} cells is finer than {WIDEST_PLANE}: use the linear solver or a decoder")
    width = _rows(observed, slice(0, 1), grid).shape[1]
    gram, moment = np.zeros((width, width)), np.zeros((width, 3 * (CROP // grid) ** 2))
    for start in range(0, len(rgb), 64):
        rows = slice(start, start + 64)
        features = _rows(observed, rows, grid)
        gram += features.T @ features
        moment += features.T @ _blocks(rgb[rows], grid)
    ridge = penalty * np.trace(gram) / width * np.eye(width)
    ridge[-1, -1] = 0.0  # the constant is not shrunk
    return Ridge(grid, np.linalg.solve(gram + ridge, moment))


def grid_of(observed: Arrays) -> int:
    """Cells a side, of the first plane."""
    return int(next(iter(observed.values())).shape[-1])


def _rows(observed: Arrays, rows: slice, grid: int) -> Floats:
    """(n * grid * grid, features + 1): each cell with its neighbours, planes of other grids brought to this one."""
    stacked = np.concatenate([_on_grid(np.asarray(array[rows], np.float64), grid) for array in observed.values()], 1)
    side = min(NEIGHBOURHOOD, 2 * grid - 1)
    padded = np.pad(stacked, ((0, 0), (0, 0), (side // 2, side // 2), (side // 2, side // 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(2, 3))
    cells = windows.transpose(0, 2, 3, 1, 4, 5).reshape(len(stacked) * grid * grid, -1)
    return np.concatenate([cells, np.ones((len(cells), 1))], axis=1)


def _on_grid(plane: Floats, grid: int) -> Floats:
    """(n, C, H, H) -> (n, C', grid, grid): finer planes are folded, coarser ones repeated."""
    n, channels, side, _ = plane.shape
    if side > grid:
        fold = side // grid
        cut = plane.reshape(n, channels, grid, fold, grid, fold).transpose(0, 1, 3, 5, 2, 4)
        return cut.reshape(n, channels * fold * fold, grid, grid)
    nearest = np.arange(grid) * side // grid
    return plane[:, :, nearest][:, :, :, nearest]


def _blocks(rgb: NDArray[np.uint8], grid: int) -> Floats:
    """(n, 112, 112, 3) -> (n * grid * grid, block pixels)."""
    side = CROP // grid
    cut = rgb.astype(np.float64).reshape(-1, grid, side, grid, side, 3).transpose(0, 1, 3, 2, 4, 5)
    return cut.reshape(-1, side * side * 3)


def _count(observed: Arrays) -> int:
    return len(next(iter(observed.values())))
