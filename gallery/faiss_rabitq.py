"""The index for up to about ten million templates: FAISS scans one-bit codes, then rows are compared exactly.

A search estimates every cosine from the code, and computes it from the row for all templates that may matter: those
whose estimate lies less than a margin below the best.  The margin follows from the known error of the estimate, so
the rank-1 match differs from the exact one less than once in ten thousand searches, whatever the gallery holds.
"""

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from duetface.errors import ConfigError, GalleryError
from gallery.compaction import FIRST_DELTA_ROWS, SEAL_ROWS, build, merge, next_step
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
from gallery.scan_code import estimate_deviation, to_rows
from gallery.segments import Content, Delta, Segment

S = TypeVar("S")
T = TypeVar("T")

_KIND = "rows-int16"
_SEGMENT_ROWS = 65536
# Candidates that a scan hands over a segment.  A scan with too few of them is repeated, which costs far more than
# the half of them that most searches do not need: of strangers' searches at a million, 512 repeat half the segments.
_FETCH = 1024
_WIDEN = 4
# Compared exactly in any case: a small gallery as a whole, and of a large one more than most searches need.
_ALWAYS = 512
# In standard deviations of an estimate.  The best match decides, so it is missed by chance once in 1.1e4 (one-sided);
# 4 would miss it once in 3e4 and compare a third more rows of a stranger's search.  Those behind it only tell how far
# the next one lies, and a wide margin at the k-th, deep among the impostors, would cost more than the scan.
_MARGIN_BEST = 3.75
_MARGIN_REST = 1.5


@dataclass(frozen=True, eq=False)
class _Scan:
    """What the codes of one segment say about one query: (F,) estimates, highest first, and their row numbers."""

    segment: Segment
    estimates: NDArray[np.float32]
    rows: NDArray[np.int64]

    def complete_to(self, cut: float) -> bool:
        """Whether every row with an estimate of at least `cut` is among these."""
        return len(self.rows) == len(self.segment.ids) or self.estimates[-1] < cut

    def kept(self) -> "_Scan":
        """Without removed rows."""
        if self.segment.removed is None:
            return self
        kept = ~self.segment.removed[self.rows]
        return _Scan(self.segment, self.estimates[kept], self.rows[kept])


