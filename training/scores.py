"""Verification scores of similarities: k folds, TAR at FAR, EER, DET points, and the gap between two systems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

Folds = Sequence[Sequence[tuple[str, str, bool]]]
Floats = NDArray[np.float64]
FARS = (1e-2, 1e-3)
RESAMPLES = 2000


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


@dataclass(frozen=True)
class Verified:
    """The similarity of each pair of a set and whether it shows one person, fold by fold, each (P,)."""

    similarity: tuple[Floats, ...]
    same: tuple[NDArray[np.bool_], ...]

    @property
    def genuine(self) -> Floats:
        """Similarities of one person's pictures, in the order of the pairs."""
        return np.concatenate(self.similarity)[np.concatenate(self.same)]

    @property
    def impostor(self) -> Floats:
        """Similarities of different people's pictures, ascending."""
        return np.sort(np.concatenate(self.similarity)[~np.concatenate(self.same)])

    @property
    def right(self) -> NDArray[np.bool_]:
        """(P,) over all folds: was the pair told rightly, at the threshold that is best on the other folds?"""
        return np.concatenate(
            [
                (similarity >= threshold) == same
                for similarity, same, threshold in zip(
                    self.similarity, self.same, fold_thresholds(self.similarity, self.same), strict=True
                )
            ]
        )


def verify(embeddings: Mapping[str, NDArray[np.float32]], folds: Folds) -> Verified:
    """Cosines of the folds' pairs by picture name."""
    return Verified(
        tuple(np.array([float(embeddings[a] @ embeddings[b]) for a, b, _ in fold]) for fold in folds),
        tuple(np.array([kind for _, _, kind in fold]) for fold in folds),
    )


def score(verified: Verified, lengths: NDArray[np.int64], path: str) -> Scores:
    """Scores of a set's similarities.  lengths: bytes of each face on the wire, [0] where there is no wire."""
    accuracies = fold_accuracies(verified.similarity, verified.same)
    genuine, impostor = verified.genuine, verified.impostor
    return Scores(
        pairs=len(genuine) + len(impostor),
        accuracy={"mean": round(float(np.mean(accuracies)), 5), "std": round(float(np.std(accuracies)), 5)},
        tar_at_far={f"{far:g}": round(tar_at(genuine, impostor, far), 4) for far in FARS},
        eer=round(equal_error_rate(genuine, impostor), 4),
        bytes_per_face={
            "mean": float(lengths.mean().round()), "p99": float(np.quantile(lengths, 0.99).round()),
            "max": float(lengths.max()),
        },
        path=path,
    )  # fmt: skip


def fold_accuracies(similarity: Sequence[Floats], same: Sequence[NDArray[np.bool_]]) -> list[float]:
    """Accuracy of each fold at the threshold that is best on all the others (LFW View 2)."""
    thresholds = fold_thresholds(similarity, same)
    return [
        float(np.mean((values >= threshold) == kind))
        for values, kind, threshold in zip(similarity, same, thresholds, strict=True)
    ]


def fold_thresholds(similarity: Sequence[Floats], same: Sequence[NDArray[np.bool_]]) -> list[float]:
    """For each fold the threshold that is best on all the others."""
    thresholds = []
    for held_out in range(len(similarity)):
        others = [i for i in range(len(similarity)) if i != held_out]
        thresholds.append(
            best_threshold(np.concatenate([similarity[i] for i in others]), np.concatenate([same[i] for i in others]))
        )
    return thresholds


def best_threshold(similarity: Floats, same: NDArray[np.bool_]) -> float:
    """The similarity, among those seen, at or above which calling it a match errs least."""
    order = np.argsort(similarity)
    # Cutting before the i-th smallest: the genuine below are missed, the impostors from there on let in.
    missed = np.concatenate([[0], np.cumsum(same[order])])[:-1]
    let_in = np.cumsum((~same[order])[::-1])[::-1]
    return float(similarity[order][np.argmin(missed + let_in)])


def tar_at(genuine: Floats, impostor: Floats, far: float) -> float:
    """Share of genuine pairs above the similarity that at most this share of impostors exceeds (ascending)."""
    allowed = int(far * len(impostor))
    threshold = impostor[-allowed - 1]
    return float(np.mean(genuine > threshold))


def equal_error_rate(genuine: Floats, impostor: Floats) -> float:
    """Where false rejection and false acceptance meet, the mean of the two at the nearest threshold."""
    far, frr = det_points(genuine, impostor)
    nearest = int(np.argmin(np.abs(frr - far)))
    return float((frr[nearest] + far[nearest]) / 2)


def det_points(genuine: Floats, impostor: Floats) -> tuple[Floats, Floats]:
    """False acceptance (falling) and false rejection (rising) at every similarity seen, ascending."""
    thresholds = np.sort(np.concatenate([genuine, impostor]))
    frr = np.searchsorted(np.sort(genuine), thresholds) / len(genuine)
    far = 1 - np.searchsorted(np.sort(impostor), thresholds) / len(impostor)
    return np.asarray(far), np.asarray(frr)


def paired_gap(right: NDArray[np.bool_], other: NDArray[np.bool_], folds: Folds, seed: int = 1) -> dict[str, object]:
    """How much more often `other` is right on the same pairs, in points, with a 95 % bootstrap interval.

    right, other: (P,) in the order of the folds' pairs.
    People are drawn with replacement and a pair counts as often as both its people were drawn together, so
    that pairs which share a person do not pass for independent ones. A set whose names tell no people
    (InsightFace's .bin) is resampled by pairs, and the answer says so: that interval is too narrow.
    """
    pairs = [pair for fold in folds for pair in fold]
    difference = 100.0 * (other.astype(np.float64) - right)
    first, second = people_of(pairs)
    random = np.random.default_rng(seed)
    if first is None or second is None:
        drawn = random.integers(0, len(pairs), (RESAMPLES, len(pairs)))
        means, unit = difference[drawn].mean(axis=1), "pairs (the set names no people: too narrow)"
    else:
        means, unit = _means_over_people(difference, first, second, random), "people"
    low, high = np.quantile(means, (0.025, 0.975))
    mean = float(difference.mean())
    return {"points": round(mean, 3), "low": round(float(low), 3), "high": round(float(high), 3), "resampled": unit}


def _means_over_people(
    difference: Floats, first: NDArray[np.int64], second: NDArray[np.int64], random: np.random.Generator
) -> Floats:
    count = int(max(first.max(), second.max())) + 1
    means = []
    for _ in range(RESAMPLES):
        times = np.bincount(random.integers(0, count, count), minlength=count)
        weight = np.where(first == second, times[first], times[first] * times[second])
        means.append(np.average(difference, weights=weight) if weight.any() else difference.mean())
    return np.array(means)


def people_of(
    pairs: Sequence[tuple[str, str, bool]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | tuple[None, None]:
    """A number for the person on each picture of a pair; (None, None) where names hold no person (NAME_0001)."""
    if any("_" not in name for first, second, _ in pairs for name in (first, second)):
        return None, None
    people = [name.rsplit("_", 1)[0] for first, second, _ in pairs for name in (first, second)]
    numbers = np.unique(people, return_inverse=True)[1].reshape(-1, 2)
    return numbers[:, 0], numbers[:, 1]
