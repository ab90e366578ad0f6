"""The index in Milvus, an existing distributed engine, for galleries beyond one machine.

Only rotated vectors get there.  The index is an alias for a collection.  Milvus deletes by hiding, and its files keep
the bytes: an erasure copies the living to a new collection, lets the alias point there, and drops the old one with
its files.  Milvus has no transactions, so one process writes to an index at a time; each replica of the service names
an index of its own.
"""

import re
import secrets
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from duetface.errors import ConfigError, ContractError, GalleryError
from gallery.fingerprints import Fingerprints
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
from gallery.milvus_collections import LARGEST_K, Milvus

_KIND = "rows-float32"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
_PARQUET = ".parquet"
_TOKEN_BYTES = 6


class MilvusIndex:
    """A GalleryIndex under an alias of its own.  It outlives the process."""

    shared = False

    def __init__(self, milvus: Milvus, alias: str, dimension: int = 512, data_directory: Path | None = None) -> None:
        """alias: [a-z][a-z0-9_]*; made if it is missing.

        data_directory: a single server's, if it can be read from here; erasure is then proven on the bytes of its
        files.  A cluster keeps them in an object store, where only the store's own tools can look.
        """
        if not _NAME.fullmatch(alias):
            raise ConfigError(f"an index cannot be called {alias!r}: use small letters, digits and _, at most 41")
        self._milvus = milvus
        self._alias = alias
        self._dimension = dimension
        self._data_directory = data_directory
        self._writing = threading.Lock()
        self._removed = False
        if not milvus.call(lambda client: client.has_collection(alias)):
            collection = self._new_collection()
            milvus.call(lambda client: client.create_alias(collection, alias))
        self._drop_unfinished()

    def _drop_unfinished(self) -> None:
        """Collections of this index that the alias does not point to: a crash in `_replace` has left them."""
        described = self._milvus.call(lambda client: client.describe_alias(self._alias))
        for name in collections_of(self._milvus, self._alias):
            if name != described["collection_name"]:
                self._milvus.drop(name)

    def _new_collection(self) -> str:
        collection = f"{self._alias}_{secrets.token_hex(_TOKEN_BYTES)}"
        self._milvus.create(collection, self._dimension)
        return collection

    def add(self, template_ids: Sequence[int], vectors: Vectors) -> None:
        """See GalleryIndex."""
        vectors = check_vectors(vectors, self._dimension)
        with self._writing:
            wanted = check_new_ids(template_ids, len(vectors), ())
            if self._milvus.held(self._alias, wanted.tolist()):
                raise ContractError("a template id is in the index already: ids are given once")
            self._milvus.insert(self._alias, wanted, vectors)

    def remove(self, template_ids: Sequence[int]) -> int:
        """See GalleryIndex."""
        with self._writing:
            gone = sorted(self._milvus.held(self._alias, list(template_ids)))
            self._milvus.delete(self._alias, gone)
            self._removed = self._removed or bool(gone)
        return len(gone)

    def search(self, vectors: Vectors, k: int) -> list[list[Match]]:
        """See GalleryIndex; of more than 16,384 matches, Milvus's limit, only those."""
        vectors = check_vectors(vectors, self._dimension)
        if not len(vectors) or k < 1:
            return [[] for _ in vectors]
        try:
            return self._search(vectors, k)
        except GalleryError:
            # The collection under the alias may just have been replaced; a server that is gone refuses again.
            return self._search(vectors, k)

    def _search(self, vectors: Vectors, k: int) -> list[list[Match]]:
        found = self._milvus.call(
            lambda client: client.search(
                self._alias,
                data=list(vectors),
                limit=min(k, LARGEST_K),
                anns_field="embedding",
                search_params={"metric_type": "IP"},
                output_fields=["template_id"],
                consistency_level="Strong",
            ),
            self._alias,
        )
        return [
            ranked(
                np.array([hit["template_id"] for hit in hits], np.int64),
                np.array([hit["distance"] for hit in hits], np.float64),
                k,
            )
            for hits in found
        ]

    def ids(self) -> TemplateIds:
        """See GalleryIndex."""
        return np.concatenate([np.empty(0, np.int64), *(ids for ids, _ in self._milvus.pages(self._alias))])

    def compact(self) -> None:
        """Copy the living to a new collection and drop the old one, if this process has removed anything.

        Searches go on meanwhile; additions and removals wait.
        """
        with self._writing:
            if self._removed:
                self._replace(self._milvus.pages(self._alias))
                self._removed = False

    def _replace(self, pages: Iterable[tuple[TemplateIds, Vectors]]) -> None:
        """Let the alias point to a new collection of these rows; if that fails, the old one stays."""
        described = self._milvus.call(lambda client: client.describe_alias(self._alias))
        old, new = described["collection_name"], self._new_collection()
        try:
            for ids, vectors in pages:
                self._milvus.insert(new, ids, vectors)
            self._milvus.call(lambda client: client.alter_alias(new, self._alias))
        except BaseException:
            self._milvus.call(lambda client: client.drop_collection(new))
            raise
        self._milvus.call(lambda client: client.drop_collection(old))

    def contents(self) -> Iterator[memoryview]:
        """See GalleryIndex.  What the server's files hold besides is searched by `prove_erased`."""
        yield memoryview(self.snapshot())

    def snapshot(self) -> bytes:
        """See GalleryIndex."""
        pages = list(self._milvus.pages(self._alias))
        ids = np.concatenate([np.empty(0, np.int64), *(ids for ids, _ in pages)])
        vectors = np.concatenate([np.empty((0, self._dimension), np.float32), *(vectors for _, vectors in pages)])
        return pack_rows(_KIND, ids, vectors)

    def restore(self, snapshot: bytes) -> None:
        """See GalleryIndex."""
        ids, rows = unpack_rows(_KIND, snapshot)
        if rows.dtype != np.float32 or rows.shape[1:] != (self._dimension,):
            raise GalleryError(f"an index snapshot has rows of shape {rows.shape[1:]}: expected {self._dimension}")
        with self._writing:
            self._replace([(ids, np.asarray(rows, dtype=np.float32))])

    def replay(self, changes: Iterable[IndexChange]) -> None:
        """See GalleryIndex.  A template that is there already is kept: a start writes nothing twice."""
        for change in changes:
            held = self._milvus.vectors(self._alias, change.added_ids)
            rows = dict(zip(change.added_ids, change.added, strict=True))
            kept = {i for i, row in rows.items() if i in held and held[i].tobytes() == row.tobytes()}
            # A step may take an id away and bring it back: what stays as it is must not be taken.
            removed = tuple(i for i in change.removed_ids if i not in kept)
            added = tuple(i for i in change.added_ids if i not in kept)
            places = [place for place, i in enumerate(change.added_ids) if i not in kept]
            replay_into(self, [IndexChange(removed, added, change.added[places])])

    def statistics(self) -> IndexStatistics:
        """See GalleryIndex.  memory_bytes: what the vectors take; Milvus tells no more."""
        count = self._milvus.count(self._alias)
        return IndexStatistics("milvus", count, count * (4 * self._dimension + 8), exact=True)

    def prove_erased(self, vectors: Vectors) -> None:
        """See GalleryIndex.  Finishes removals first, then looks through the rows, and the server's files if named."""
        self.compact()
        vectors = np.ascontiguousarray(vectors, np.float32)
        for vector, matches in zip(vectors, self.search(vectors, 16), strict=True):
            near = self._milvus.vectors(self._alias, [match.template_id for match in matches])
            if any(held.tobytes() == vector.tobytes() for held in near.values()):
                raise GalleryError("an erased vector is still in the index: remove it from the index again")
        if self._data_directory is not None:
            windows = Fingerprints.of(secrets.token_bytes(16), [vector.astype("<f4").tobytes() for vector in vectors])
            if found := windows.found_in_files(list(filter(Path.is_file, self._data_directory.rglob("*")))):
                names = ", ".join(str(path.relative_to(self._data_directory)) for path in sorted(found))
                raise GalleryError(
                    f"an erased vector is still in the index: its bytes are in {names} of the server's data directory"
                )

    def drop(self) -> None:
        """Take it away for good; nobody may use it any more, in any process."""
        with self._writing:
            described = self._milvus.call(lambda client: client.describe_alias(self._alias))
            self._milvus.call(lambda client: client.drop_alias(self._alias))
            self._milvus.call(lambda client: client.drop_collection(described["collection_name"]))


