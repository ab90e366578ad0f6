"""Impostor and genuine similarities of a published space, on people that no run may train on.

Real shots of different people, through the production path. Nothing of a benchmark (lfw_dev,
lfw_raw_dev) may set a threshold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gallery.calibration import Calibration, SourceFigures
from training.datasets import Faces
from training.production import ProductionPath

PICTURES_PER_PERSON = 4  # else the few people with dozens of pictures would be most of the sample
FMRS = (1e-3, 1e-4, 1e-5)  # at which the card states what the sample shows
TAIL = 3000  # impostor similarities kept: with 800,000 comparisons, FMR up to about 4e-3
GENUINE_KEPT = 1000  # quantiles of the genuine similarities
# The labels are not perfect: a pair of "different" people that the unprotected teacher finds this alike
# is one person under two names (method: LFW impostors stay under 0.45 with this teacher).
SAME_PERSON = 0.5
# Families in the Wild: many of its "different people" are parents, children and siblings, and the labels
# at hand do not say which. An impostor by ISO/IEC 19795 is drawn at random, not from the own family.
FAMILIES = "fiw"


def calibrate(path: ProductionPath, faces: Faces) -> Calibration:
    """Embed the held-out people and compare all of them with all; also by source set."""
    rows = sample_rows(faces)
    embeddings, _ = path.embed(np.asarray(faces.crops[row]) for row in rows)
    of_families = faces.source[rows] == FAMILIES
    impostor, genuine, mislabelled = comparisons(embeddings, faces.teacher[rows], faces.identity[rows], of_families)
    sets = ", ".join(np.unique(faces.source[rows]))
    calibration = Calibration(
        n_impostor=len(impostor),
        n_identities=len(np.unique(faces.identity[rows])),
        impostor_tail=tuple(float(value) for value in np.sort(impostor)[-TAIL:]),
        genuine=tuple(float(value) for value in np.quantile(genuine, np.linspace(0, 1, GENUINE_KEPT))),
        sample=(
            f"{len(rows)} aligned crops of people held out from training (sets {sets}), at most "
            f"{PICTURES_PER_PERSON} a person, each pair of different people once but pairs within {FAMILIES} "
            f"(relatives) and {mislabelled} pairs of one person under two labels; "
            f"{len(genuine)} genuine comparisons, kept as quantiles; "
            f"data {faces.digest[:16]}"
        ),
    )
    thresholds = {fmr: calibration.threshold_at(fmr) for fmr in FMRS if fmr >= calibration.smallest_fmr}
    return replace(calibration, by_source=by_source(embeddings, faces, rows, thresholds))


def by_source(
    embeddings: NDArray[np.float32], faces: Faces, rows: NDArray[np.int64], thresholds: Mapping[float, float]
) -> dict[str, SourceFigures]:
    """Each source set's people compared among themselves, since no other labels are known.

    thresholds: of the whole sample, by FMR.
    """
    figures = {}
    for name in np.unique(faces.source[rows]):
        mine = faces.source[rows] == name
        chosen = rows[mine]
        relatives = np.full(len(chosen), name == FAMILIES)
        impostor, genuine, _ = comparisons(embeddings[mine], faces.teacher[chosen], faces.identity[chosen], relatives)
        figures[str(name)] = SourceFigures(
            people=len(np.unique(faces.identity[chosen])),
            impostor=len(impostor),
            genuine=len(genuine),
            at_fmr=tuple(thresholds),
            false_matches=tuple(int((impostor >= threshold).sum()) for threshold in thresholds.values()),
            false_non_matches=tuple(int((genuine < threshold).sum()) for threshold in thresholds.values()),
        )
    return figures


def sample_rows(faces: Faces) -> NDArray[np.int64]:
    """At most PICTURES_PER_PERSON rows of each held-out person, picked by a hash of the row."""
    rows = faces.held_out_rows()
    order = sorted(rows, key=lambda row: hashlib.sha256(f"row {row}".encode()).digest())
    taken: dict[int, list[int]] = {}
    for row in order:
        taken.setdefault(int(faces.identity[row]), []).append(int(row))
    return np.sort(np.array([row for mine in taken.values() for row in mine[:PICTURES_PER_PERSON]]))


def comparisons(
    embeddings: NDArray[np.float32],
    teacher: NDArray[np.float32],
    identity: NDArray[np.int64],
    of_families: NDArray[np.bool_],
) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
    """Impostor similarities, genuine similarities, and how many impostor pairs were left out as mislabelled.

    of_families: (N,), true for pictures of a set of families, whose people are not compared with each other.
    """
    first, second = np.triu_indices(len(identity), k=1)
    similarity = (embeddings @ embeddings.T)[first, second]
    same = identity[first] == identity[second]
    different = ~same & ~(of_families[first] & of_families[second])
    doubtful = different & ((teacher @ teacher.T)[first, second] >= SAME_PERSON)
    return similarity[different & ~doubtful], similarity[same], int(doubtful.sum())
