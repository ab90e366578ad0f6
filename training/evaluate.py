"""Verification accuracy on an LFW-style benchmark: k folds, each scored at the other folds' best threshold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duetface.region import region_of_interest
from training.datasets import read_pairs
from training.fit import Student, read_weights
from training.production import BATCH, CropHull, ProductionPath

Folds = Sequence[Sequence[tuple[str, str, bool]]]
FARS = (1e-2, 1e-3)
MASKS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "own": torch.clone,
    "off": torch.zeros_like,
    "random": torch.rand_like,
}


@dataclass(frozen=True)
class Scores:
    """accuracy: mean and standard deviation over the folds.  tar: by FAR.  bytes: on the wire, 0 off it."""

    pairs: int
    accuracy: Mapping[str, float]
    tar_at_far: Mapping[str, float]
    eer: float
    bytes_per_face: Mapping[str, float]
    path: str

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values."""
        return asdict(self)


def evaluate_production(folder: Path, path: ProductionPath) -> Scores:
    """Through client ONNX, int8 wire and server ONNX, masks included."""
    crops, folds = read_pairs(folder)
    embeddings, lengths = path.embed(crops.values())
    return score(dict(zip(crops, embeddings, strict=True)), folds, lengths, "production")


def evaluate_torch(folder: Path, weights: Path, split: str, models: Path, masks: str = "own") -> Scores:
    """Through the torch modules of a run's weights: what the export is compared with.

    masks: one of MASKS; "off" and "random" ask, without retraining, what this network's masks do for it.
    """
    crops, folds = read_pairs(folder)
    student = Student(split, None)
    student.load_state_dict(read_weights(weights, split))
    embeddings = embed_torch(student.eval(), list(crops.values()), CropHull(models), masks)
    return score(dict(zip(crops, embeddings, strict=True)), folds, np.zeros(1, np.int64), f"torch, masks {masks}")


@torch.no_grad()
def embed_torch(
    student: Student, crops: Sequence[NDArray[np.uint8]], hull: CropHull, masks: str = "own"
) -> NDArray[np.float32]:
    """(N, 512) float32 of crops, in float32 throughout."""
    change, embeddings = MASKS[masks], []
    torch.manual_seed(1)
    for i in range(0, len(crops), BATCH):
        group = crops[i : i + BATCH]
        rgb = torch.from_numpy(np.stack(group)).permute(0, 3, 1, 2).float()
        region = torch.from_numpy(np.stack([region_of_interest(hull(crop), 112) for crop in group]))[:, None]
        planes = student.device_half(rgb, region)
        planes |= {name: change(plane) for name, plane in planes.items() if name.startswith("mask_")}
        embeddings.append(student.server(planes).numpy())
    return np.concatenate(embeddings)


def score(embeddings: Mapping[str, NDArray[np.float32]], folds: Folds, lengths: NDArray[np.int64], path: str) -> Scores:
    """Scores of embeddings by picture name."""
    similarity = [np.array([float(embeddings[a] @ embeddings[b]) for a, b, _ in fold]) for fold in folds]
    same = [np.array([kind for _, _, kind in fold]) for fold in folds]
    accuracies = fold_accuracies(similarity, same)
    all_similarity, all_same = np.concatenate(similarity), np.concatenate(same)
    genuine, impostor = all_similarity[all_same], np.sort(all_similarity[~all_same])
    return Scores(
        pairs=len(all_same),
        accuracy={"mean": round(float(np.mean(accuracies)), 5), "std": round(float(np.std(accuracies)), 5)},
        tar_at_far={f"{far:g}": round(tar_at(genuine, impostor, far), 4) for far in FARS},
        eer=round(equal_error_rate(genuine, impostor), 4),
        bytes_per_face={
            "mean": float(lengths.mean().round()), "p99": float(np.quantile(lengths, 0.99).round()),
            "max": float(lengths.max()),
        },
        path=path,
    )  # fmt: skip


def fold_accuracies(similarity: Sequence[NDArray[np.float64]], same: Sequence[NDArray[np.bool_]]) -> list[float]:
    """Accuracy of each fold at the threshold that is best on all the others (LFW View 2)."""
    accuracies = []
    for held_out in range(len(similarity)):
        others = [i for i in range(len(similarity)) if i != held_out]
        threshold = best_threshold(
            np.concatenate([similarity[i] for i in others]), np.concatenate([same[i] for i in others])
        )
        accuracies.append(float(np.mean((similarity[held_out] >= threshold) == same[held_out])))
    return accuracies


def best_threshold(similarity: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    """The similarity, among those seen, at or above which calling it a match errs least."""
    order = np.argsort(similarity)
    # Cutting before the i-th smallest: the genuine below are missed, the impostors from there on let in.
    missed = np.concatenate([[0], np.cumsum(same[order])])[:-1]
    let_in = np.cumsum((~same[order])[::-1])[::-1]
    return float(similarity[order][np.argmin(missed + let_in)])


def tar_at(genuine: NDArray[np.float64], impostor: NDArray[np.float64], far: float) -> float:
    """Share of genuine pairs above the similarity that at most this share of impostors exceeds (ascending)."""
    allowed = int(far * len(impostor))
    threshold = impostor[-allowed - 1]
    return float(np.mean(genuine > threshold))


def equal_error_rate(genuine: NDArray[np.float64], impostor: NDArray[np.float64]) -> float:
    """Where false rejection and false acceptance meet, the mean of the two at the nearest threshold."""
    thresholds = np.sort(np.concatenate([genuine, impostor]))
    frr = np.searchsorted(np.sort(genuine), thresholds) / len(genuine)
    far = 1 - np.searchsorted(np.sort(impostor), thresholds) / len(impostor)
    nearest = int(np.argmin(np.abs(frr - far)))
    return float((frr[nearest] + far[nearest]) / 2)
