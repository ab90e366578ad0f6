"""A process that is killed while it enrols, on every kind of index and of store."""

import json
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from gallery.indexes import IndexKind
from tests.conformance.conftest import postgresql_url
from tests.servers import milvus_server, postgres_server

ROOT = Path(__file__).resolve().parents[2]
# Each opens the gallery three times; some seconds each with Milvus.
KILLS = 2


@pytest.fixture
def database():
    """A new database of the tests' PostgreSQL, where a test needs one."""
    made = []

    def make() -> str:
        made.append(f"crash_{secrets.token_hex(8)}")
        return postgresql_url(made[-1])

    yield make
    for name in made:
        postgres_server().run(f"DROP DATABASE {name} WITH (FORCE)")


def arguments_of(index: IndexKind, database) -> list[str]:
    """What tells the driver where the index lies; skips where its server is not there."""
    if index is IndexKind.PGVECTOR:
        return ["--index-url", database().replace("postgresql+psycopg://", "postgresql://", 1)]
    return ["--index-url", milvus_server().uri] if index is IndexKind.MILVUS else []


@pytest.mark.parametrize(
    ("store", "index"),
    [
        *(("sqlite", index) for index in IndexKind if index is not IndexKind.FAISS_RABITQ),
        ("postgresql", IndexKind.FAISS_RABITQ),
        ("postgresql", IndexKind.PGVECTOR),
    ],
)
def test_kill_9_in_the_middle_of_an_enrolment_loses_nothing(store, index, database, tmp_path):
    """Committed is there, nothing is half there, and the index holds what the store holds, also one that outlives us.

    FAISS RaBitQ over SQLite is killed in tests/unit/gallery/test_crash.py.
    """
    command = [sys.executable, "-m", "tests.unit.gallery.crash_driver", str(tmp_path), "--kills", str(KILLS)]
    command += ["--index", index.value, *arguments_of(index, database)]
    if store == "postgresql":
        command += ["--database", database()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["kills"] == KILLS
    assert report["acknowledged_changes"] > 0
    assert (report["lost"], report["half_there"], report["index_differs"]) == (0, 0, 0)
