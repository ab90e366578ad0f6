"""The index in Milvus Lite over its real gRPC contract: erasure on its files, and the server going away."""

import threading

import pytest

from duetface.errors import ConfigError, GalleryError
from gallery.index import IndexChange
from tests.integration.test_pgvector import enrol_until_refused
from tests.servers import MilvusServer, milvus_index, milvus_server
from tests.unit.gallery.test_faiss_rabitq import unit_vectors


def test_no_byte_of_an_erased_vector_is_left_in_the_files_of_the_server():
    """Parquet files are decoded for it, and the same look finds the vector before: a deletion alone leaves it there."""
    index = milvus_index(64, data_directory=milvus_server().data_directory)
    vectors = unit_vectors(100, 31, 64)
    index.add(range(100), vectors)
    index._milvus.call(lambda client: client.flush(index._alias))
    index.remove([7])
    index._removed = False  # as if the procedure had been left out
    with pytest.raises(GalleryError, match=r"bytes are in .*\.parquet.* of the server's data directory"):
        index.prove_erased(vectors[7:8])
    index._removed = True
    index.prove_erased(vectors[7:8])
    assert index.search(vectors[8:9], 1)[0][0].template_id == 8
    assert index.statistics().templates == 99


def test_a_server_that_goes_away_costs_nothing_acknowledged():
    """Every addition that returned is there after the restart; one clear line meanwhile; then it goes on by itself."""
    server = MilvusServer()
    from gallery.milvus import MilvusIndex
    from gallery.milvus_collections import Milvus

    milvus = Milvus(server.uri)
    index = MilvusIndex(milvus, "people", 64)
    vectors = unit_vectors(2000, 32, 64)
    acknowledged, refusals = list[int](), list[str]()
    writer = threading.Thread(target=enrol_until_refused, args=(index, vectors, acknowledged, refusals))
    writer.start()
    while len(acknowledged) < 30 and writer.is_alive():
        writer.join(0.01)
    server.stop()
    writer.join()
    assert len(refusals) == 1
    assert "nothing acknowledged was lost" in refusals[0]
    with pytest.raises(GalleryError, match=r"Milvus at http://127\.0\.0\.1:\d+: cannot be reached: start it"):
        index.search(vectors[:1], 1)
    server.start()
    found = {match.template_id for match in index.search(vectors[:1], 3000)[0]}
    assert set(acknowledged) <= found <= {*acknowledged, len(acknowledged)}
    index.add([5000], vectors[1999:])
    milvus.close()
    server.discard()


def test_an_index_outlives_its_process_and_a_start_writes_nothing_twice():
    """A replay of what is there already must not delete and insert a million rows."""
    index = milvus_index(64)
    from gallery.milvus import MilvusIndex

    change = IndexChange((), (1, 2), unit_vectors(2, 33, 64))
    index.replay([change])
    again = MilvusIndex(index._milvus, index._alias, 64)
    again.replay([change])
    assert again.statistics().templates == 2
    assert not again._removed


def test_a_dropped_index_is_gone():
    """A scratch partition leaves nothing behind."""
    index = milvus_index(64, data_directory=milvus_server().data_directory)
    index.add([1], unit_vectors(1, 34, 64))
    index.drop()
    with pytest.raises(GalleryError, match="refused a request with code"):
        index.search(unit_vectors(1, 34, 64), 1)


def test_searches_go_on_while_the_collection_is_replaced():
    """The alias moves under the readers' feet."""
    index = milvus_index(64)
    vectors = unit_vectors(50, 35, 64)
    index.add(range(50), vectors)
    stop, wrong = threading.Event(), list[object]()

    def read() -> None:
        while not stop.is_set():
            found = index.search(vectors[5:6], 1)[0]
            if not found or found[0].template_id != 5:
                wrong.append(found)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(10, 14):
        index.remove([number])
        index.compact()
    stop.set()
    reader.join()
    assert wrong == []


def test_a_name_that_could_be_an_expression_is_refused():
    """Names come from configuration and digests, never from a request; still."""
    index = milvus_index(64)
    from gallery.milvus import MilvusIndex

    with pytest.raises(ConfigError, match="cannot be called"):
        MilvusIndex(index._milvus, "a b", 64)


def test_mutual_tls_is_handed_to_the_client(tmp_path):
    """Milvus Lite speaks no TLS: what can be tested here is that nothing is ever asked in plain text instead."""
    milvus_index(64)  # skips without Milvus
    from gallery.milvus_collections import Milvus, MutualTls

    tls = MutualTls(tmp_path / "client.crt", tmp_path / "client.key", tmp_path / "ca.crt", "milvus.example")
    for path in (tls.client_pem_path, tls.client_key_path, tls.ca_pem_path):
        path.write_bytes(b"not a certificate")
    secure = Milvus(milvus_server().uri.replace("http:", "https:"), tls=tls, timeout_s=1)
    with pytest.raises(GalleryError, match="cannot be reached"):
        secure.call(lambda client: client.list_collections())
