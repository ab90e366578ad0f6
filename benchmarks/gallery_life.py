"""What an index costs beside searching: single additions and removals, searches meanwhile, compaction, and a start."""

import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.machine import percentiles
from benchmarks.population import Population, Vectors
from benchmarks.rivals import milliseconds
from gallery.faiss_rabitq import FaissRabitqIndex

# A campus at the start of term: far more changes a second than a gallery ever sees.
_PAUSE_S = 0.02
_PIECE = 1 << 28


def measure_life(
    index: FaissRabitqIndex, population: Population, count: int, writes: int, probes: Vectors
) -> dict[str, Any]:
    """index: holds templates 0 .. count - 1, and does so again afterwards."""
    return {
        "search_idle_ms": _searching(index, probes, threading.Event(), limit=2 * writes),
        **_writing(index, population, count, writes, probes),
        "compaction_s": _compaction(index, population, count, writes),
        "start": _start(index),
    }


def _searching(index: FaissRabitqIndex, probes: Vectors, stop: threading.Event, limit: int) -> dict[str, float | int]:
    times = []
    while not stop.is_set() and len(times) < limit:
        query = probes[len(times) % len(probes)][None]
        times.append(milliseconds(lambda query=query: index.search(query, 1)))
    return percentiles(times)


def _writing(
    index: FaissRabitqIndex, population: Population, count: int, writes: int, probes: Vectors
) -> dict[str, Any]:
    """Templates added and removed one by one while another thread searches without pause."""
    stop, during = threading.Event(), dict[str, float | int]()
    reader = threading.Thread(target=lambda: during.update(_searching(index, probes, stop, limit=10**6)))
    vectors = population.people(writes, count)
    reader.start()
    added, removed = [], []
    for number, vector in enumerate(vectors):
        added.append(milliseconds(lambda n=number, v=vector: index.add([count + n], v[None])))
        time.sleep(_PAUSE_S)
    for number in range(writes):
        removed.append(milliseconds(lambda n=number: index.remove([count + n])))
        time.sleep(_PAUSE_S)
    stop.set()
    reader.join()
    return {"add_ms": percentiles(added), "remove_ms": percentiles(removed), "search_meanwhile_ms": during}


def _compaction(index: FaissRabitqIndex, population: Population, count: int, writes: int) -> dict[str, float]:
    """After one removal from a full segment, and after removals all over the gallery."""
    index.compact()
    found = {"one_removal": round(_removed_and_compacted(index, [count // 2]), 3)}
    everywhere = np.unique(np.linspace(0, count - 1, max(writes, 2)).astype(int))
    found["removals_everywhere"] = round(_removed_and_compacted(index, everywhere[everywhere != count // 2]), 3)
    gone = [*everywhere[everywhere != count // 2].tolist(), count // 2]
    index.add(gone, population.people(len(gone), count + 1))
    index.compact()
    return found


def _removed_and_compacted(index: FaissRabitqIndex, ids: Any) -> float:
    index.remove([int(i) for i in ids])
    return milliseconds(index.compact) / 1000


def _start(index: FaissRabitqIndex) -> dict[str, float]:
    """Snapshot, sealed by AES-256-GCM in pieces, written, and back again into an empty index."""
    cipher = AESGCM(bytes(32))
    started = time.perf_counter()
    content = memoryview(index.snapshot())
    snapshot_s = time.perf_counter() - started
    with tempfile.TemporaryDirectory(prefix="duetface-bench-") as folder:
        path = Path(folder) / "snapshot"
        with path.open("wb") as file:
            for number, place in enumerate(range(0, len(content), _PIECE)):
                file.write(cipher.encrypt(number.to_bytes(12, "big"), content[place : place + _PIECE], None))
        length = len(content)
        del content
        started = time.perf_counter()
        with path.open("rb") as file:
            pieces = []
            while sealed := file.read(_PIECE + 16):
                pieces.append(cipher.decrypt(len(pieces).to_bytes(12, "big"), sealed, None))
        plain = b"".join(pieces)
        pieces.clear()
        opened_s = time.perf_counter() - started
        restored = FaissRabitqIndex()
        restored.restore(plain)
    return {
        "snapshot_bytes": length,
        "snapshot_s": round(snapshot_s, 2),
        "read_and_open_s": round(opened_s, 2),
        "whole_start_s": round(time.perf_counter() - started, 2),
    }
