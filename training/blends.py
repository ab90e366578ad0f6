"""Faces of nobody: two crops bent and mixed, and what the teacher answers to the result.

Some 19,000 faces are few for a network that starts from fewer blocks than its teacher has: it learns them by heart.
A teacher can be asked about any picture, so the student follows it over as many faces as there is time for
(Beyer et al., "Knowledge distillation: a good teacher is patient and consistent", arXiv 2106.05237).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from training.augment import Picture, Random

BEND_CELLS = 4  # a side, of the grid whose corners are moved
BEND_PX = 2.5  # standard deviation of a corner's move
TURN_DEGREES, ZOOM, SHIFT_PX = 5.0, 0.06, 3.0  # standard deviations


def blend(first: Picture, second: Picture, random: Random) -> Picture:
    """Two (112, 112, 3) crops -> one: half the time all of both, else parts of one and parts of the other."""
    first, second = (bend(picture, random).astype(np.float32) for picture in (first, second))
    share: NDArray[np.float32] = np.full((1, 1, 1), random.uniform(0.2, 0.8), np.float32)
    if random.random() < 0.5:
        rough = random.normal(0, 4, (3, 3)).astype(np.float32)
        share = 1 / (1 + np.exp(-cv2.resize(rough, first.shape[1::-1], interpolation=cv2.INTER_CUBIC)[..., None]))
    return np.clip(np.rint(share * first + (1 - share) * second), 0, 255).astype(np.uint8)


def bend(rgb: Picture, random: Random) -> Picture:
    """Turned, zoomed, shifted and bent smoothly, perhaps mirrored: another face of the same size."""
    if random.random() < 0.5:
        rgb = rgb[:, ::-1]
    height, width = rgb.shape[:2]
    matrix = cv2.getRotationMatrix2D(
        ((width - 1) / 2, (height - 1) / 2), random.normal(0, TURN_DEGREES), float(np.exp(random.normal(0, ZOOM)))
    )
    matrix[:, 2] += random.normal(0, SHIFT_PX, 2)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    places = np.stack([x, y, np.ones_like(x)], axis=-1) @ matrix.T
    corners = random.normal(0, BEND_PX, (BEND_CELLS, BEND_CELLS, 2))
    places = (places + cv2.resize(corners, (width, height), interpolation=cv2.INTER_CUBIC)).astype(np.float32)
    return cv2.remap(np.ascontiguousarray(rgb), places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
