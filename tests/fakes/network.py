"""A server network without training: a fixed random projection of the planes, and people who differ by noise.

It keeps the one property that the service relies on: two captures of one person have a high cosine,
two people have one near zero.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from duetface.errors import ConfigError
from duetface.spec import PlaneSpec, SplitSpec
from duetface.types import LivenessLevel, Probe, ProtectedFace, Quality
from recognition_service.network import Network

SMALLEST_FMR = 1e-6
THRESHOLD = 0.5

TEST_SPLIT = SplitSpec(
    name="test",
    version=1,
    family="fixed",
    crop=32,
    colour="ycbcr-full-range",
    upsampling=1,
    block=8,
    client_channels=(0, 1, 8),
    server_channels=(2, 3, 9, 10),
    planes=(
        PlaneSpec("coefficients", (12, 4, 4), 8, True, "deflate", (0.5,)),
        PlaneSpec("mask_4", (1, 4, 4), 4, False, "stored", (1 / 15,)),
    ),
)
OTHER_SPLIT = SplitSpec(
    name="other",
    version=1,
    family="fixed",
    crop=32,
    colour="ycbcr-full-range",
    upsampling=1,
    block=8,
    client_channels=(0,),
    server_channels=(2, 3),
    planes=(PlaneSpec("coefficients", (6, 4, 4), 8, True, "stored", (1.0,)),),
)


@dataclass
class ProjectionEmbedder:
    """A FaceEmbedder.  delay_s: how long a batch takes; batches: their sizes; gate: closed while not set."""

    split: SplitSpec = TEST_SPLIT
    delay_s: float = 0.0
    batches: list[int] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """The projection depends on the split's size only."""
        values = sum(plane.count for plane in self.split.planes)
        self._projection = np.random.default_rng(7).standard_normal((values, 512)).astype(np.float32)
        self.gate.set()

    def embed(self, faces: Sequence[ProtectedFace]) -> NDArray[np.float32]:
        """(B, 512) float32 of unit length."""
        self.gate.wait(timeout=20)
        time.sleep(self.delay_s)
        self.batches.append(len(faces))
        rows = [
            np.concatenate([face.planes[plane.name].astype(np.float32).ravel() for plane in self.split.planes])
            for face in faces
        ]
        embeddings = np.stack(rows) @ self._projection
        return (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)


class FixedThreshold:
    """A calibration that knows one threshold for every FMR of its sample."""

    def threshold_at(self, fmr: float) -> float:
        """Raises ConfigError below the smallest FMR, as the real one does."""
        if fmr < SMALLEST_FMR:
            raise ConfigError(f"an FMR of {fmr} was asked for, the calibration reaches {SMALLEST_FMR}: ask for more")
        return THRESHOLD

    def interval(self, fmr: float) -> tuple[float, float]:
        """As wide as one guesses."""
        return fmr / 2, fmr * 2


def upcoming_network() -> Network:
    """A network of another split, whose embeddings have nothing to do with those of the first."""
    return Network(
        embedder=ProjectionEmbedder(OTHER_SPLIT),
        split=OTHER_SPLIT,
        space_digest=bytes(range(32, 64)),
        space_name="test-2",
        calibration=FixedThreshold(),
        licence="made up for tests",
    )


def fake_network(embedder: ProjectionEmbedder | None = None) -> Network:
    """A network of the test split."""
    return Network(
        embedder=embedder or ProjectionEmbedder(),
        split=TEST_SPLIT,
        space_digest=bytes(range(32)),
        space_name="test-1",
        calibration=FixedThreshold(),
        licence="made up for tests",
    )


def face_of(person: int, capture: int = 0, split: SplitSpec = TEST_SPLIT) -> ProtectedFace:
    """The codes of one capture of a person."""
    person_random, capture_random = np.random.default_rng(person), np.random.default_rng((person + 1, capture))
    planes = {}
    for plane in split.planes:
        low, high = (-(2 ** (plane.bits - 1)), 2 ** (plane.bits - 1) - 1) if plane.signed else (0, 2**plane.bits - 1)
        spread = (high - low) / 6
        values = person_random.normal((low + high) / 2 if plane.signed else 0, spread, plane.shape)
        values += capture_random.normal(0, spread / 5, plane.shape)
        planes[plane.name] = np.clip(np.rint(values), low, high).astype(np.int8 if plane.signed else np.uint8)
    return ProtectedFace(split_digest=split.digest, planes=planes)


def probe_of(
    person: int,
    capture: int = 0,
    quality: float = 0.9,
    age_s: float = 0.0,
    splits: Sequence[SplitSpec] = (TEST_SPLIT,),
    liveness: LivenessLevel = LivenessLevel.OFF,
) -> Probe:
    """A probe of one capture, taken `age_s` seconds ago, with a face for each split."""
    return Probe(
        faces=tuple(face_of(person, capture, split) for split in splits),
        captured_at_monotonic_ns=time.monotonic_ns() - round(age_s * 1e9),
        quality=Quality(quality, quality, quality, quality, quality),
        liveness=liveness,
    )
