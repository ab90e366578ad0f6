"""The index inside PostgreSQL, by pgvector: one store, one back-up and one procedure of erasure for a whole site.

A search is exact by default: every row is compared.  An HNSW index makes it fast and approximate; `recall` then says
by how much, on one's own probes.  Only rotated vectors get here.
"""

import re
import secrets
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
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
    unpack_rows,
)
from gallery.postgres import Connection, Postgres

from psycopg import errors, sql  # isort: skip  (gallery.postgres says what to install if it is missing)

_KIND = "rows-float32"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
_LARGEST_EF_SEARCH = 1000


@dataclass(frozen=True)
class Hnsw:
    """pgvector's settings of an HNSW index: links a node, candidates while building, candidates while searching."""

    m: int = 16
    ef_construction: int = 128
    ef_search: int = 200


class PgVectorIndex:
    """A GalleryIndex in a table of its own.  It outlives the process: several replicas may share it."""

    shared = True

    def __init__(
        self,
        postgres: Postgres,
        table: str,
        dimension: int = 512,
        hnsw: Hnsw | None = None,
        data_directory: Path | None = None,
    ) -> None:
        """table: [a-z][a-z0-9_]*; made if it is missing.  hnsw: None searches exactly.

        data_directory: the server's, if it can be read from here; erasure is then proven on the bytes of its files.
        """
        if not _NAME.fullmatch(table):
            raise ConfigError(f"a table cannot be called {table!r}: use small letters, digits and _, at most 41")
        self._postgres = postgres
        self._table = sql.Identifier(table)
        self._dimension = dimension
        self._hnsw = hnsw
        self._data_directory = data_directory
        self._removed_since = threading.Event()
        self._create(table)

    def _create(self, table: str) -> None:
        with self._postgres.transaction() as connection:
            self._create_table(connection)
            if self._hnsw:
                connection.execute(
                    self._sql(
                        "CREATE INDEX IF NOT EXISTS {name} ON {table} USING hnsw (embedding vector_ip_ops) "
                        "WITH (m = {m}, ef_construction = {ef})",
                        name=sql.Identifier(f"{table}_hnsw"),
                        m=sql.Literal(self._hnsw.m),
                        ef=sql.Literal(self._hnsw.ef_construction),
                    )
                )

    def _create_table(self, connection: Connection) -> None:
        connection.execute(
            self._sql(
                "CREATE TABLE IF NOT EXISTS {table} (template_id bigint PRIMARY KEY, embedding vector({n}) NOT NULL)",
                n=sql.Literal(self._dimension),
            )
        )
        # In the row and not beside it: an exact search reads every vector, and one place is easier to erase.
        connection.execute(self._sql("ALTER TABLE {table} ALTER COLUMN embedding SET STORAGE PLAIN"))

    def _is_there(self, connection: Connection) -> bool:
        found = connection.execute(self._sql("SELECT to_regclass({name})", name=self._name())).fetchone()
        return found is not None and found[0] is not None

    def _sql(self, text: str, **parts: sql.Composable) -> sql.Composed:
        return sql.SQL(text).format(table=self._table, **parts)

    def add(self, template_ids: Sequence[int], vectors: Vectors) -> None:
        """See GalleryIndex."""
        vectors = check_vectors(vectors, self._dimension)
        ids = check_new_ids(template_ids, len(vectors), ())
        with self._postgres.transaction() as connection:
            self._insert(connection, ids, vectors)

    def _insert(self, connection: Connection, ids: TemplateIds, vectors: Vectors) -> None:
        statement = self._sql("COPY {table} (template_id, embedding) FROM STDIN WITH (FORMAT BINARY)")
        try:
            with connection.transaction(), connection.cursor() as cursor, cursor.copy(statement) as copy:
                copy.set_types(["int8", "vector"])
                for template_id, vector in zip(ids.tolist(), vectors, strict=True):
                    copy.write_row((template_id, vector))
        except errors.UniqueViolation:
            raise ContractError("a template id is in the index already: ids are given once") from None

    def remove(self, template_ids: Sequence[int]) -> int:
        """See GalleryIndex."""
        with self._postgres.transaction() as connection:
            return self._delete(connection, template_ids)

    def _delete(self, connection: Connection, template_ids: Sequence[int]) -> int:
        gone = connection.execute(self._sql("DELETE FROM {table} WHERE template_id = ANY(%s)"), [list(template_ids)])
        if gone.rowcount:
            self._removed_since.set()
        return gone.rowcount

    def search(self, vectors: Vectors, k: int) -> list[list[Match]]:
        """See GalleryIndex."""
        return self._search(vectors, k, exact=self._hnsw is None or k > _LARGEST_EF_SEARCH)

    def _search(self, vectors: Vectors, k: int, *, exact: bool) -> list[list[Match]]:
        vectors = check_vectors(vectors, self._dimension)
        # Only the order by distance alone can use the HNSW index; equal cosines are put in order below.
        order = "distance, template_id" if exact else "distance"
        statement = self._sql(
            "SELECT template_id, embedding <#> %b AS distance FROM {table} ORDER BY " + order + " LIMIT %s"
        )
        with self._postgres.transaction() as connection:
            if not exact and self._hnsw:
                connection.execute(
                    f"SET LOCAL hnsw.ef_search = {min(max(self._hnsw.ef_search, k), _LARGEST_EF_SEARCH)}"
                )
            found = [connection.execute(statement, [vector, k]).fetchall() for vector in vectors]
        return [_matches(rows, k) for rows in found]

    def ids(self) -> TemplateIds:
        """See GalleryIndex."""
        with self._postgres.transaction() as connection:
            rows = connection.execute(self._sql("SELECT template_id FROM {table}")).fetchall()
        return np.array([row[0] for row in rows], dtype=np.int64)

    def recall(self, probes: Vectors, k: int) -> float:
        """Share of the exact k best that `search` finds; 1 without an HNSW index."""
        exact = self._search(probes, k, exact=True)
        found = self.search(probes, k)
        pairs = [({m.template_id for m in a}, {m.template_id for m in b}) for a, b in zip(exact, found, strict=True)]
        wanted = sum(len(a) for a, _ in pairs)
        return sum(len(a & b) for a, b in pairs) / wanted if wanted else 1.0

    def compact(self) -> None:
        """Write table and indexes anew and let the write-ahead log go, if this process has removed anything.

        VACUUM alone leaves deleted vectors in an HNSW index.  Searches and changes wait meanwhile.
        """
        if not self._removed_since.is_set():
            return
        self._removed_since.clear()
        try:
            with self._postgres.autocommit() as connection:
                connection.execute(self._sql("VACUUM FULL {table}"))
            self._postgres.settle()
        except BaseException:
            self._removed_since.set()
            raise

    def contents(self) -> Iterator[memoryview]:
        """See GalleryIndex.  What the server's files hold besides is searched by `prove_erased`."""
        yield memoryview(self.snapshot())

    def snapshot(self) -> bytes:
        """See GalleryIndex."""
        with self._postgres.transaction() as connection, connection.cursor(binary=True) as cursor:
            rows = cursor.execute(
                self._sql("SELECT template_id, embedding FROM {table} ORDER BY template_id")
            ).fetchall()
        ids = np.array([row[0] for row in rows], dtype=np.int64)
        vectors = [row[1].to_numpy() for row in rows]
        return pack_rows(_KIND, ids, np.stack(vectors) if rows else np.empty((0, self._dimension), np.float32))

    def restore(self, snapshot: bytes) -> None:
        """See GalleryIndex."""
        ids, rows = unpack_rows(_KIND, snapshot)
        if rows.dtype != np.float32 or rows.shape[1:] != (self._dimension,):
            raise GalleryError(f"an index snapshot has rows of shape {rows.shape[1:]}: expected {self._dimension}")
        with self._postgres.transaction() as connection:
            connection.execute(self._sql("TRUNCATE {table}"))
            self._insert(connection, ids, np.asarray(rows, dtype=np.float32))
        self._removed_since.set()

    def replay(self, changes: Iterable[IndexChange]) -> None:
        """See GalleryIndex.  A template that is there already is kept: the start of a replica writes nothing twice."""
        for change in changes:
            vectors = check_vectors(change.added, self._dimension)
            ids = check_new_ids(change.added_ids, len(vectors), ())
            with self._postgres.transaction() as connection:
                if not self._is_there(connection):
                    self._create_table(connection)  # another replica took it for left over: its start came in between
                self._delete(connection, change.removed_ids)
                new = ~np.isin(ids, self._alike(connection, ids, vectors))
                self._put(connection, ids[new], vectors[new])

    def _put(self, connection: Connection, ids: TemplateIds, vectors: Vectors) -> None:
        """Insert or replace; another replica may be at the same rows, so all take them in one order."""
        statement = self._sql(
            "INSERT INTO {table} (template_id, embedding) VALUES (%s, %b) "
            "ON CONFLICT (template_id) DO UPDATE SET embedding = EXCLUDED.embedding"
        )
        rows = [(int(ids[place]), vectors[place]) for place in np.argsort(ids)]
        if rows:
            connection.cursor().executemany(statement, rows)

    def _alike(self, connection: Connection, ids: TemplateIds, vectors: Vectors) -> TemplateIds:
        """Those ids that are there with exactly this vector."""
        statement = self._sql("SELECT template_id, embedding FROM {table} WHERE template_id = ANY(%s)")
        rows = connection.cursor(binary=True).execute(statement, [ids.tolist()]).fetchall()
        held = {template_id: embedding.to_numpy().tobytes() for template_id, embedding in rows}
        same = [held.get(i) == vector.tobytes() for i, vector in zip(ids.tolist(), vectors, strict=True)]
        return ids[np.array(same, np.bool_)]

    def statistics(self) -> IndexStatistics:
        """See GalleryIndex.  memory_bytes: what table and indexes take of the server's disk."""
        with self._postgres.transaction() as connection:
            query = self._sql("SELECT count(*), pg_total_relation_size({name}) FROM {table}", name=self._name())
            count, size = connection.execute(query).fetchone() or (0, 0)
        return IndexStatistics("pgvector-hnsw" if self._hnsw else "pgvector", count, size, exact=self._hnsw is None)

    def _name(self) -> sql.Literal:
        return sql.Literal(self._table.as_string(None))

    def prove_erased(self, vectors: Vectors) -> None:
        """See GalleryIndex.  Finishes removals first, then looks through the rows, and the server's files if named."""
        self.compact()
        vectors = np.ascontiguousarray(vectors, np.float32)
        with self._postgres.transaction() as connection:
            statement = self._sql("SELECT 1 FROM {table} WHERE embedding = %b LIMIT 1")
            if any(connection.execute(statement, [vector]).fetchone() for vector in vectors):
                raise GalleryError("an erased vector is still in the index: remove it from the index again")
        if self._data_directory is not None:
            windows = Fingerprints.of(secrets.token_bytes(16), [vector.astype("<f4").tobytes() for vector in vectors])
            if found := windows.found_in_files(self._files(self._data_directory)):
                names = ", ".join(str(path.relative_to(self._data_directory)) for path in sorted(found))
                raise GalleryError(
                    f"an erased vector is still in the index: its bytes are in {names} of the server's data directory; "
                    "end long transactions and replication slots, then ask again"
                )

    def _files(self, data_directory: Path) -> list[Path]:
        """All files that this database and the write-ahead log have on the server."""
        with self._postgres.transaction() as connection:
            query = "SELECT oid FROM pg_database WHERE datname = current_database()"
            (database,) = connection.execute(query).fetchone() or (0,)
        folders = [data_directory / name for name in (f"base/{database}", "base/pgsql_tmp", "pg_wal", "pg_tblspc")]
        files = [path for folder in folders for path in folder.rglob("*")]
        if not files:
            raise GalleryError(f"{data_directory} is not the data directory of {self._postgres.name}: name it, or none")
        return [path for path in files if path.is_file() and path.stat().st_size]

    def drop(self) -> None:
        """Take it away for good; nobody may use it any more, in any process."""
        with self._postgres.autocommit() as connection:
            connection.execute(self._sql("DROP TABLE IF EXISTS {table}"))
        self._postgres.settle()


class PgVectorIndexes:
    """All indexes of one database; see LastingIndexes."""

    def __init__(self, postgres: Postgres) -> None:
        """Connects when it is first used."""
        self._postgres = postgres

    def __call__(self, dimension: int, name: str) -> PgVectorIndex:
        """The index in the table of this name."""
        return PgVectorIndex(self._postgres, name, dimension)

    def names(self, prefix: str) -> list[str]:
        """Tables of the schema that is used."""
        with self._postgres.transaction() as connection:
            rows = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND starts_with(tablename, %s)",
                [prefix],
            ).fetchall()
        return [str(name) for (name,) in rows]

    def discard(self, name: str) -> None:
        """A replica that is about to fill it makes it anew."""
        with self._postgres.autocommit() as connection:
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(name)))
        self._postgres.settle()


def _matches(rows: Sequence[tuple[int, float]], k: int) -> list[Match]:
    ids = np.array([row[0] for row in rows], dtype=np.int64)
    return ranked(ids, -np.array([row[1] for row in rows], dtype=np.float64), k)
