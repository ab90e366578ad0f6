"""The exact index: FAISS inner product over chunks of rows, every template compared, recall 1 by construction.

Rows lie in chunks that are replaced, never changed: a search keeps the tuple of chunks it began with, so readers
need no lock.  A removal copies one chunk without the row; nothing of the removed row stays in the index.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import faiss
import numpy as np
from numpy.typing import NDArray

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
_FIRST_ROWS = 64
# A removal copies at most this many rows (16 MB at D = 512): about 4 ms.
_CHUNK_ROWS = 8192


@dataclass(frozen=True)
class _Chunk:
    """`used` of the rows of ids (C,) and vectors (C, D) are visible.

    The writer fills rows beyond `used` in place: no reader looks there.
    """

    ids: TemplateIds
    vectors: Vectors
    used: int


class FaissExactIndex:
    """A GalleryIndex for an embedded gallery."""

    shared = False

    def __init__(self, dimension: int = 512, threads: int = 1, chunk_rows: int = _CHUNK_ROWS) -> None:
        """dimension: D.  threads: OpenMP threads a search uses for several probes at once.

        chunk_rows: largest chunk; small ones let tests cross its edges.
        """
        self._dimension = dimension
        self._threads = threads
        self._chunk_rows = chunk_rows
        self._chunks: tuple[_Chunk, ...] = ()
        self._place: dict[int, int] = {}  # template id -> number of its chunk; the writer's only
        self._write_lock = threading.Lock()

    def add(self, template_ids: Sequence[int], vectors: Vectors) -> None:
        """See GalleryIndex."""
        vectors = check_vectors(vectors, self._dimension)
        with self._write_lock:
            ids = check_new_ids(template_ids, len(vectors), self._place)
            chunks = list(self._chunks)
            place: dict[int, int] = {}
            while len(ids):
                taken = self._append(chunks, ids, vectors)
                place.update((int(i), len(chunks) - 1) for i in ids[:taken])
                ids, vectors = ids[taken:], vectors[taken:]
            self._place.update(place)
            self._chunks = tuple(chunks)

    def _append(self, chunks: list[_Chunk], ids: TemplateIds, vectors: Vectors) -> int:
        """Fill the last chunk, or start one; returns how many rows went in."""
        if not chunks or chunks[-1].used == self._chunk_rows:
            chunks.append(self._empty(min(_FIRST_ROWS, self._chunk_rows)))
        chunk = self._with_room(chunks[-1], len(ids))
        taken = min(len(ids), len(chunk.ids) - chunk.used)
        rows = slice(chunk.used, chunk.used + taken)
        chunk.ids[rows], chunk.vectors[rows] = ids[:taken], vectors[:taken]
        chunks[-1] = replace(chunk, used=chunk.used + taken)
        return taken

    def _empty(self, capacity: int) -> _Chunk:
        # Zeros, since memory handed back by the system could hold rows that were erased elsewhere.
        return _Chunk(np.zeros(capacity, np.int64), np.zeros((capacity, self._dimension), np.float32), 0)

    def _with_room(self, chunk: _Chunk, wanted: int) -> _Chunk:
        """The chunk itself if it has room or may not grow, else a copy of at least twice its capacity."""
        capacity = len(chunk.ids)
        if chunk.used + wanted <= capacity or capacity == self._chunk_rows:
            return chunk
        grown = self._empty(min(max(2 * capacity, chunk.used + wanted), self._chunk_rows))
        grown.ids[: chunk.used], grown.vectors[: chunk.used] = chunk.ids[: chunk.used], chunk.vectors[: chunk.used]
        return replace(grown, used=chunk.used)

    def remove(self, template_ids: Sequence[int]) -> int:
        """See GalleryIndex."""
        with self._write_lock:
            gone = {i for i in template_ids if i in self._place}
            chunks = list(self._chunks)
            for number in {self._place[i] for i in gone}:
                chunks[number] = self._without(chunks[number], gone)
            for i in gone:
                del self._place[i]
            self._chunks = tuple(chunks)
            self._drop_empty()
            return len(gone)

    def _without(self, chunk: _Chunk, gone: set[int]) -> _Chunk:
        """A copy of the chunk that never held the rows of `gone`."""
        kept = ~np.isin(chunk.ids[: chunk.used], np.fromiter(gone, np.int64, len(gone)))
        copy = self._empty(len(chunk.ids))
        used = int(kept.sum())
        copy.ids[:used], copy.vectors[:used] = chunk.ids[: chunk.used][kept], chunk.vectors[: chunk.used][kept]
        return replace(copy, used=used)

    def _drop_empty(self) -> None:
        """Forget chunks without rows, once they are many enough to pay for numbering the places anew."""
        live = tuple(chunk for chunk in self._chunks if chunk.used)
        if len(live) * 2 < len(self._chunks):
            self._chunks = live
            self._place = {int(i): n for n, chunk in enumerate(live) for i in chunk.ids[: chunk.used]}

    def search(self, vectors: Vectors, k: int) -> list[list[Match]]:
        """See GalleryIndex."""
        vectors = check_vectors(vectors, self._dimension)
        chunks = [chunk for chunk in self._chunks if chunk.used]
        if not chunks or not len(vectors):
            return [[] for _ in vectors]
        # OpenMP keeps its thread count by calling thread, and the service calls from a pool of them.
        faiss.omp_set_num_threads(self._threads)
        found = [_best(chunk, vectors, k) for chunk in chunks]
        ids = np.concatenate([ids for ids, _ in found], axis=1)
        similarities = np.concatenate([similarities for _, similarities in found], axis=1)
        return [ranked(ids[row], similarities[row], k) for row in range(len(vectors))]

    def ids(self) -> TemplateIds:
        """See GalleryIndex."""
        return np.concatenate([np.empty(0, np.int64), *(chunk.ids[: chunk.used] for chunk in self._chunks)])

    def compact(self) -> None:
        """See GalleryIndex.  Removals leave nothing to do here."""

    def contents(self) -> Iterator[memoryview]:
        """See GalleryIndex.  The whole buffers: a row beyond `used` would be a copy left behind."""
        yield from (chunk.vectors.reshape(-1).view(np.uint8).data for chunk in self._chunks)

    def snapshot(self) -> bytes:
        """See GalleryIndex."""
        chunks = [self._empty(0), *self._chunks]
        ids = np.concatenate([chunk.ids[: chunk.used] for chunk in chunks])
        return pack_rows(_KIND, ids, np.concatenate([chunk.vectors[: chunk.used] for chunk in chunks]))

    def restore(self, snapshot: bytes) -> None:
        """See GalleryIndex."""
        ids, rows = unpack_rows(_KIND, snapshot)
        if rows.dtype != np.float32 or rows.shape[1:] != (self._dimension,):
            raise GalleryError(f"an index snapshot has rows of shape {rows.shape[1:]}: expected {self._dimension}")
        with self._write_lock:
            self._chunks, self._place = (), {}
        self.add([int(i) for i in ids], np.asarray(rows, dtype=np.float32))

    def replay(self, changes: Iterable[IndexChange]) -> None:
        """See GalleryIndex."""
        replay_into(self, changes)

    def statistics(self) -> IndexStatistics:
        """See GalleryIndex."""
        chunks = self._chunks
        memory = sum(chunk.ids.nbytes + chunk.vectors.nbytes for chunk in chunks)
        return IndexStatistics("faiss-exact", sum(chunk.used for chunk in chunks), memory, exact=True)

    def prove_erased(self, vectors: Vectors) -> None:
        """See GalleryIndex."""
        for chunk in self._chunks:
            # The whole buffer, not only its visible rows: a row beyond `used` would be a copy left behind.
            for vector in np.ascontiguousarray(vectors, np.float32):
                if bool((chunk.vectors.view(np.uint32) == vector.view(np.uint32)).all(axis=1).any()):
                    raise GalleryError("an erased vector is still in the index: rebuild the index from the store")


def _best(chunk: _Chunk, vectors: Vectors, k: int) -> tuple[TemplateIds, NDArray[np.float32]]:
    """(B, min(k, used)) ids and cosines of one chunk."""
    wanted = min(k, chunk.used)
    similarities, rows = faiss.knn(vectors, chunk.vectors[: chunk.used], wanted, metric=faiss.METRIC_INNER_PRODUCT)
    return chunk.ids[rows], similarities
