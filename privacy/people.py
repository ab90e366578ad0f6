"""Whose faces: the attacker's own people and the victims, and the check that nobody is both.

Attackers train on the shared training crops; the victims are the people of lfw_dev. Portraits in the public
domain stand in where neither is at hand, and are the only pictures that a report may show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from duetface.alignment import crop_transform, transform_points, warp
from duetface.errors import CaptureError, ConfigError
from duetface.types import AlignedFace, Quality
from edge_agent.detector import Detection, FaceDetector
from edge_agent.landmarks import FaceMesh, Mesh, five_points, hull
from edge_agent.quality import components, measure
from training.datasets import load, read_pairs

# A twin or a very similar stranger reaches this cosine by the teacher; the same person is far above (mean 0.60).
SAME_PERSON_COSINE = 0.5
MARGIN_PX = 14  # the mesh expects some room around the face; a crop has none
# Mesh vertices whose means stand for the detector's six points: eyes, nose tip, mouth, ears (MediaPipe's numbers).
SIX_POINTS = ((33, 133), (362, 263), (1,), (13, 14), (234,), (454,))


@dataclass(frozen=True)
class Crops:
    """rgb: (N, 112, 112, 3) uint8 RGB.  names: of the pictures.  people: who is on each ("" if unknown)."""

    rgb: NDArray[np.uint8]
    names: tuple[str, ...]
    people: tuple[str, ...]

    def __len__(self) -> int:
        """How many pictures."""
        return len(self.names)

    def rows(self, chosen: NDArray[np.int64]) -> Crops:
        """A subset, in the given order."""
        return Crops(
            np.asarray(self.rgb[chosen]), tuple(self.names[i] for i in chosen), tuple(self.people[i] for i in chosen)
        )


def attackers(data: Path, cache: Path, count: int, seed: int) -> Crops:
    """The attacker's own people: `count` training crops, a random but repeatable choice.

    Raises ConfigError if there are fewer, FileNotFoundError if the crops were never prepared.
    """
    faces = load(data / "train", cache)
    if count > len(faces.crops):
        raise ConfigError(f"asked for {count} faces for the attacker, but {data} has {len(faces.crops)}")
    chosen = np.sort(np.random.default_rng([seed, 1]).permutation(len(faces.crops))[:count])
    people = tuple(str(i) if i >= 0 else "" for i in faces.identity[chosen])
    return Crops(faces.crops[chosen], tuple(f"{row:06d}" for row in chosen), people)


def victims(data: Path, pairs: int | None = None) -> tuple[Crops, list[tuple[str, str, bool]]]:
    """The people of lfw_dev and its pairs; of the first `pairs` of each kind if given, so that both kinds stay.

    Raises ConfigError if the folder is absent.
    """
    if not (data / "lfw_dev" / "pairs.txt").exists():
        raise ConfigError(f"{data / 'lfw_dev'} is missing: the victims' faces are not shipped with the project")
    crops, folds = read_pairs(data / "lfw_dev")
    named = [pair for fold in folds for pair in fold]
    kinds = [[pair for pair in named if pair[2] is same] for same in (True, False)]
    kept = [pair for kind in kinds for pair in _spread(kind, pairs)]
    names = tuple(sorted({name for first, second, _ in kept for name in (first, second)}))
    rgb = np.stack([crops[name] for name in names])
    return Crops(rgb, names, tuple(name.rsplit("_", 1)[0] for name in names)), kept


def check_disjoint(attacker: NDArray[np.float32], victim: NDArray[np.float32]) -> float:
    """The largest cosine between the two groups by a recogniser; (N, 512) and (M, 512) of unit length.

    Raises ConfigError if somebody seems to be in both: the attacker would remember instead of reconstruct.
    """
    largest = max(float((attacker[i : i + 4096] @ victim.T).max()) for i in range(0, len(attacker), 4096))
    if largest >= SAME_PERSON_COSINE:
        raise ConfigError(
            f"a face of the attacker is {largest:.2f} alike to a victim's, expected under {SAME_PERSON_COSINE}: "
            "leave that person out of one of the two"
        )
    return largest


@dataclass(frozen=True)
class Capture:
    """What the device has of a face before it encodes it."""

    aligned: AlignedFace
    quality: Quality


def capture_crop(rgb: NDArray[np.uint8], mesh: FaceMesh) -> Capture:
    """As if a crop (112, 112, 3) were the whole picture: its outline and quality from the mesh on the crop itself."""
    room = ((MARGIN_PX, MARGIN_PX), (MARGIN_PX, MARGIN_PX), (0, 0))
    found = mesh.detect(np.pad(rgb, room, mode="edge"))
    placed = Mesh(found.points_px - np.float32(MARGIN_PX), found.depth_px, found.presence)
    aligned = AlignedFace(rgb, hull(placed.points_px))
    return Capture(aligned, components(measure(aligned, _as_detected(placed), placed, np.eye(2, 3), rgb.shape)))


def _as_detected(mesh: Mesh) -> Detection:
    points = mesh.points_px
    box = np.concatenate([points.min(axis=0), points.max(axis=0)])
    six = np.stack([points[list(vertices)].mean(axis=0) for vertices in SIX_POINTS])
    return Detection(box, mesh.presence, six)


def portrait_captures(pictures: Sequence[Path], models_root: Path) -> list[Capture]:
    """The largest face of each picture, cut and turned as the device does it.

    Raises CaptureError naming a picture without a face or that cannot be read.
    """
    detector, mesh = FaceDetector.load(models_root), FaceMesh.load(models_root)
    return [_cut_out(path, detector, mesh) for path in pictures]


def _cut_out(path: Path, detector: FaceDetector, face_mesh: FaceMesh) -> Capture:
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise CaptureError(f"{path} is not a picture that can be read")
    rgb = np.ascontiguousarray(bgr[..., ::-1], np.uint8)
    found = detector.detect(rgb)
    if not found:
        raise CaptureError(f"{path}: no face was found")
    mesh = face_mesh.place(rgb, found[0])
    transform = crop_transform(five_points(mesh.points_px))
    aligned = AlignedFace(warp(rgb, transform), transform_points(transform, hull(mesh.points_px)))
    return Capture(aligned, components(measure(aligned, found[0], mesh, transform, rgb.shape)))


def _spread(kind: list[tuple[str, str, bool]], count: int | None) -> list[tuple[str, str, bool]]:
    if count is None or count >= len(kind):
        return kind
    return [kind[i] for i in np.linspace(0, len(kind) - 1, count).astype(np.int64)]


def portraits_as_crops(captures: Sequence[Capture], names: Sequence[str]) -> Crops:
    """Portraits by name; digits behind a name count pictures of one person."""
    people = tuple(name.rstrip("0123456789") for name in names)
    return Crops(np.stack([capture.aligned.rgb_u8_hwc for capture in captures]), tuple(names), people)
