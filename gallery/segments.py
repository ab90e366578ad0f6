"""The two kinds of storage of a large index: segments with a scan code, and the delta of what was added since.

Both are replaced and never changed where a reader looks, so a search keeps what it began with and needs no lock.
A removed template is marked first, and gone from memory when its segment is written anew.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import faiss
import numpy as np
from numpy.typing import NDArray

from gallery.index import TemplateIds, Vectors
from gallery.scan_code import Rows, ScanCodes, to_rows, to_vectors

Marks = NDArray[np.bool_]

_ROWS_AT_ONCE = 256


def inner_products(vectors: Vectors, query: Vectors) -> NDArray[np.float32]:
    """(M,) products of contiguous (M, D) vectors with (D,) query, in the calling thread alone (a BLAS would not be)."""
    found = np.empty(len(vectors), np.float32)
    pointers = (faiss.swig_ptr(array) for array in (found, query, vectors))
    faiss.fvec_inner_products_ny(*pointers, vectors.shape[1], len(vectors))
    return found


@dataclass(frozen=True)
class Segment:
    """N templates: ids ascending, fixed-point rows (N, D), scan codes, and which are removed (None: none)."""

    ids: TemplateIds
    rows: Rows
    codes: ScanCodes
    removed: Marks | None = None

    @staticmethod
    def build(ids: TemplateIds, rows: Rows) -> "Segment":
        """From (N,) ids in any order and (N, D) rows, N at least 1; copies both unless the ids ascend."""
        if (np.diff(ids) < 0).any():
            order = np.argsort(ids)
            ids, rows = ids[order], rows[order]
        return Segment(ids, rows, ScanCodes(rows))

    @property
    def kept(self) -> Marks:
        """(N,) True where not removed."""
        return np.ones(len(self.ids), np.bool_) if self.removed is None else ~self.removed

    def find(self, ids: TemplateIds) -> NDArray[np.int64]:
        """Row numbers of those ids that are here and not removed."""
        # New ids are higher than all there are: most segments need no look.
        if not len(ids) or ids.min() > self.ids[-1] or ids.max() < self.ids[0]:
            return np.empty(0, np.int64)
        places = np.searchsorted(self.ids, ids)
        places[places == len(self.ids)] = 0
        places = places[self.ids[places] == ids]
        return np.asarray(places if self.removed is None else places[~self.removed[places]], dtype=np.int64)

    def marking(self, places: NDArray[np.int64]) -> "Segment":
        """The same segment with these rows removed as well."""
        removed = np.zeros(len(self.ids), np.bool_) if self.removed is None else self.removed.copy()
        removed[places] = True
        return replace(self, removed=removed)

    def cosines(self, places: NDArray[np.int64], query: Vectors) -> NDArray[np.float32]:
        """(M,) exact cosines of (D,) query with the rows at (M,) places."""
        found = np.empty(len(places), np.float32)
        # Few at a time, so that the converted rows stay in the processor's cache.
        for start in range(0, len(places), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            found[part] = inner_products(to_vectors(self.rows.take(places[part], axis=0)), query)
        return found

    def contents(self) -> Iterator[memoryview]:
        """Bytes of all rows and codes, removed or not."""
        yield self.rows.reshape(-1).view(np.uint8).data
        yield from self.codes.contents()

    def holds(self, row: Rows) -> bool:
        """Whether this (D,) row, or its code, is in memory here, removed or not."""
        alike = self.rows[self.rows[:, 0] == row[0]]
        return bool((alike == row).all(axis=1).any()) or self.codes.hold(row)

    @property
    def nbytes(self) -> int:
        """Memory of ids, rows, codes and marks."""
        marks = 0 if self.removed is None else self.removed.nbytes
        return self.ids.nbytes + self.rows.nbytes + self.codes.nbytes + marks


@dataclass(frozen=True)
class Delta:
    """`used` of the rows of ids (C,) and vectors (C, D) are visible, unless removed (C,).

    vectors: float32, each exactly what its fixed-point row stands for, so that a cosine does not move when a
    template goes into a segment.  The writer fills rows beyond `used` in place: no reader looks there.
    """

    ids: TemplateIds
    vectors: Vectors
    removed: Marks
    used: int = 0

    @staticmethod
    def empty(capacity: int, dimension: int) -> "Delta":
        """Zeros, since memory handed back by the system could hold rows that were erased elsewhere."""
        return Delta(
            np.zeros(capacity, np.int64), np.zeros((capacity, dimension), np.float32), np.zeros(capacity, np.bool_)
        )

    def with_added(self, ids: TemplateIds, rows: Rows) -> "Delta":
        """The same delta with these rows behind; doubles its room by copying when it is full."""
        room = self
        if self.used + len(ids) > len(self.ids):
            room = Delta.empty(max(2 * len(self.ids), self.used + len(ids)), self.vectors.shape[1])
            for to, source in ((room.ids, self.ids), (room.vectors, self.vectors), (room.removed, self.removed)):
                to[: self.used] = source[: self.used]
        added = slice(self.used, self.used + len(ids))
        room.ids[added], room.vectors[added] = ids, to_vectors(rows)
        return replace(room, used=added.stop)

    def find(self, ids: TemplateIds) -> NDArray[np.int64]:
        """Row numbers of those ids that are here and not removed."""
        return np.flatnonzero(np.isin(self.ids[: self.used], ids) & self.kept)

    def marking(self, places: NDArray[np.int64]) -> "Delta":
        """The same delta with these rows removed as well."""
        removed = self.removed.copy()
        removed[places] = True
        return replace(self, removed=removed)

    @property
    def kept(self) -> Marks:
        """(used,) True where not removed."""
        return ~self.removed[: self.used]

    def content(self, start: int, stop: int) -> tuple[TemplateIds, Rows]:
        """Ids and fixed-point rows from `start` to `stop` without the removed; to_rows undoes to_vectors exactly."""
        kept = ~self.removed[start:stop]
        return self.ids[start:stop][kept], to_rows(self.vectors[start:stop][kept])

    def tail(self, start: int, capacity: int) -> "Delta":
        """A new delta of what lies behind `start`, with at least this capacity."""
        return Delta.empty(capacity, self.vectors.shape[1]).with_added(*self.content(start, self.used))

    def cosines(self, query: Vectors) -> tuple[TemplateIds, NDArray[np.float32]]:
        """Ids of the kept rows and their exact cosines with (D,) query."""
        return self.ids[: self.used][self.kept], inner_products(self.vectors[: self.used], query)[self.kept]

    def contents(self) -> Iterator[memoryview]:
        """Bytes of the whole buffer in fixed point, removed rows and room for growth included."""
        yield to_rows(self.vectors).reshape(-1).view(np.uint8).data

    def holds(self, row: Rows) -> bool:
        """Whether this (D,) row is anywhere in the buffer, removed or not."""
        return bool((self.vectors == to_vectors(row)).all(axis=1).any())

    @property
    def nbytes(self) -> int:
        """Memory of ids, vectors and marks, room for growth included."""
        return self.ids.nbytes + self.vectors.nbytes + self.removed.nbytes


@dataclass(frozen=True)
class Content:
    """All that a search sees; swapped as a whole."""

    segments: tuple[Segment, ...]
    delta: Delta

    @property
    def parts(self) -> "tuple[Segment | Delta, ...]":
        """Every place where templates are."""
        return (*self.segments, self.delta)

    def ids(self) -> TemplateIds:
        """Of all templates, without the removed."""
        delta = self.delta.ids[: self.delta.used][self.delta.kept]
        return np.concatenate([*(segment.ids[segment.kept] for segment in self.segments), delta])

    def held(self, ids: TemplateIds) -> set[int]:
        """Those of the ids that are in the index."""
        parts = [part.ids[part.find(ids)] for part in self.parts]
        return set(np.concatenate(parts).tolist())

    def kept(self, places: Sequence[int], sealed: int) -> tuple[TemplateIds, Rows]:
        """Ids and rows, without the removed, of the segments at `places` and of the delta's first `sealed` rows."""
        segments = [self.segments[place] for place in places]
        ids, rows = self.delta.content(0, sealed)
        return (
            np.concatenate([*(segment.ids[segment.kept] for segment in segments), ids]),
            np.concatenate([*(segment.rows[segment.kept] for segment in segments), rows]),
        )

    def without(self, ids: TemplateIds) -> tuple["Content", int]:
        """The content with these ids removed, and how many were there."""
        segment_places = [segment.find(ids) for segment in self.segments]
        segments = tuple(
            segment.marking(places) if len(places) else segment
            for segment, places in zip(self.segments, segment_places, strict=True)
        )
        places = self.delta.find(ids)
        delta = self.delta.marking(places) if len(places) else self.delta
        return Content(segments, delta), sum(map(len, segment_places)) + len(places)
