"""What a large index keeps of a template: a one-bit code that is scanned, and a fixed-point row that is compared.

The code is RaBitQ's (Gao and Long, SIGMOD 2024, arXiv:2405.12497): the signs of the rotated vector.  The realm's
secret rotation serves as the random rotation that the method asks for.  Nothing is trained, so a code depends on its
own template alone and nothing of an erased one lives on in a codebook.

FAISS scans the code by its 4-bit fast scan, each four components against the sixteen sign patterns.  RaBitQ's factor
of each vector, |x| / <x, sign(x)> sqrt(D), is replaced by its mean sqrt(pi / 2): at D = 512 it varies by 2 %, which
adds nothing to be seen to the error (`make bench-gallery` compares), and costs neither 8 bytes nor two thirds of the
time.
"""

import itertools
import math
from collections.abc import Iterator

import faiss
import numpy as np
from numpy.typing import NDArray

from gallery.index import Vectors

Rows = NDArray[np.int16]
Codes = NDArray[np.uint8]

# Fixed for every row and for ever, so that a template keeps its cosine to the last bit when its row is moved.
# A cosine moves by the rounding of D components: 9e-6 standard deviation, 4e-4 at the very most (D = 512).
ROW_STEP = 1 / 32767
_GROUP = 4  # components a fast-scan look-up
# Scores are rounded to 8 bits a look-up: a code that differs in a few weak components may score as high.
_ALIKE = 64
_READ_AT_ONCE = 8192


def to_rows(vectors: Vectors) -> Rows:
    """(N, D) float32 unit vectors as (N, D) fixed-point rows of 16 bits, rounded to the nearest ROW_STEP."""
    return np.asarray(np.rint(vectors * np.float32(32767)), dtype=np.int16)


def to_vectors(rows: Rows) -> Vectors:
    """What rows stand for, (N, D) float32."""
    return rows * np.float32(ROW_STEP)


def to_codes(rows: Rows) -> Codes:
    """(N, D / 8) scan codes: bit i of a code, least significant first, tells whether component i is positive."""
    return np.packbits(rows > 0, axis=1, bitorder="little")


def estimate_deviation(dimension: int) -> float:
    """Standard deviation of an estimated cosine's error for a random rotation: sqrt((pi / 2 - 1) / D).

    It is smaller by sqrt(1 - c^2) at a true cosine c.
    """
    return math.sqrt((math.pi / 2 - 1) / dimension)


class ScanCodes:
    """The codes of N rows, in FAISS's fast-scan layout; never changed once made."""

    def __init__(self, rows: Rows) -> None:
        """rows: (N, D); D a multiple of 8.  Takes D / 8 bytes a row."""
        count, dimension = rows.shape
        plain = faiss.IndexPQ(dimension, dimension // _GROUP, _GROUP, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(_sign_patterns(dimension), plain.pq.centroids)
        plain.is_trained = True
        faiss.copy_array_to_vector(to_codes(rows).ravel(), plain.codes)
        plain.ntotal = count
        self._index = faiss.IndexPQFastScan(plain)
        # The layout above was copied from `plain`; a borrowed pointer would outlive it.
        self._index.orig_codes = None
        self.nbytes = int(self._index.codes.size())

    def best(self, vectors: Vectors, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(B, count) estimated cosines, highest first, and row numbers; count is at most N."""
        # OpenMP keeps its thread count by calling thread; the index splits the work by segments already.
        faiss.omp_set_num_threads(1)
        estimates, rows = self._index.search(vectors, count)
        return estimates, rows

    def contents(self) -> Iterator[memoryview]:
        """The codes as to_codes makes them, read back from FAISS's own bytes, some at a time."""
        for start in range(0, self._index.ntotal, _READ_AT_ONCE):
            decoded = self._index.reconstruct_n(start, min(_READ_AT_ONCE, self._index.ntotal - start))
            yield to_codes(decoded).reshape(-1).data

    def hold(self, row: Rows) -> bool:
        """Whether the code of one (D,) row is among these, looked up in FAISS's own bytes.

        No code can score higher against a vector than the vector's own, so a scan of all leaves few to compare.
        """
        _, found = self.best(to_vectors(row)[None], min(_ALIKE, self._index.ntotal))
        decoded = np.stack([self._index.reconstruct(int(number)) for number in found[0]])
        return bool((np.packbits(decoded > 0, axis=1, bitorder="little") == to_codes(row[None])).all(axis=1).any())


def _sign_patterns(dimension: int) -> NDArray[np.float32]:
    """Centroids (D / 4, 16, 4), flat: pattern j has +s where bit i of j is set and -s elsewhere.

    s = sqrt(pi / 2) / sqrt(D) makes <query, pattern of x> an estimate of the cosine without bias.
    """
    scale = math.sqrt(math.pi / 2 / dimension)
    patterns = [bits[::-1] for bits in itertools.product((-scale, scale), repeat=_GROUP)]
    return np.tile(np.array(patterns, np.float32), (dimension // _GROUP, 1, 1)).ravel()
