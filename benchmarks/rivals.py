"""What the index is measured beside, in the same run: FAISS's flat index, usearch, and the scan codes left aside."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Search = Callable[[Vectors], tuple[NDArray[np.float32], NDArray[np.int64]]]


class Split:
    """One FAISS index of each half of the rows, searched by a thread each: one query is never split by FAISS."""

    def __init__(self, make: Callable[[], Any], threads: int) -> None:
        """make: an empty, trained index."""
        self._parts = [make() for _ in range(threads)]
        self._pool = ThreadPoolExecutor(threads)

    def add(self, vectors: Vectors) -> None:
        """Add rows, shared evenly."""
        for part, rows in zip(self._parts, np.array_split(vectors, len(self._parts)), strict=True):
            part.add(np.ascontiguousarray(rows))

    def best(self, query: Vectors, k: int) -> NDArray[np.float32]:
        """query: (1, D).  (k,) best values over both halves."""
        found = list(self._pool.map(lambda part: _one_thread(part, query, k), self._parts))
        return np.sort(np.concatenate(found))[::-1][:k]

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


def _one_thread(part: Any, query: Vectors, k: int) -> NDArray[np.float32]:
    faiss.omp_set_num_threads(1)
    values: NDArray[np.float32] = part.search(query, k)[0][0]
    return values


def flat(dimension: int, threads: int) -> Split:
    """IndexFlatIP, every template compared in float32."""
    return Split(lambda: faiss.IndexFlatIP(dimension), threads)


def rabitq(dimension: int, threads: int) -> Split:
    """FAISS's own one-bit RaBitQ fast scan, with the factor of each vector: 72 bytes a template."""

    def make() -> Any:
        index = faiss.IndexRaBitQFastScan(dimension, faiss.METRIC_INNER_PRODUCT)
        index.train(np.zeros((1, dimension), np.float32))
        return index

    return Split(make, threads)


class Usearch:
    """usearch's exact search over float16 rows by its own threads."""

    def __init__(self, count: int, dimension: int, threads: int) -> None:
        """Room for `count` rows."""
        self._rows = np.empty((count, dimension), np.float16)
        self._filled = 0
        self._threads = threads

    def add(self, vectors: Vectors) -> None:
        """Add rows."""
        self._rows[self._filled : self._filled + len(vectors)] = vectors
        self._filled += len(vectors)

    def best(self, query: Vectors, k: int) -> NDArray[np.float32]:
        """query: (1, D).  (k,) best cosines."""
        from usearch.index import MetricKind, search

        found = search(
            self._rows[: self._filled], query.astype(np.float16), k, MetricKind.IP, exact=True, threads=self._threads
        )
        return 1 - np.asarray(found.distances, np.float32).ravel()


def milliseconds(function: Callable[[], object]) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    function()
    return (time.perf_counter() - started) * 1000
