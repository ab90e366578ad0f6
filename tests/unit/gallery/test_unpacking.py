"""What a search of erased bytes sees in a file: decoded columns, undone spellings, and nothing that it cannot see."""

import base64
import bz2
import gzip
import io
import json
import lzma
import os
import sqlite3
import zipfile

import numpy as np
import pytest

from duetface.errors import GalleryError
from gallery.fingerprints import Fingerprints

SECRET = bytes(os.urandom(540))
PRINTS = Fingerprints.of(bytes(range(16)), [SECRET])


def found(path) -> int:
    """Windows of the secret in one file."""
    return sum(PRINTS.found_in_files([path]).values())


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
@pytest.mark.parametrize("kind", ["binary", "list of floats"])
def test_parquet_is_decoded(tmp_path, compression, kind):
    """Milvus and data lakes keep vectors in it; packed pages would show nothing to a plain search."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'duetface[milvus]'")
    from pyarrow import parquet

    others = [os.urandom(540) for _ in range(3)]
    rows = [*others[:2], SECRET, others[2]]
    if kind == "binary":
        column = pyarrow.array(rows, pyarrow.binary())
    else:
        floats = [np.frombuffer(row, "<f4") for row in rows]
        column = pyarrow.array(list(map(list, floats)), pyarrow.list_(pyarrow.float32(), 135))
    path = tmp_path / "part.parquet"
    parquet.write_table(pyarrow.table({"id": [1, 2, 3, 4], "vector": column}), path, compression=compression)
    assert found(path) >= 20
    parquet.write_table(pyarrow.table({"vector": column.slice(3)}), path, compression=compression)
    assert found(path) == 0
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(GalleryError, match="is no whole Parquet file"):
        found(path)


def test_a_dump_in_sql_is_read_as_what_it_says(tmp_path):
    """`sqlite3 .dump` and pg_dump write bytes as hexadecimal digits."""
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE t (a, b)")
        database.executemany("INSERT INTO t VALUES (?, ?)", [(os.urandom(540), "x"), (SECRET, "y")])
        dump = "\n".join(database.iterdump())
    database.close()
    (tmp_path / "dump.sql").write_text(dump)
    (tmp_path / "copy.sql").write_text(f"COPY t FROM stdin;\n\\\\x{SECRET.hex()}\ty\n\\.\n")
    (tmp_path / "clean.sql").write_text(dump.replace(SECRET.hex().upper(), "00" * 540).replace(SECRET.hex(), ""))
    assert found(tmp_path / "dump.sql") == found(tmp_path / "copy.sql") == len(PRINTS)
    assert found(tmp_path / "clean.sql") == 0


@pytest.mark.parametrize("prefix", ["", "a", "ab", "abc"])
def test_base64_is_undone_wherever_it_begins(tmp_path, prefix):
    """What `gallery export` writes, mail and JSON carry; URL-safe or in lines of 76 letters as well."""
    plain = base64.b64encode(SECRET).decode()
    (tmp_path / "export.json").write_text(json.dumps({"embeddings": {"2": prefix + plain}}))
    (tmp_path / "url").write_text(prefix + base64.urlsafe_b64encode(SECRET).decode())
    assert found(tmp_path / "export.json") == found(tmp_path / "url") == len(PRINTS)
    (tmp_path / "mail").write_bytes(base64.encodebytes(SECRET))
    assert found(tmp_path / "mail") > 10


def test_a_vector_that_was_printed_as_numbers_is_read_back(tmp_path):
    """pg_dump of a pgvector table, JSON of an export of Milvus: the shortest decimals are exact."""
    vector = np.random.default_rng(1).normal(size=135).astype(np.float32)
    prints = Fingerprints.of(bytes(range(16)), [vector.tobytes()])
    numbers = [str(number) for number in vector]
    assert any("e-" in number for number in [*numbers, str(np.float32(1e-7))])
    (tmp_path / "dump.sql").write_text(f"COPY index FROM stdin;\n7\t[{','.join(numbers)}]\n8\t[{'0.5,' * 99}1e99]\n")
    (tmp_path / "rows.json").write_text(json.dumps({"id": 7, "vector": [float(number) for number in numbers]}))
    for name in ("dump.sql", "rows.json"):
        assert prints.found_in_files([tmp_path / name]) == {tmp_path / name: len(prints)}
    (tmp_path / "clean.sql").write_text(f"[{','.join(reversed(numbers))}]")
    assert prints.found_in_files([tmp_path / "clean.sql"]) == {}


def zipped(content: bytes) -> bytes:
    """An archive with one member."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("gallery.db", content)
    return file.getvalue()


def gzipped_with_name(content: bytes) -> bytes:
    """As the command `gzip` writes it: the header holds the file's name."""
    file = io.BytesIO()
    with gzip.GzipFile("gallery.db", "wb", fileobj=file) as packed:
        packed.write(content)
    return file.getvalue()


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(SECRET),
        gzipped_with_name(SECRET),
        bz2.compress(SECRET),
        lzma.compress(SECRET),
        zipped(SECRET),
        b"PGDMP\x01\x0e" + SECRET,
        b"DFSN0002" + SECRET,
    ],
    ids=["gzip", "gzip with a name", "bzip2", "xz", "zip", "pg_dump -Fc", "snapshot"],
)
def test_what_hides_its_bytes_is_refused_and_not_called_clean(tmp_path, packed):
    """A search that cannot find proves nothing."""
    (tmp_path / "copy").write_bytes(packed)
    with pytest.raises(GalleryError, match=r"copy cannot be searched, it is (compressed|a compressed|a sealed)"):
        found(tmp_path / "copy")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """And one that a server has removed meanwhile is no error: its bytes are gone."""
    with pytest.raises(GalleryError, match="cannot be searched: Is a directory"):
        found(tmp_path)
    assert found(tmp_path / "gone") == 0


def test_a_binary_file_is_searched_as_it_lies(tmp_path):
    """At every offset; its zeros tell that it is no text."""
    (tmp_path / "core").write_bytes(bytes(100_003) + SECRET)
    assert found(tmp_path / "core") == len(PRINTS)
