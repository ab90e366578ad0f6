"""Collections of templates in Milvus: made, filled, asked and dropped; every failure told in one clear line."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from duetface.errors import ConfigError, GalleryError
from gallery.index import TemplateIds, Vectors

try:
    import grpc
    from pymilvus import DataType, MilvusClient, MilvusException
except ImportError as error:
    raise ConfigError(f"the package {error.name} is missing: pip install 'duetface[milvus]'") from error

T = TypeVar("T")

# pymilvus logs each failure with three stack traces; what matters is in the GalleryError.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)

LARGEST_K = 16384  # Milvus's limit of one search
_BATCH = 4096  # 8 MB of vectors a message, well below the limit of 64 MB
_STRONG = "Strong"
_NOT_LOADED = 101


@dataclass(frozen=True)
class MutualTls:
    """Files in PEM: our certificate and key, and the authority of the server's; server_name: as in its certificate."""

    client_pem_path: Path
    client_key_path: Path
    ca_pem_path: Path
    server_name: str


class Milvus:
    """One server or cluster.  Connections are made anew after a failure."""

    def __init__(
        self, uri: str, token: str = "", tls: MutualTls | None = None, database: str = "default", timeout_s: float = 5
    ) -> None:
        """uri: http://HOST:PORT, or https:// with `tls`.  token: USER:PASSWORD or an API key."""
        self.name = f"Milvus at {uri.rpartition('@')[2]}"
        self._options: dict[str, Any] = {"uri": uri, "token": token, "db_name": database, "timeout": timeout_s}
        # pymilvus shares connections by address, whatever their credentials; and gRPC makes a new one wait as long as
        # a failed one of the same address would.
        self._options |= {"dedicated": True, "grpc_options": {"grpc.use_local_subchannel_pool": 1}}
        if tls is not None:
            self._options |= {"secure": True} | {name: str(value) for name, value in asdict(tls).items()}
        self._timeout_s = timeout_s
        self._client: MilvusClient | None = None
        self._lock = threading.Lock()

    def call(self, function: Callable[[MilvusClient], T], collection: str = "") -> T:
        """function(client), with Milvus's errors turned into a GalleryError; the next call connects anew.

        collection: the one that is asked; it is loaded first if a restart has left it out of memory.
        """
        try:
            with self._lock:
                if self._client is None:
                    self._client = MilvusClient(**self._options)
                client = self._client
            return _loading(client, function, collection)
        except (MilvusException, grpc.RpcError) as error:
            if _unreachable(error):
                self.close()
                remedy = (
                    "cannot be reached: start it or repair the network, and try again; nothing acknowledged was lost"
                )
            else:
                # Milvus's own messages may repeat values: only its code goes on.
                remedy = f"refused a request with code {getattr(error, 'code', '?')}; see the server's log"
            raise GalleryError(f"{self.name}: {remedy}") from None

    def close(self) -> None:
        """Drop the connection; the next call makes another."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def create(self, collection: str, dimension: int) -> None:
        """A collection whose every vector is compared (FLAT, inner product) and whose writes are seen at once."""

        def create(client: MilvusClient) -> None:
            schema = client.create_schema(auto_id=False)
            schema.add_field("template_id", DataType.INT64, is_primary=True)
            schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=dimension)
            index = client.prepare_index_params()
            index.add_index("embedding", index_type="FLAT", metric_type="IP")
            client.create_collection(collection, schema=schema, index_params=index, consistency_level=_STRONG)

        self.call(create)

    def drop(self, collection: str) -> None:
        """Take a collection away with its files."""
        self.call(lambda client: client.drop_collection(collection))

    def insert(self, collection: str, ids: TemplateIds, vectors: Vectors) -> None:
        """Insert new rows in batches; if one fails, those before it are taken back, if the server answers."""
        done: list[int] = []
        try:
            for start in range(0, len(ids), _BATCH):
                batch = slice(start, start + _BATCH)
                self._insert_batch(collection, ids[batch], vectors[batch])
                done += ids[batch].tolist()
        except GalleryError:
            with contextlib.suppress(GalleryError):
                self.delete(collection, done)
            raise

    def _insert_batch(self, collection: str, ids: TemplateIds, vectors: Vectors) -> None:
        pairs = zip(ids.tolist(), vectors, strict=True)
        rows = [{"template_id": template_id, "embedding": vector} for template_id, vector in pairs]
        self.call(lambda client: client.insert(collection, rows))

    def delete(self, collection: str, ids: Sequence[int]) -> None:
        """Delete by id; those that are not there are no error."""
        for start in range(0, len(ids), _BATCH):
            self._delete_batch(collection, list(ids[start : start + _BATCH]))

    def _delete_batch(self, collection: str, ids: list[int]) -> None:
        self.call(lambda client: client.delete(collection, ids=ids))

    def held(self, collection: str, ids: Sequence[int]) -> set[int]:
        """Which of the ids are there."""
        return {int(row["template_id"]) for row in self._rows(collection, ids, ["template_id"])}

    def vectors(self, collection: str, ids: Sequence[int]) -> dict[int, Vectors]:
        """The vectors of those ids that are there."""
        rows = self._rows(collection, ids, ["template_id", "embedding"])
        return {int(row["template_id"]): np.asarray(row["embedding"], np.float32) for row in rows}

    def _rows(self, collection: str, ids: Sequence[int], fields: list[str]) -> Iterator[dict[str, Any]]:
        for start in range(0, len(ids), _BATCH):
            yield from self._query(collection, fields, ids=list(ids[start : start + _BATCH]))

    def _query(self, collection: str, fields: list[str], **which: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.call(
            lambda client: client.query(collection, output_fields=fields, consistency_level=_STRONG, **which),
            collection,
        )
        return rows

    def pages(self, collection: str) -> Iterator[tuple[TemplateIds, Vectors]]:
        """Everything in a collection, in pages of at most 4096 rows."""
        fields = ["template_id", "embedding"]
        iterator = self.call(
            lambda client: client.query_iterator(
                collection, batch_size=_BATCH, output_fields=fields, consistency_level=_STRONG
            ),
            collection,
        )
        try:
            while rows := self.call(lambda _: iterator.next()):
                ids = np.array([row["template_id"] for row in rows], np.int64)
                yield ids, np.array([row["embedding"] for row in rows], np.float32)
        finally:
            iterator.close()

    def count(self, collection: str) -> int:
        """Rows that are there."""
        rows = self._query(collection, ["count(*)"], filter="")
        return int(rows[0]["count(*)"])


def _loading(client: MilvusClient, function: Callable[[MilvusClient], T], collection: str) -> T:
    try:
        return function(client)
    except MilvusException as error:
        if error.code != _NOT_LOADED or not collection:
            raise
        client.load_collection(collection)
        return function(client)


def _unreachable(error: Exception) -> bool:
    if isinstance(error, MilvusException):
        # pymilvus's own code 2 (connection), and 1 for a deadline that passed.
        return error.code in (1, 2)
    return True
