"""The slow, obvious index: a dictionary and one matrix product in float64.  The oracle of the conformance suite."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from duetface.errors import GalleryError
from gallery.index import (
    IndexChange,
    IndexStatistics,
    Match,
    TemplateIds,
    Vectors,
    check_new_ids,
    check_vectors,
    pack_rows,
    ranked,
    replay_into,
    unpack_rows,
)

_KIND = "rows-float32"


class BruteForceIndex:
    """A GalleryIndex without any cleverness."""

    shared = False

    def __init__(self, dimension: int = 512) -> None:
        """dimension: D of every vector."""
        self._dimension = dimension
        # Replaced and never changed, so that a search keeps the state it began with.
        self._rows: dict[int, Vectors] = {}

    def add(self, template_ids: Sequence[int], vectors: Vectors) -> None:
        """See GalleryIndex."""
        vectors = check_vectors(vectors, self._dimension)
        ids = check_new_ids(template_ids, len(vectors), self._rows)
        self._rows = self._rows | {int(i): vector.copy() for i, vector in zip(ids, vectors, strict=True)}

    def remove(self, template_ids: Sequence[int]) -> int:
        """See GalleryIndex."""
        gone = set(template_ids)
        before = len(self._rows)
        self._rows = {i: vector for i, vector in self._rows.items() if i not in gone}
        return before - len(self._rows)

    def search(self, vectors: Vectors, k: int) -> list[list[Match]]:
        """See GalleryIndex."""
        vectors = check_vectors(vectors, self._dimension)
        rows = self._rows
        if not rows:
            return [[] for _ in vectors]
        ids = np.fromiter(rows, dtype=np.int64, count=len(rows))
        similarities = vectors.astype(np.float64) @ np.stack(list(rows.values())).astype(np.float64).T
        return [ranked(ids, row, k) for row in similarities]

    def ids(self) -> TemplateIds:
        """See GalleryIndex."""
        rows = self._rows
        return np.fromiter(rows, dtype=np.int64, count=len(rows))

    def compact(self) -> None:
        """See GalleryIndex.  Removals leave nothing to do here."""

    def contents(self) -> Iterator[memoryview]:
        """See GalleryIndex."""
        yield memoryview(self.snapshot())

    def snapshot(self) -> bytes:
        """See GalleryIndex."""
        rows = self._rows
        matrix = np.stack(list(rows.values())) if rows else np.empty((0, self._dimension), np.float32)
        return pack_rows(_KIND, np.fromiter(rows, dtype=np.int64, count=len(rows)), matrix)

    def restore(self, snapshot: bytes) -> None:
        """See GalleryIndex."""
        ids, matrix = unpack_rows(_KIND, snapshot)
        if matrix.shape[1:] != (self._dimension,):
            raise GalleryError(f"an index snapshot has rows of shape {matrix.shape[1:]}: expected {self._dimension}")
        self._rows = {int(i): row.astype(np.float32) for i, row in zip(ids, matrix, strict=True)}

    def replay(self, changes: Iterable[IndexChange]) -> None:
        """See GalleryIndex."""
        replay_into(self, changes)

    def statistics(self) -> IndexStatistics:
        """See GalleryIndex."""
        count = len(self._rows)
        return IndexStatistics("brute-force", count, count * (4 * self._dimension + 8), exact=True)

    def prove_erased(self, vectors: Vectors) -> None:
        """See GalleryIndex."""
        held = {row.tobytes() for row in self._rows.values()}
        if any(vector.tobytes() in held for vector in np.ascontiguousarray(vectors, np.float32)):
            raise GalleryError("an erased vector is still in the index: rebuild the index from the store")
