"""Fixtures of the attack suite: portraits as the device sees them, and a small made-up world of faces."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from privacy.gate import PORTRAITS
from privacy.people import Capture, portrait_captures

MODELS = Path(__file__).resolve().parents[3] / "models"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Attacks share the machine with everything else."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def models() -> Path:
    """The models of the checkout."""
    return MODELS


@pytest.fixture(scope="session")
def captures(portraits: dict[str, Path]) -> list[Capture]:
    """The gate's portraits, cut and turned."""
    return portrait_captures([portraits[Path(name).stem] for name in PORTRAITS], MODELS)


@pytest.fixture(scope="session")
def portrait_crops(captures: list[Capture]) -> NDArray[np.uint8]:
    """(3, 112, 112, 3)."""
    return np.stack([capture.aligned.rgb_u8_hwc for capture in captures])


def blobs(count: int, seed: int) -> NDArray[np.uint8]:
    """(count, 112, 112, 3) smooth made-up pictures: two soft spots of random place and colour on a random ground."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:112, :112]
    pictures = np.empty((count, 112, 112, 3), np.uint8)
    for i in range(count):
        picture = np.full((112, 112, 3), random.uniform(40, 120, 3))
        for _ in range(2):
            centre, width = random.uniform(25, 87, 2), random.uniform(12, 25)
            spot = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * width**2))
            picture += spot[..., None] * random.uniform(20, 120, 3)
        pictures[i] = np.clip(picture, 0, 255)
    return pictures
