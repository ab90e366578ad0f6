"""The seam of every search index: the protocol, its values, and the checks that all indexes share.

An index is a view: it can be thrown away and rebuilt from the store.  It sees rotated vectors and template ids only.
One writer at a time calls add, remove, replay and restore; searches may run meanwhile, in any number of threads,
and each sees the state before or after a write, never one in between.
"""

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from duetface.errors import ContractError, GalleryError, MessageError

Vectors = NDArray[np.float32]
TemplateIds = NDArray[np.int64]

UNIT_TOLERANCE = 1e-3
_MAGIC = b"DFIX0001"


@dataclass(frozen=True)
class Match:
    """One template found.  cosine_similarity: [-1, 1] up to float32 rounding."""

    template_id: int
    cosine_similarity: float


@dataclass(frozen=True)
class IndexChange:
    """A step to replay: these ids go, then these vectors come.  Replaying it twice changes nothing.

    added: (M, D) float32 unit vectors of added_ids.
    """

    removed_ids: tuple[int, ...]
    added_ids: tuple[int, ...]
    added: Vectors


@dataclass(frozen=True)
class IndexStatistics:
    """templates: searchable now.  memory_bytes: of vectors, codes and ids.  exact: recall is 1 by construction."""

    kind: str
    templates: int
    memory_bytes: int
    exact: bool


class GalleryIndex(Protocol):
    """What every index does; vectors are (B, D) float32 of unit length.

    shared: whether all processes of a realm see one and the same, and change it within transactions.
    """

    shared: bool

    def add(self, template_ids: Sequence[int], vectors: Vectors) -> None:
        """Add templates, all or none.  Raises ContractError for an id that is there, MessageError for bad vectors."""

    def remove(self, template_ids: Sequence[int]) -> int:
        """Remove templates; ids that are not there are no error.  Returns how many were there."""

    def search(self, vectors: Vectors, k: int) -> list[list[Match]]:
        """Per vector the k (or all, if fewer) best templates: highest cosine first, equal ones by ascending id."""

    def ids(self) -> TemplateIds:
        """Of all templates, in any order: what an index that outlives the process has kept of an earlier run."""

    def compact(self) -> None:
        """Finish what removals left to do, beside searches; afterwards nothing removed is in memory."""

    def contents(self) -> Iterator[memoryview]:
        """All that is held, removed or not, in forms that gallery.erasure knows: where a proof of erasure looks."""

    def snapshot(self) -> bytes:
        """The whole content; it is as secret as the templates, so gallery.snapshot seals it before it is stored."""

    def restore(self, snapshot: bytes) -> None:
        """Replace the content by a snapshot's.  Raises GalleryError if it is damaged or of another dimension."""

    def replay(self, changes: Iterable[IndexChange]) -> None:
        """Apply steps in order, each all or none."""

    def statistics(self) -> IndexStatistics:
        """Size and memory."""

    def prove_erased(self, vectors: Vectors) -> None:
        """Raises GalleryError if the index still holds one of these vectors in any form."""


@runtime_checkable
class LastingIndexes(Protocol):
    """Makes indexes that outlive the process, and knows which of them are there."""

    def __call__(self, dimension: int, name: str) -> GalleryIndex:
        """The index of this name, made if it is missing."""

    def names(self, prefix: str) -> list[str]:
        """Of all indexes there that this process could have made and whose name begins so."""

    def discard(self, name: str) -> None:
        """Take away an index that holds nothing that anybody knows of; one that is not there is no error."""


def check_vectors(vectors: Vectors, dimension: int) -> Vectors:
    """Return (B, dimension) contiguous float32; raises MessageError unless finite and of unit length."""
    if vectors.ndim != 2 or vectors.shape[1] != dimension:
        raise MessageError(f"embeddings have shape {vectors.shape}: expected (B, {dimension})")
    if vectors.dtype != np.float32:
        raise MessageError(f"embeddings have dtype {vectors.dtype}: expected float32")
    if not np.isfinite(vectors).all():
        raise MessageError("an embedding is not finite: check the network's input")
    # Summed in float64 without a float64 copy, which would be 8 GB for a million embeddings.
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    if not (np.abs(lengths - 1) <= UNIT_TOLERANCE).all():
        raise MessageError(f"an embedding is not of unit length within {UNIT_TOLERANCE}: normalise it first")
    return np.ascontiguousarray(vectors)


def check_new_ids(template_ids: Sequence[int], count: int, held: Container[int]) -> TemplateIds:
    """Return (count,) int64 ids; raises ContractError if one is repeated or held, MessageError if not `count`."""
    ids = np.asarray(template_ids, dtype=np.int64)
    if ids.shape != (count,):
        raise MessageError(f"{ids.size} template ids for {count} embeddings: expected one each")
    if len(np.unique(ids)) != count or any(int(i) in held for i in ids):
        raise ContractError("a template id is in the index already: ids are given once")
    return ids


def replay_into(index: GalleryIndex, changes: Iterable[IndexChange]) -> None:
    """The obvious replay by add and remove, for indexes without a faster one."""
    for change in changes:
        # What comes may have come before: removing it first makes the step repeatable.
        index.remove([*change.removed_ids, *change.added_ids])
        if change.added_ids:
            index.add(change.added_ids, change.added)


def ranked(ids: TemplateIds, similarities: NDArray[np.floating], k: int) -> list[Match]:
    """The k best of (N,) candidates as matches, in the protocol's order."""
    order = np.lexsort((ids, -similarities))[:k]
    return [Match(int(ids[row]), float(similarities[row])) for row in order]


def pack_rows(kind: str, ids: TemplateIds, rows: NDArray[np.generic]) -> bytes:
    """Serialise ids and one array of rows: magic, kind, dtype, shape, ids, rows; all little-endian."""
    header = f"{kind} {rows.dtype.str} {' '.join(str(n) for n in rows.shape)}".encode()
    return _MAGIC + len(header).to_bytes(4, "little") + header + ids.astype("<i8").tobytes() + rows.tobytes()


def unpack_rows(kind: str, snapshot: bytes) -> tuple[TemplateIds, NDArray[np.generic]]:
    """Undo pack_rows; raises GalleryError unless the bytes are exactly those of this kind."""
    start = len(_MAGIC) + 4
    end = start + int.from_bytes(snapshot[len(_MAGIC) : start], "little")
    try:
        found, dtype, *numbers = snapshot[start:end].decode().split(" ")
        shape = tuple(int(number) for number in numbers)
        itemsize = np.dtype(dtype).itemsize
    except (ValueError, TypeError) as error:
        raise GalleryError("an index snapshot is damaged: it is rebuilt from the store") from error
    ids_end = end + 8 * shape[0] if shape else -1
    whole = ids_end + int(np.prod(shape)) * itemsize
    if snapshot[: len(_MAGIC)] != _MAGIC or found != kind or len(snapshot) != whole:
        raise GalleryError(f"an index snapshot is damaged or not of kind {kind}: it is rebuilt from the store")
    ids = np.frombuffer(snapshot[end:ids_end], dtype="<i8").astype(np.int64)
    return ids, np.frombuffer(snapshot[ids_end:], dtype=dtype).reshape(shape)
