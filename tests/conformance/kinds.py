"""Every kind of index, small people for it, and what agreeing with the oracle means."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from gallery.brute_force import BruteForceIndex
from gallery.faiss_exact import FaissExactIndex
from gallery.faiss_rabitq import FaissRabitqIndex
from gallery.index import GalleryIndex
from tests.servers import milvus_index, pgvector_index
from tests.unit.gallery.world import person

DIMENSION = 64


@dataclass(frozen=True)
class Kind:
    """An index under test.

    tolerance: of a cosine against float64.  Small chunks make the tests cross every edge.
    examples: histories that are tried; few where each step is a round trip to a server.
    """

    name: str
    make: Callable[[], GalleryIndex]
    tolerance: float = 1e-6
    examples: int = 25

    def __str__(self) -> str:
        """The test's name."""
        return self.name


KINDS = [
    Kind("brute-force", lambda: BruteForceIndex(DIMENSION)),
    Kind("faiss-exact", lambda: FaissExactIndex(DIMENSION)),
    Kind("faiss-exact-small-chunks", lambda: FaissExactIndex(DIMENSION, chunk_rows=4)),
    Kind("faiss-rabitq", lambda: FaissRabitqIndex(DIMENSION), 5e-5),
    Kind("faiss-rabitq-small-segments", lambda: FaissRabitqIndex(DIMENSION, threads=2, segment_rows=8), 5e-5),
    Kind("pgvector", lambda: pgvector_index(DIMENSION), examples=4),
    Kind("milvus", lambda: milvus_index(DIMENSION), examples=3),
]
every_index = pytest.mark.parametrize("kind", KINDS, ids=str)


def people(*numbers: int, capture: int = 0) -> np.ndarray:
    """(N, D) captures of invented people."""
    return np.stack([person(number, capture, dimension=DIMENSION) for number in numbers])


def filled(kind: Kind, count: int) -> GalleryIndex:
    """An index of people 1..count under their numbers."""
    index = kind.make()
    index.add(range(1, count + 1), people(*range(1, count + 1)))
    return index


def agree(kind: Kind, index: GalleryIndex, oracle: GalleryIndex, probes: np.ndarray, k: int) -> None:
    """Same ids in the same order, cosines within tolerance; ids may swap only where cosines are that close."""
    for found, expected in zip(index.search(probes, k), oracle.search(probes, k), strict=True):
        assert len(found) == len(expected)
        np.testing.assert_allclose(
            [match.cosine_similarity for match in found],
            [match.cosine_similarity for match in expected],
            atol=kind.tolerance,
        )
        by_id = {match.template_id: match.cosine_similarity for match in expected}
        for match in found:
            near_the_edge = match.cosine_similarity < expected[-1].cosine_similarity + 2 * kind.tolerance
            assert match.template_id in by_id or near_the_edge
            if match.template_id in by_id:
                assert match.cosine_similarity == pytest.approx(by_id[match.template_id], abs=kind.tolerance)
