"""Synthetic templates with the spectrum of real embeddings, probes at a given cosine, and the exact truth about them.

Real embeddings fill about 210 of 512 dimensions, which makes strangers more alike than uniform vectors would be: a
benchmark on uniform vectors flatters every approximate index.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

SPECTRUM = Path(__file__).with_name("spectrum.json")
CHUNK = 65536


@dataclass(frozen=True)
class Population:
    """Normal vectors of a stored spectrum, in a basis drawn by seed as the realm's rotation draws it, made unit long.

    basis: (D, D) float32, rows of standard normal numbers times it have the covariance.  mean: (D,) float32.
    """

    basis: Vectors
    mean: Vectors

    @staticmethod
    def load(seed: int, path: Path = SPECTRUM) -> "Population":
        """The stored spectrum."""
        stored = json.loads(path.read_text(encoding="utf-8"))
        values = np.array(stored["eigenvalues"])
        drawn = np.random.default_rng(seed).standard_normal((len(values) + 1, len(values)))
        rotation = np.linalg.qr(drawn[:-1])[0]
        mean = drawn[-1] / np.linalg.norm(drawn[-1]) * stored["mean_length"]
        return Population((np.sqrt(values)[:, None] * rotation).astype(np.float32), mean.astype(np.float32))

    def people(self, count: int, seed: int) -> Vectors:
        """(count, D) unit vectors."""
        drawn = np.random.default_rng(seed).standard_normal((count, len(self.basis)), dtype=np.float32)
        vectors = drawn @ self.basis + self.mean
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)

    def chunks(self, count: int, seed: int) -> Iterator[tuple[int, Vectors]]:
        """`count` people in chunks, each with the number of its first."""
        for number, start in enumerate(range(0, count, CHUNK)):
            yield start, self.people(min(CHUNK, count - start), seed + number)

    def probes(self, templates: Vectors, low: float, high: float, seed: int) -> Vectors:
        """A probe of each template at a cosine drawn between two; the rest of it is drawn like a person.

        Drawn and not fixed, since a fixed one may lie on a threshold, where rounding alone decides.
        """
        cosine = np.random.default_rng(seed).uniform(low, high, (len(templates), 1))
        other = self.people(len(templates), seed)
        other -= np.einsum("ij,ij->i", other, templates)[:, None] * templates
        other /= np.linalg.norm(other, axis=1, keepdims=True)
        return np.asarray(cosine * templates + np.sqrt(1 - cosine**2) * other, dtype=np.float32)


@dataclass
class Truth:
    """The exact best match of each probe, kept up to date while a gallery is filled; float32 products."""

    probes: Vectors
    best: Vectors = field(init=False)
    ids: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        """Nothing seen yet."""
        self.best = np.full(len(self.probes), -2, np.float32)
        self.ids = np.full(len(self.probes), -1, np.int64)

    def see(self, start: int, vectors: Vectors) -> None:
        """Templates start, start + 1, ... have these vectors."""
        cosines = self.probes @ vectors.T
        rows = cosines.argmax(axis=1)
        found = cosines[np.arange(len(rows)), rows]
        better = found > self.best
        self.best[better], self.ids[better] = found[better], start + rows[better]

    def agreement(self, ids: NDArray[np.int64], cosines: Vectors, thresholds: tuple[float, ...]) -> dict[str, float]:
        """Share of probes with the same rank-1 match, and with the same decision at every threshold.

        Two decisions are the same if both reject, or both accept the same template.
        """
        same = ids == self.ids
        decided = np.ones(len(ids), np.bool_)
        for threshold in thresholds:
            accept, expected = cosines >= threshold, self.best >= threshold
            decided &= (accept == expected) & (~expected | same)
        return {
            "rank_1_same": round(float(same.mean()), 5),
            "decision_same": round(float(decided.mean()), 5),
            "largest_cosine_error": float(np.abs(cosines - self.best)[same].max(initial=0)),
            "n": len(ids),
        }
