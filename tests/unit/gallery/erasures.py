"""What tests of erasures look at: bytes in the files, readers that hold them back, what is complete."""

import contextlib
import sqlite3
import time

from tests.unit.gallery.world import World


def values_of(world: World, subject_id: str) -> list[bytes]:
    """Everything sealed that the file holds of a subject, read behind the gallery's back."""
    (key,) = world.sqlite(f"SELECT subject_key FROM subjects WHERE subject_id = '{subject_id}'")[0]
    found = []
    for table, column in (("templates", "ciphertext"), ("subject_keys", "sealed_key"), ("subjects", "sealed_label")):
        found += [row[0] for row in world.sqlite(f"SELECT {column} FROM {table} WHERE subject_key = {key}")]
    return found


def traces(world: World, values: list[bytes]) -> int:
    """Windows of these values in the database file and its log, counted plainly."""
    content = b"".join(path.read_bytes() for path in world.folder.glob("gallery.db*"))
    return sum(content.count(value[start : start + 16]) for value in values for start in (0, len(value) - 16))


@contextlib.contextmanager
def a_reader(world):
    """Somebody else who still looks at the database as it was before."""
    with contextlib.closing(sqlite3.connect(world.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM templates").fetchone()
        yield


def completed(world, within_s=20):
    """Whether the background marks every erasure as complete before the time is over."""
    deadline = time.monotonic() + within_s
    while world.sqlite("SELECT 1 FROM erasures WHERE completed_at_us IS NULL"):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