class FaissRabitqIndex:
    """A GalleryIndex of 64 bytes of scan code and 1 kB of row a template (D = 512)."""

    shared = False

    def __init__(self, dimension: int = 512, threads: int = 1, segment_rows: int = _SEGMENT_ROWS) -> None:
        """dimension: D, a multiple of 8.  threads: that one search uses.

        segment_rows: largest segment; small ones let tests cross its edges.
        """
        if dimension % 8:
            raise ConfigError(f"the rabitq index needs a dimension that is a multiple of 8, not {dimension}")
        self._dimension = dimension
        self._segment_rows = segment_rows
        self._deviation = estimate_deviation(dimension)
        self._content = self._empty()
        self._workers = ThreadPoolExecutor(threads - 1, "rabitq") if threads > 1 else None
        self._threads = threads
        self._background = ThreadPoolExecutor(1, "rabitq-compaction")
        self._writing = threading.Lock()  # one writer at a time
        self._compacting = threading.Lock()  # one compaction at a time; a writer may wait for it, never the reverse
        self._swapping = threading.Lock()  # held for moments, when content is read to be replaced

    def _empty(self) -> Content:
        return Content((), Delta.empty(FIRST_DELTA_ROWS, self._dimension))

    def add(self, template_ids: Sequence[int], vectors: Vectors) -> None:
        """See GalleryIndex.  A long delta is compacted in the background; a batch that overfills it waits for that."""
        vectors = check_vectors(vectors, self._dimension)
        with self._writing:
            asked = np.asarray(template_ids, dtype=np.int64)
            ids = check_new_ids(template_ids, len(vectors), self._content.held(asked))
            if not len(ids):
                return
            if self._content.delta.used + len(ids) > self._segment_rows:
                self.compact()
            rows = to_rows(vectors)
            if 2 * len(ids) > self._segment_rows:
                built = build(ids, rows, self._segment_rows)
                with self._swapping:
                    self._content = Content(self._content.segments + built, self._content.delta)
            else:
                with self._swapping:
                    self._content = Content(self._content.segments, self._content.delta.with_added(ids, rows))
                self._tidy()

    def _tidy(self) -> None:
        """Let the background thread compact, if the delta is long and it is not at it already."""
        long = self._content.delta.used >= min(SEAL_ROWS, self._segment_rows)
        if long and not self._compacting.locked():
            self._background.submit(self.compact)

    def remove(self, template_ids: Sequence[int]) -> int:
        """See GalleryIndex.  Removed rows are never found again, and leave memory at the next compaction."""
        with self._writing, self._swapping:
            self._content, count = self._content.without(np.unique(np.asarray(template_ids, dtype=np.int64)))
        return count

    def ids(self) -> TemplateIds:
        """See GalleryIndex."""
        return self._content.ids()

    def compact(self) -> None:
        """Write segments with removed rows anew, and the delta into a segment once it is worth one.

        To be called now and then from a thread beside the writer's: searches, additions and removals go on.
        """
        with self._compacting:
            while True:
                before = self._content
                step = next_step(before, self._segment_rows)
                if step is None:
                    return
                with self._swapping:
                    self._content = merge(step, before, self._content)

    def search(self, vectors: Vectors, k: int) -> list[list[Match]]:
        """See GalleryIndex."""
        vectors = check_vectors(vectors, self._dimension)
        content = self._content
        if k < 1 or not len(vectors):
            return [[] for _ in vectors]
        found = self._each(lambda s: s.codes.best(vectors, min(_FETCH, len(s.ids))), content.segments)
        return [
            self._rank(
                [_Scan(s, e[n], r[n]) for s, (e, r) in zip(content.segments, found, strict=True)],
                content.delta,
                query,
                k,
            )
            for n, query in enumerate(vectors)
        ]

    def _rank(self, scans: list[_Scan], delta: Delta, query: Vectors, k: int) -> list[Match]:
        """query: (D,).  The k best of the segments scanned and the delta."""
        in_delta = delta.cosines(query)
        # The best by estimate tell how high the bar is; then all that may reach it are compared.
        estimates = np.concatenate([np.empty(0, np.float32), *(scan.kept().estimates for scan in scans)])
        bar = _largest(estimates, max(_ALWAYS, 8 * k))
        found = self._cosines(scans, query, bar)
        cut = self._cut(np.concatenate([in_delta[1], found[1]]), k)
        wider = self._each(lambda scan: _widened(scan, query, cut), scans)
        if cut < bar or wider != scans:
            found = self._cosines(wider, query, cut)
        ids, similarities = np.concatenate([in_delta[0], found[0]]), np.concatenate([in_delta[1], found[1]])
        # Sorting thousands for the sake of k would take as long as the scan.
        best = similarities >= _largest(similarities, k)
        return ranked(ids[best], similarities[best], k)

    def _cut(self, similarities: NDArray[np.float32], k: int) -> float:
        """The lowest estimate that may belong to one of the k best, given some exact cosines."""
        if len(similarities) < k:
            return -np.inf
        best, kth = float(similarities.max()), _largest(similarities, k)
        return min(best - _MARGIN_BEST * self._error(best), kth - _MARGIN_REST * self._error(kth))

    def _error(self, cosine: float) -> float:
        """The most that estimates of this cosine, and of all higher ones, deviate by (standard deviation)."""
        return self._deviation * math.sqrt(1 - min(max(cosine, 0.0), 1.0) ** 2)

    def _cosines(self, scans: list[_Scan], query: Vectors, cut: float) -> tuple[TemplateIds, NDArray[np.float32]]:
        """Ids and exact cosines of all rows scanned and not removed whose estimate is at least `cut`."""
        found = self._each(lambda scan: _exact(scan, query, cut), scans)
        ids = [np.empty(0, np.int64), *(ids for ids, _ in found)]
        return np.concatenate(ids), np.concatenate([np.empty(0, np.float32), *(cosines for _, cosines in found)])

    def _each(self, function: Callable[[S], T], items: Sequence[S]) -> list[T]:
        """function of each item, in order, shared among the threads; the caller's does its share."""
        if self._workers is None or len(items) < 2:
            return [function(item) for item in items]
        shares = [items[n :: self._threads] for n in range(self._threads)]
        others = [self._workers.submit(_map, function, share) for share in shares[1:]]
        results = [_map(function, shares[0]), *(other.result() for other in others)]
        return [results[n % self._threads][n // self._threads] for n in range(len(items))]

    def contents(self) -> Iterator[memoryview]:
        """See GalleryIndex.  Rows, codes and the delta's whole buffer, in fixed point."""
        for part in self._content.parts:
            yield from part.contents()

    def snapshot(self) -> bytes:
        """See GalleryIndex.  Codes are made anew from the rows."""
        content = self._content
        return pack_rows(_KIND, *content.kept(range(len(content.segments)), content.delta.used))

    def restore(self, snapshot: bytes) -> None:
        """See GalleryIndex."""
        ids, rows = unpack_rows(_KIND, snapshot)
        if rows.dtype != np.int16 or rows.shape[1:] != (self._dimension,):
            raise GalleryError(f"an index snapshot has rows of shape {rows.shape[1:]}: expected {self._dimension}")
        segments = build(ids, np.asarray(rows, dtype=np.int16), self._segment_rows)
        with self._writing, self._compacting, self._swapping:
            self._content = Content(segments, self._empty().delta)

    def replay(self, changes: Iterable[IndexChange]) -> None:
        """See GalleryIndex."""
        replay_into(self, changes)

    def statistics(self) -> IndexStatistics:
        """See GalleryIndex."""
        content = self._content
        parts = content.parts
        count = sum(int(part.kept.sum()) for part in parts)
        return IndexStatistics("faiss-rabitq", count, sum(part.nbytes for part in parts), exact=False)

    def prove_erased(self, vectors: Vectors) -> None:
        """See GalleryIndex.  Finishes removals first, then looks through rows, codes and the delta's whole buffer."""
        self.compact()
        content = self._content
        for row in to_rows(np.ascontiguousarray(vectors, np.float32)):
            if any(part.holds(row) for part in content.parts):
                raise GalleryError("an erased vector is still in the index: rebuild the index from the store")


def _map(function: Callable[[S], T], items: Sequence[S]) -> list[T]:
    return [function(item) for item in items]


def _largest(values: NDArray[np.float32], count: int) -> float:
    """The count-th largest value, or minus infinity if there are fewer."""
    if len(values) < count:
        return -np.inf
    return float(np.partition(values, len(values) - count)[len(values) - count])


def _exact(scan: _Scan, query: Vectors, cut: float) -> tuple[TemplateIds, NDArray[np.float32]]:
    rows = scan.rows[: int(np.searchsorted(-scan.estimates, -cut, side="right"))]
    if scan.segment.removed is not None:
        rows = rows[~scan.segment.removed[rows]]
    return scan.segment.ids[rows], scan.segment.cosines(rows, query)


def _widened(scan: _Scan, query: Vectors, cut: float) -> _Scan:
    """The same scan with enough candidates that none above the cut is left out."""
    while not scan.complete_to(cut):
        count = min(_WIDEN * len(scan.rows), len(scan.segment.ids))
        estimates, rows = scan.segment.codes.best(query[None], count)
        scan = _Scan(scan.segment, estimates[0], rows[0])
    return scan
