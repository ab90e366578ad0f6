"""Models and portraits, loaded once."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from duetface.manifest import models_root
from edge_agent.detector import Detection, FaceDetector
from edge_agent.landmarks import FaceMesh
from edge_agent.pipeline import Protector
from edge_agent.sources import read_picture

cv2.setNumThreads(1)  # as the agent does; and tests share their machine


@pytest.fixture(scope="session")
def models() -> Path:
    """The shipped models."""
    return models_root()


@pytest.fixture(scope="session")
def detector(models: Path) -> FaceDetector:
    """The shipped detector."""
    return FaceDetector.load(models)


@pytest.fixture(scope="session")
def mesh(models: Path) -> FaceMesh:
    """The shipped mesh."""
    return FaceMesh.load(models)


@pytest.fixture(scope="session")
def protector(models: Path) -> Protector:
    """The way of a face with the default split and the policy of verification."""
    return Protector.load(models)


@pytest.fixture(scope="session")
def gate(detector: FaceDetector, mesh: FaceMesh) -> Protector:
    """The same way without its last stage: for tests that ask only what is refused."""
    return Protector(detector, mesh, encoders=())


@pytest.fixture(scope="session")
def pictures(portraits: dict[str, Path]) -> dict[str, NDArray[np.uint8]]:
    """The portraits, decoded."""
    return {name: read_picture(path) for name, path in portraits.items()}


@pytest.fixture(scope="session")
def faces(detector: FaceDetector, pictures: dict[str, NDArray[np.uint8]]) -> dict[str, Detection]:
    """The face of each portrait."""
    return {name: detector.detect(picture)[0] for name, picture in pictures.items()}
