"""How search time and memory grow with the gallery: measured at several sizes, and a straight line through them."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import percentiles, tell
from benchmarks.population import CHUNK, Population, Vectors
from benchmarks.rivals import milliseconds
from gallery.faiss_rabitq import FaissRabitqIndex

SIZES = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
# What is asked about beyond what was measured.
AT = 10_000_000
_REPEATS = 3
# Rows, codes, ids, and room for the chunk that is being added.
_BYTES_A_TEMPLATE = 1100
_BYTES_BESIDE = 2e9


def measure_scale(population: Population, seed: int, largest: int, threads: int, probes: Vectors) -> dict[str, Any]:
    """One index filled step by step, searched at each size up to `largest`; a size that has no room is left out.

    probes: (P, D), one query at a time.
    """
    index, held, sizes = FaissRabitqIndex(probes.shape[1], threads=threads), 0, list[dict[str, Any]]()
    for size in sorted({size for size in SIZES if size < largest} | {largest}):
        if (size - held) * _BYTES_A_TEMPLATE + _BYTES_BESIDE > _available_bytes():
            tell(f"{size:,} templates do not fit into this machine's memory now")
            break
        while held < size:
            held = _add(index, population, seed, held, size)
            tell(f"templates added: {held:,} of {size:,}")
        index.compact()
        sizes.append(_measured(index, size, probes))
    return {"sizes": sizes, "fit": _line(sizes)}


def _add(index: FaissRabitqIndex, population: Population, seed: int, held: int, size: int) -> int:
    """The next people, at most a chunk; the first are those that the probes are of."""
    vectors = population.people(min(CHUNK, size - held), seed + held)
    index.add(range(held, held + len(vectors)), vectors)
    return held + len(vectors)


def _measured(index: FaissRabitqIndex, size: int, probes: Vectors) -> dict[str, Any]:
    for probe in probes[:10]:
        index.search(probe[None], 1)  # warm-up
    times = [milliseconds(lambda p=probe: index.search(p[None], 1)) for _ in range(_REPEATS) for probe in probes]
    tell(f"searched {size:,} templates")
    return {"templates": size, "search_ms": percentiles(times), "memory_bytes": index.statistics().memory_bytes}


def _line(sizes: list[dict[str, Any]]) -> dict[str, Any] | None:
    """p50 = start + slope * templates by least squares, or None for fewer than two sizes."""
    if len(sizes) < 2:
        return None
    counts = np.array([size["templates"] for size in sizes], np.float64)
    p50 = np.array([size["search_ms"]["p50"] for size in sizes])
    slope, start = np.polyfit(counts, p50, 1)
    worst = float(np.abs(start + slope * counts - p50).max())
    return {
        "start_ms": round(float(start), 3),
        "ms_a_million": round(float(slope) * 1e6, 3),
        "largest_difference_ms": round(worst, 2),
        f"at_{AT}_ms": round(float(start + slope * AT), 1),
    }


def _available_bytes() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
