"""Re-identification by a recogniser that is not ours: does a reconstruction verify against another picture?

D. E. King's ResNet of dlib (99.38 % on LFW by its author), on chips cut from fixed positions of the crop,
so that no detector can fail on a blurred reconstruction. Needs the extra `privacy`.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from duetface.errors import ConfigError
from privacy.judges import Floats, Interval, bootstrap

CHIP_PX = 150
WEIGHTS = "dlib_face_recognition_resnet_model_v1.dat"
FAR = 1e-2

# dlib's five-point chip (padding 0.25) has its eyes 52.6 px apart at y = 47.1, centred on x = 74; the ArcFace
# template has them 35.24 px apart at y = 51.6, centred on x = 55.91 (dlib/image_transforms/interpolation.h).
CROP_TO_CHIP = np.array([[1.493, 0.0, -9.47], [0.0, 1.493, -29.94]])


@dataclass(frozen=True)
class Pairs:
    """Comparisons by row: probe (reconstructed) and reference (a real picture), and who the probe shows."""

    probe: NDArray[np.int64]
    reference: NDArray[np.int64]
    people: tuple[str, ...]


@dataclass(frozen=True)
class Reidentified:
    """accepted: (genuine pairs,) 1.0 where accepted at FAR 1e-2.  distance: the threshold, Euclidean."""

    accepted: Floats
    distance: float
    tar: Interval


class DlibJudge:
    """dlib's face descriptors; one picture after the other, about 0.1 s each on one core."""

    def __init__(self, network: Any) -> None:
        """network: dlib.face_recognition_model_v1."""
        self._network = network

    @classmethod
    def load(cls) -> DlibJudge:
        """Raises ConfigError saying what to install."""
        folder = importlib.util.find_spec("face_recognition_models")
        if importlib.util.find_spec("dlib") is None or folder is None or not folder.submodule_search_locations:
            raise ConfigError("the judge of re-identification is missing: pip install dlib-bin face-recognition-models")
        path = Path(folder.submodule_search_locations[0]) / "models" / WEIGHTS
        return cls(importlib.import_module("dlib").face_recognition_model_v1(str(path)))

    def describe(self, rgb: NDArray[np.generic]) -> NDArray[np.float32]:
        """(N, 112, 112, 3) RGB 0 to 255 -> (N, 128) float32 descriptors."""
        pictures = np.clip(np.rint(np.asarray(rgb, np.float64)), 0, 255).astype(np.uint8)
        rows = [np.array(self._network.compute_face_descriptor(chip(picture)), np.float32) for picture in pictures]
        return np.stack(rows)


def chip(rgb_u8_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut dlib's (150, 150, 3) chip from a (112, 112, 3) crop; the 8 rows below the crop repeat its edge."""
    side = (CHIP_PX, CHIP_PX)
    cut = cv2.warpAffine(rgb_u8_hwc, CROP_TO_CHIP, side, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(cut, np.uint8)


def reidentify(
    probes: NDArray[np.float32], references: NDArray[np.float32], genuine: Pairs, impostor: Pairs, far: float = FAR
) -> Reidentified:
    """True accept rate of reconstructions at a false accept rate of the same reconstructions.

    probes: (N, 128) of the reconstructions, references: (M, 128) of real pictures; rows as the pairs name them.
    The threshold comes from reconstructions against other people's pictures: a blurred face that resembles
    everybody gains nothing.  Raises ConfigError if there are fewer impostor pairs than 1 / far.
    """
    if len(impostor.probe) * far < 1:
        raise ConfigError(f"got {len(impostor.probe)} impostor pairs, expected {round(1 / far)} or more at FAR {far}")
    others = distances(probes, references, impostor)
    # The largest threshold at which at most far of the impostors lie below it.
    threshold = float(np.sort(others)[int(len(others) * far)])
    accepted = (distances(probes, references, genuine) < threshold).astype(np.float64)
    return Reidentified(accepted, threshold, bootstrap(accepted, genuine.people))


def accepted_at(
    probes: NDArray[np.float32], references: NDArray[np.float32], genuine: Pairs, threshold: float
) -> Interval:
    """Share of genuine pairs accepted at a threshold that real pictures set."""
    accepted = (distances(probes, references, genuine) < threshold).astype(np.float64)
    return bootstrap(accepted, genuine.people)


def distances(probes: NDArray[np.float32], references: NDArray[np.float32], pairs: Pairs) -> Floats:
    """(P,) Euclidean distance of each pair."""
    difference = probes[pairs.probe].astype(np.float64) - references[pairs.reference]
    return np.asarray(np.linalg.norm(difference, axis=1))


def pairs_by_row(names: Sequence[str], named: Sequence[tuple[str, str, bool]]) -> tuple[Pairs, Pairs]:
    """Genuine and impostor pairs of a benchmark among the given pictures, each in both directions.

    names: of the pictures by row, PERSON_0001.  Pairs whose pictures are not both there are left out.
    """
    row = {name: i for i, name in enumerate(names)}
    both = [(a, b, same) for a, b, same in named if a in row and b in row]
    turned = both + [(b, a, same) for a, b, same in both]

    def select(wanted: bool) -> Pairs:
        chosen = [(a, b) for a, b, same in turned if same is wanted]
        return Pairs(
            np.array([row[a] for a, _ in chosen], np.int64),
            np.array([row[b] for _, b in chosen], np.int64),
            tuple(a.rsplit("_", 1)[0] for a, _ in chosen),
        )

    return select(True), select(False)
