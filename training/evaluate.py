"""Verification on a set of pairs, of any system: the shipped files over the wire, or a run's weights in torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duetface.codec import encode_plane
from duetface.errors import ModelError
from duetface.manifest import ModelCatalogue, load_split
from duetface.region import region_of_interest
from duetface.spec import SplitSpec
from networks.registry import split_of
from training.datasets import CROP
from training.pair_sets import PairSet
from training.production import BATCH, CropHull, ProductionPath, groups
from training.scores import Scores, Verified, score, verify
from training.student import Student, load_student, weights_digest
from training.teacher import Teacher

MASKS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "own": torch.clone,
    "off": torch.zeros_like,
    "random": torch.rand_like,
}


class System(Protocol):
    """Whatever turns crops into embeddings."""

    @property
    def label(self) -> str:
        """What the scores say of the path."""
        ...

    def embed(self, crops: Iterable[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(112, 112, 3) uint8 RGB each -> (N, 512) of unit length, and the bytes each face took on the wire."""
        ...


@dataclass(frozen=True)
class TorchPath:
    """The torch modules of a run's weights: what the export is compared with.

    masks: one of MASKS; "off" and "random" ask, without retraining, what this network's masks do for it.
    region: false looks everywhere instead of at the face.
    """

    spec: SplitSpec
    student: Student
    hull: CropHull
    masks: str = "own"
    region: bool = True

    @property
    def label(self) -> str:
        """What is not as in production."""
        return f"torch, masks {self.masks}" + ("" if self.region else ", no region of interest")

    @staticmethod
    def load(weights: Path, models: Path, masks: str = "own", region: bool = True) -> TorchPath:
        """weights: final.pt or checkpoint.pt of a run; the split is the one that it was trained for."""
        spec = split_of(weights_digest(weights))
        return TorchPath(spec, load_student(weights, spec.name), CropHull(models), masks, region)

    @torch.no_grad()
    def embed(self, crops: Iterable[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """In float32 throughout; the bytes are those of the same codes through the codec."""
        torch.manual_seed(1)  # of random masks
        embeddings, lengths = [], []
        for group in groups(crops, BATCH):
            planes = self.student.device_half(*self._inputs(group))
            planes |= {name: MASKS[self.masks](plane) for name, plane in planes.items() if name.startswith("mask_")}
            embeddings.append(self.student.server(planes).numpy())
            lengths += wire_bytes(self.spec, planes)
        return np.concatenate(embeddings), np.array(lengths)

    def _inputs(self, crops: Sequence[NDArray[np.uint8]]) -> tuple[Tensor, Tensor]:
        rgb = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float()
        if not self.region:
            return rgb, torch.ones(len(crops), 1, CROP, CROP)
        regions = [region_of_interest(self.hull(crop), CROP) for crop in crops]
        return rgb, torch.from_numpy(np.stack(regions))[:, None]


def system_named(name: str, space: str, models: Path, threads: int) -> System:
    """A published split by name, or "default", through the production path; or a run's weights (.pt) in torch.

    space: a template space of that split; empty takes the default's, else the first in float32.
    """
    if name.endswith(".pt"):
        return TorchPath.load(Path(name), models)
    catalogue = ModelCatalogue(models)
    split = catalogue.default_split() if name == "default" else _published(catalogue, name)
    fitting = [found for found in catalogue.spaces() if found.split_digest == split.digest]
    if space:
        fitting = [found for found in fitting if found.name == space]
    if not fitting:
        raise ModelError(f"split {split.name} has no template space {space or ''!r} in {models}: publish a run of it")
    preferred = catalogue.default_space().name
    best = min(fitting, key=lambda found: (found.name != preferred, found.precision != "float32", found.name))
    return ProductionPath.load(models, split.name, best.name, threads)


def _published(catalogue: ModelCatalogue, name: str) -> SplitSpec:
    if not (catalogue.split_folder(name) / "split.json").exists():
        known = [split.name for split in catalogue.splits()]
        raise ModelError(
            f"split {name!r} is not in {catalogue.root} (there are {known}): name a run's final.pt instead"
        )
    return load_split(catalogue.split_folder(name))


def wire_bytes(spec: SplitSpec, planes: Mapping[str, Tensor]) -> list[int]:
    """Bytes of each face's decoded planes, (B, C, H, W) by name, once encoded again."""
    lengths = np.zeros(len(next(iter(planes.values()))), np.int64)
    for plane in spec.planes:
        scale = np.array(plane.scale, np.float32)[:, None, None]
        codes = np.rint((planes[plane.name].numpy() - plane.offset) / scale)
        codes = codes.astype(np.int8 if plane.signed else np.uint8)
        lengths += [len(encode_plane(face, plane)) for face in codes]
    return lengths.tolist()


@dataclass(frozen=True)
class Evaluation:
    """Scores, and what is behind them: similarities of the pairs, and (N, 512) embeddings of the set's pictures."""

    scores: Scores
    verified: Verified
    embeddings: NDArray[np.float32]


def evaluate(pairs: PairSet, system: System) -> Evaluation:
    """Embed every picture of the set once, compare the pairs."""
    embeddings, lengths = system.embed(pairs.crops.values())
    verified = verify(dict(zip(pairs.crops, embeddings, strict=True)), pairs.folds)
    return Evaluation(score(verified, lengths, system.label), verified, embeddings)


def teacher_cosine(pairs: PairSet, evaluated: Evaluation, teacher: Teacher) -> float:
    """How alike the system's embeddings of the set's pictures are to the teacher's, in the mean: of people unseen."""
    answers = [teacher(np.stack(group)) for group in groups(pairs.crops.values(), BATCH)]
    return float((evaluated.embeddings * np.concatenate(answers)).sum(axis=1).mean())