def collections_of(milvus: Milvus, alias: str) -> list[str]:
    """Every collection that was made for an alias, whether it points there or not."""
    made = re.compile(rf"{re.escape(alias)}_[0-9a-f]{{{2 * _TOKEN_BYTES}}}")
    return [name for name in milvus.call(lambda client: client.list_collections()) if made.fullmatch(name)]


class MilvusIndexes:
    """All indexes of one replica of the service on one server; see LastingIndexes.

    Milvus has no transactions: each replica writes to indexes of its own.
    """

    def __init__(self, milvus: Milvus, replica: str = "") -> None:
        """replica: [a-z0-9]*, ends the names of its aliases."""
        self._milvus = milvus
        self._suffix = f"_{replica}" if replica else ""

    def __call__(self, dimension: int, name: str) -> MilvusIndex:
        """The index under this name."""
        return MilvusIndex(self._milvus, name + self._suffix, dimension)

    def names(self, prefix: str) -> list[str]:
        """By their collections, also of an alias that a crash has left unmade."""
        ours = re.compile(rf"({re.escape(prefix)}[0-9a-f]+){self._suffix}_[0-9a-f]{{{2 * _TOKEN_BYTES}}}")
        found = (ours.fullmatch(name) for name in self._milvus.call(lambda client: client.list_collections()))
        return sorted({match[1] for match in found if match})

    def discard(self, name: str) -> None:
        """Alias and collections, with their files."""
        alias = name + self._suffix
        if self._milvus.call(lambda client: client.has_collection(alias)):
            self._milvus.call(lambda client: client.drop_alias(alias))
        for collection in collections_of(self._milvus, alias):
            self._milvus.drop(collection)
