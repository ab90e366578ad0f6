"""The index inside a real PostgreSQL: erasure on its files, recall of HNSW, and the server going away in the middle."""

import secrets
import threading
from contextlib import closing, contextmanager

import numpy as np
import pytest

from duetface.errors import ConfigError, GalleryError
from gallery.index import IndexChange
from tests.servers import PostgresServer, pgvector_index, postgres_server
from tests.unit.gallery.test_faiss_rabitq import probes_of, unit_vectors


@pytest.fixture(scope="module")
def own_server():
    """A server that a test may stop, if it starts it again."""
    server = PostgresServer()
    yield server
    server.discard()


@contextmanager
def index_of(server: PostgresServer, table: str, **options):
    """An index of 64 dimensions on a server of one's own."""
    from gallery.pgvector import PgVectorIndex
    from gallery.postgres import Postgres

    with closing(Postgres(server.url)) as postgres:
        yield PgVectorIndex(postgres, table, 64, **options)


@pytest.mark.parametrize("recycling", ["on", "off"])
def test_no_byte_of_an_erased_vector_is_left_in_the_files_of_the_server(own_server, recycling):
    """Heap, index and write-ahead log: the same look finds the vector in all of them before.

    With wal_recycle, PostgreSQL's default, old log files come back under new names with their bytes.
    """
    own_server.run(f"ALTER SYSTEM SET wal_recycle = {recycling}; SELECT pg_reload_conf();")
    from gallery.pgvector import Hnsw

    vectors = unit_vectors(200, 1 if recycling == "on" else 2, 64)
    folder = own_server.data_directory
    with index_of(own_server, f"recycling_{recycling}", hnsw=Hnsw(), data_directory=folder) as index:
        for start in range(0, 200, 50):
            index.add(range(start, start + 50), vectors[start : start + 50])
        index.remove([7])
        own_server.run("CHECKPOINT;")  # brings the table to its file
        index._removed_since.clear()  # as if the procedure had been left out
        with pytest.raises(GalleryError, match=r"bytes are in base/.*pg_wal/"):
            index.prove_erased(vectors[7:8])
        index._removed_since.set()
        index.prove_erased(vectors[7:8])
        assert index.search(vectors[8:9], 1)[0][0].template_id == 8


def test_a_foreign_folder_proves_nothing(tmp_path):
    """A mistyped data directory must not pass for one without traces."""
    index = pgvector_index(64, data_directory=tmp_path)
    with pytest.raises(GalleryError, match="is not the data directory"):
        index.prove_erased(unit_vectors(1, 2, 64))


