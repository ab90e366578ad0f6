"""Guessing by the public API: what an agent with a valid certificate gains from 10,000 answers.

The service answers with decisions. Until the first accept every answer is the same, so the attacker cannot adapt,
and all it can do is to ask for many different faces, or for averages that resemble many people (a wolf, or master
face). The baseline gets similarities instead, and climbs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from duetface.metrics import clopper_pearson
from duetface.quantisation import code_range
from duetface.spec import SplitSpec
from duetface.types import Codes, Outcome, ProtectedFace
from gallery.rotation import orthogonal_matrix, rotate
from privacy.pack import Group
from recognition_service.decision import OperatingPoint, decide_verification

AVERAGED = (2, 4, 8, 16, 32, 64)  # faces in one wolf


class Embeds(Protocol):
    """The service's network."""

    def embed(self, faces: Sequence[ProtectedFace]) -> NDArray[np.float32]:
        """(B, D) of unit length."""
        ...


@dataclass(frozen=True)
class Guessing:
    """queries: asked of each victim.  victims: people.  accepted: comparisons decided "accept".

    broken: victims for whom at least one query was accepted.  fmr: that the service promises.
    low, high: 95 % interval of the accept rate (Clopper and Pearson), as if comparisons were independent.
    """

    queries: int
    victims: int
    accepted: int
    broken: int
    fmr: float
    low: float
    high: float

    @property
    def accept_rate(self) -> float:
        """Share of comparisons that were accepted."""
        return self.accepted / (self.queries * self.victims)

    @property
    def expected_broken(self) -> float:
        """Share of victims that as many independent guesses at the promised rate would break."""
        return float(-np.expm1(self.queries * np.log1p(-self.fmr)))


class StoredVictims:
    """Victims enrolled under a realm's key; answers by the rules of the service, lock-out switched off."""

    def __init__(self, templates: NDArray[np.float32], point: OperatingPoint, seed: int) -> None:
        """templates: (V, D) of unit length, one a victim."""
        self._matrix = orthogonal_matrix(np.random.default_rng(seed).bytes(32), templates.shape[1])
        self._stored = rotate(self._matrix, templates)
        self._point = point

    def __len__(self) -> int:
        """How many victims."""
        return len(self._stored)

    def similarities(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B, V) cosines: what the service knows and does not tell."""
        return rotate(self._matrix, embeddings).astype(np.float64) @ self._stored.T

    def accepts(self, embeddings: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(B, V) decisions: what the service tells."""
        decide = np.vectorize(self._accepts, otypes=[np.bool_])
        near = self.similarities(embeddings)
        answers = np.zeros(near.shape, np.bool_)
        # Only the near ones can be accepted; asking for each of ten million would take an hour.
        likely = near >= self._point.threshold - 1e-3
        answers[likely] = decide(near[likely]) if likely.any() else False
        return answers

    def _accepts(self, cosine: float) -> bool:
        return decide_verification("victim", float(cosine), self._point).outcome is Outcome.ACCEPT


def guess(
    queries: Iterator[ProtectedFace], count: int, service: Embeds, victims: StoredVictims, fmr: float, batch: int = 64
) -> Guessing:
    """Ask `count` queries of every victim.  fmr: promised by the service's threshold."""
    accepted, broken, asked = 0, np.zeros(len(victims), np.bool_), 0
    while asked < count:
        faces = [next(queries) for _ in range(min(batch, count - asked))]
        answers = victims.accepts(service.embed(faces))
        accepted += int(answers.sum())
        broken |= answers.any(axis=0)
        asked += len(faces)
    comparisons = count * len(victims)
    low, high = clopper_pearson(accepted, comparisons)
    return Guessing(count, len(victims), accepted, int(broken.sum()), fmr, low, high)


def guesses(own: Group, split: SplitSpec, seed: int) -> Iterator[ProtectedFace]:
    """Endless queries: each of the attacker's faces once, then averages of several."""
    for row in range(len(own.names)):
        yield ProtectedFace(split.digest, {name: codes_of(own, name, row) for name in own.planes})
    random = np.random.default_rng(seed)
    while True:
        parents = random.choice(len(own.names), random.choice(AVERAGED))
        yield ProtectedFace(split.digest, {name: average(own, name, parents, split) for name in own.planes})


def codes_of(own: Group, plane: str, row: int) -> Codes:
    """One face's codes of one plane."""
    return _typed(own.planes[plane][row])


def average(own: Group, plane: str, parents: NDArray[np.int64], split: SplitSpec) -> Codes:
    """The rounded mean of several faces' codes: still a valid message."""
    described = split.plane(plane)
    low, high = code_range(described)
    mean = own.planes[plane][parents].astype(np.float64).mean(axis=0)
    return _typed(np.clip(np.rint(mean), low, high).astype(np.int8 if described.signed else np.uint8))


def climb(
    own: Group, split: SplitSpec, service: Embeds, victims: StoredVictims, victim: int, count: int, seed: int
) -> tuple[float, int]:
    """The baseline: an API that tells similarities. Keeps the best message and mixes others into it.

    Returns the similarity reached and the number of queries until the first accept (0 if none).
    """
    random = np.random.default_rng(seed)
    first = int(random.integers(len(own.names)))
    best = {name: codes_of(own, name, first) for name in own.planes}
    reached, first_accept = -1.0, 0
    for query in range(1, count + 1):
        child = _mixed(best, own, split, random) if query > 1 else best
        embedding = service.embed([ProtectedFace(split.digest, child)])
        similarity = float(victims.similarities(embedding)[0, victim])
        if similarity > reached:
            best, reached = child, similarity
        if not first_accept and victims.accepts(embedding)[0, victim]:
            first_accept = query
    return reached, first_accept


def _mixed(best: dict[str, Codes], own: Group, split: SplitSpec, random: np.random.Generator) -> dict[str, Codes]:
    """A share of the way from the best message to another face's, or away from it."""
    other = int(random.integers(len(own.names)))
    share = random.choice((-0.3, 0.15, 0.3, 0.5))
    mixed: dict[str, Codes] = {}
    for name, codes in best.items():
        low, high = code_range(split.plane(name))
        summed = codes.astype(np.float64) + share * (own.planes[name][other].astype(np.float64) - codes)
        mixed[name] = _typed(np.clip(np.rint(summed), low, high).astype(codes.dtype))
    return mixed


def _typed(codes: NDArray[np.generic]) -> Codes:
    return cast(Codes, codes)
