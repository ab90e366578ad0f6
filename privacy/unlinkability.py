"""Stolen templates: linkage across realms, and what a thief without the key recovers from known people.

D_sys after M. Gomez-Barrero et al., "General framework to evaluate unlinkability in biometric template protection
systems", IEEE TIFS 13(6) 2018, eq. 6 to 8.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gallery.rotation import orthogonal_matrix, rotate

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
BINS = 40


@dataclass(frozen=True)
class Linkage:
    """d_sys: 0 unlinkable, 1 linkable.  bias: the same figure for scores that carry nothing, which is above 0.

    mated, non_mated: how many comparisons.
    """

    d_sys: float
    bias: float
    mated: int
    non_mated: int

    @property
    def above_chance(self) -> float:
        """d_sys less the estimator's bias, not below 0."""
        return max(0.0, self.d_sys - self.bias)


def d_sys(mated: Floats, non_mated: Floats, bins: int = BINS) -> float:
    """Global linkability of cross-realm scores, prior ratio 1.

    LR = p(s | mated) / p(s | non-mated);  D(s) = 2 LR / (1 + LR) - 1 where LR > 1, else 0;  D_sys = E_mated[D].
    mated, non_mated: scores.  Densities are histograms over the common range.
    """
    edges = np.histogram_bin_edges(np.concatenate([mated, non_mated]), bins)
    return _linkability(_density(mated, edges), _density(non_mated, edges))


def _density(scores: Floats, edges: Floats) -> Floats:
    return np.histogram(scores, edges)[0] / len(scores)


def _linkability(p: Floats, q: Floats) -> float:
    """D_sys from the two densities over the same bins."""
    # 2 LR / (1 + LR) - 1 = (p - q) / (p + q), which needs no division by an empty bin of q.
    local = np.maximum(p - q, 0) / np.maximum(p + q, np.finfo(np.float64).tiny)
    return float((p * local).sum())


def linkage(first: Vectors, second: Vectors, seed: int, repeats: int = 20) -> Linkage:
    """D_sys between two realms' stored templates of the same people.

    first, second: (N, D), row i of both one person's.  Non-mated scores compare each row with another person's.
    The bias is the mean D_sys of as many scores drawn without regard to mates.
    """
    scores = first.astype(np.float64) @ second.astype(np.float64).T
    apart = ~np.eye(len(scores), dtype=bool)
    mated, others = np.diag(scores).copy(), scores[apart]
    edges = np.histogram_bin_edges(np.concatenate([mated, others]), BINS)
    density = _density(others, edges)
    drawn = np.random.default_rng(seed).integers(len(others), size=(repeats, len(mated)))
    chance = [_linkability(_density(others[rows], edges), density) for rows in drawn]
    return Linkage(_linkability(_density(mated, edges), density), float(np.mean(chance)), len(mated), len(others))


def two_realms(
    first: Vectors, second: Vectors, *, same_key: bool, seeds: tuple[bytes, bytes] | None = None
) -> tuple[Vectors, Vectors]:
    """What two realms store of the same people: rotated by one key, or each by its own.

    seeds: of the realms' matrices; fresh random ones if None, as `duetface init` draws them.
    """
    ours, theirs = seeds if seeds is not None else (secrets.token_bytes(32), secrets.token_bytes(32))
    dimension = first.shape[1]
    matrix = orthogonal_matrix(ours, dimension)
    other = matrix if same_key else orthogonal_matrix(theirs, dimension)
    return rotate(matrix, first), rotate(other, second)


def procrustes(stored: Vectors, known: Vectors) -> Floats:
    """The rotation that K known people betray: argmin |stored - known R^T| (Schönemann, Psychometrika 31, 1966).

    stored: (K, D) stolen templates.  known: (K, D), the thief's own embeddings of *other* pictures of these people.
    Returns (D, D) orthogonal.
    """
    u, _, vt = np.linalg.svd(stored.astype(np.float64).T @ known.astype(np.float64))
    return np.asarray(u @ vt)


def inverted_cosine(stored: Vectors, true: Vectors, rotation: Floats) -> float:
    """Mean cosine of stolen templates, turned back by a guessed rotation, to the true embeddings (N, D)."""
    turned = stored.astype(np.float64) @ rotation
    return float((turned * true).sum(axis=1).mean())


def key_recovery(
    known: Vectors, other_pictures: Vectors, victims: Vectors, counts: tuple[int, ...], seed: int
) -> dict[int, float]:
    """Cosine of inverted to true templates of victims, by how many people of the realm the thief knows.

    known: (K, D), enrolled pictures of people whose other picture the thief has (other_pictures).
    victims: (N, D), enrolled people nobody knows.
    """
    matrix = orthogonal_matrix(np.random.default_rng(seed).bytes(32), known.shape[1])
    stolen, stolen_victims = rotate(matrix, known), rotate(matrix, victims)
    return {
        count: inverted_cosine(stolen_victims, victims, procrustes(stolen[:count], other_pictures[:count]))
        for count in counts
        if count <= len(known)
    }


def match_by_geometry(first: Vectors, second: Vectors, anchors: int) -> float:
    """Share of people matched across two realms without any key, from angles to a few known shared people.

    A rotation keeps every angle, so a person's cosines to `anchors` people enrolled in both realms are a name.
    first, second: (N, D) stored; the first `anchors` rows are the shared people the thief can tell.
    """
    profile = first[anchors:] @ first[:anchors].T
    other = second[anchors:] @ second[:anchors].T
    profile, other = _standard(profile), _standard(other)
    nearest = (profile @ other.T).argmax(axis=1)
    return float((nearest == np.arange(len(nearest))).mean())


def _standard(rows: Vectors) -> Vectors:
    centred = rows - rows.mean(axis=0)
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12), np.float32)