def test_the_recall_of_hnsw_is_told():
    """Whoever turns HNSW on must be able to see what it costs on their own probes."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'duetface[postgres]'")
    from gallery.pgvector import Hnsw

    # The server draws the graph's levels at random: 0.53 to 0.69 in 25 graphs (with ef_search=8 0.28 to 0.47).
    index = pgvector_index(64, hnsw=Hnsw(m=4, ef_construction=8, ef_search=16))
    vectors = unit_vectors(1500, 3, 64)
    index.add(range(1500), vectors)
    recall = index.recall(probes_of(vectors[:40], 0.5, 4), 5)
    assert 0.3 < recall < 1
    assert not index.statistics().exact
    assert pgvector_index(64).recall(vectors[:1], 5) == 1.0


def test_a_server_that_goes_away_costs_nothing_acknowledged(own_server):
    """Every addition that returned is there after the restart; one clear line meanwhile; then it goes on by itself."""
    vectors = unit_vectors(2000, 5, 64)
    acknowledged, refusals = list[int](), list[str]()
    with index_of(own_server, "outage") as index:
        writer = threading.Thread(target=enrol_until_refused, args=(index, vectors, acknowledged, refusals))
        writer.start()
        while len(acknowledged) < 50 and writer.is_alive():
            writer.join(0.01)
        own_server.stop()
        writer.join()
        assert len(refusals) == 1
        assert "nothing acknowledged was lost" in refusals[0]
        with pytest.raises(GalleryError, match=r"PostgreSQL database postgres at .*: cannot be reached: start it"):
            index.search(vectors[:1], 1)
        own_server.start()
        found = {match.template_id for match in index.search(vectors[:1], 3000)[0]}
        assert set(acknowledged) <= found <= {*acknowledged, len(acknowledged)}
        index.add([5000], vectors[1999:])


def enrol_until_refused(index, vectors, acknowledged: list[int], refusals: list[str]) -> None:
    """Add one by one, noting what was acknowledged, until the index refuses."""
    for number, vector in enumerate(vectors):
        try:
            index.add([number], vector[None])
        except GalleryError as error:
            refusals.append(str(error))
            return
        acknowledged.append(number)


def test_replicas_share_one_table():
    """What one has written the other finds, also when both replay the same step."""
    index = pgvector_index(64)
    from gallery.pgvector import PgVectorIndex

    other = PgVectorIndex(index._postgres, index._table.as_string(None).strip('"'), 64)
    change = IndexChange((), (1, 2), unit_vectors(2, 6, 64))
    index.replay([change])
    other.replay([change])
    assert other.statistics().templates == index.statistics().templates == 2
    other.remove([1])
    assert [match.template_id for match in index.search(change.added, 5)[0]] == [2]


def test_replicas_that_write_the_same_at_once_do_not_fail():
    """Each follows the change feed by itself: whoever comes second finds the row there."""
    index = pgvector_index(64)
    vectors = unit_vectors(300, 9, 64)
    failures = list[BaseException]()

    def follow(order: int) -> None:
        try:
            for start in range(0, 300, 30):
                ids = tuple(range(start, start + 30))[::order]
                index.replay([IndexChange((), ids, vectors[list(ids)])])
        except BaseException as error:
            failures.append(error)
            raise

    replicas = [threading.Thread(target=follow, args=(order,)) for order in (1, -1, 1)]
    for replica in replicas:
        replica.start()
    for replica in replicas:
        replica.join()
    assert failures == []
    assert sorted(index.ids().tolist()) == list(range(300))


def test_a_dropped_table_is_gone():
    """A scratch partition leaves nothing behind."""
    index = pgvector_index(64, data_directory=postgres_server().data_directory)
    vectors = unit_vectors(5, 7, 64)
    index.add(range(5), vectors)
    index.drop()
    with pytest.raises(GalleryError, match="code 42P01"):
        index.search(vectors[:1], 1)


def test_bad_settings_are_refused_without_repeating_a_password():
    """An operator reads the log."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'duetface[postgres]'")
    from gallery.postgres import Postgres

    with pytest.raises(ConfigError, match="cannot be parsed") as caught:
        Postgres("postgresql://user:s3cret@host:port/db?nonsense=1")
    assert "s3cret" not in str(caught.value)
    unreachable = Postgres("postgresql://user:s3cret@127.0.0.1:1/db")
    with (
        pytest.raises(GalleryError, match=r"db at 127\.0\.0\.1: cannot be reached") as refused,
        unreachable.transaction(),
    ):
        pass
    assert "s3cret" not in str(refused.value)


def test_the_rights_that_the_docs_list_are_enough_and_needed():
    """The service need not be a superuser; without the rights an erasure says so, and is not taken for done."""
    server = postgres_server()
    database, user = f"rights_{secrets.token_hex(4)}", f"user_{secrets.token_hex(4)}"
    server.run(f"CREATE ROLE {user} LOGIN")
    server.run(f"CREATE DATABASE {database} OWNER {user}")
    server.run_in(database, "CREATE EXTENSION vector")
    from gallery.pgvector import PgVectorIndex
    from gallery.postgres import Postgres

    url = server.url.replace("postgres:@/postgres?", f"{user}@/{database}?")
    with closing(Postgres(url)) as postgres:
        index = PgVectorIndex(postgres, "people", 64)
        vectors = unit_vectors(5, 10, 64)
        index.add(range(5), vectors)
        index.remove([3])
        with pytest.raises(GalleryError, match="the user lacks a right"):
            index.prove_erased(vectors[3:4])
        server.run(f"GRANT pg_checkpoint, pg_monitor TO {user}; GRANT EXECUTE ON FUNCTION pg_switch_wal() TO {user};")
        with pytest.raises(GalleryError, match="the user lacks a right"):
            index.prove_erased(vectors[3:4])  # functions are granted a database at a time
        server.run_in(database, f"GRANT EXECUTE ON FUNCTION pg_switch_wal() TO {user};")
        index.prove_erased(vectors[3:4])


def test_a_table_name_that_could_be_a_statement_is_refused():
    """Names come from configuration and digests, never from a request; still."""
    index = pgvector_index(64)
    from gallery.pgvector import PgVectorIndex

    with pytest.raises(ConfigError, match="cannot be called"):
        PgVectorIndex(index._postgres, 'a"; drop table x', 64)


def test_a_float_keeps_every_bit():
    """Otherwise the proof of erasure would look for bytes that never were."""
    index = pgvector_index(64)
    vectors = unit_vectors(3, 8, 64)
    index.add(range(3), vectors)
    restored = pgvector_index(64)
    restored.restore(index.snapshot())
    with pytest.raises(GalleryError, match="still in the index"):
        restored.prove_erased(np.ascontiguousarray(vectors[1:2]))
