"""`make bench-gallery`: how fast and how right the gallery's index is, beside FAISS's flat index and usearch, as JSON.

python -m benchmarks.gallery [--templates 1000000] [--threads 2] [--quick] [--out benchmarks/results/gallery.json]

Needs some 8 GB of memory for a million templates with the rivals beside them; --alone leaves the rivals out.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gallery_life import measure_life
from benchmarks.machine import describe_machine, percentiles
from benchmarks.population import Population, Truth
from benchmarks.rivals import Split, Usearch, flat, milliseconds, rabitq
from gallery.faiss_rabitq import FaissRabitqIndex
from gallery.index import Vectors

RESULTS = Path(__file__).with_name("results") / "gallery.json"
DIMENSION = 512
SEED = 20261124
# Genuine cosines from the weakest that any threshold accepts to a good capture, and people who are not enrolled.
GENUINE = {"0.35-0.4": (0.35, 0.4), "0.4-0.5": (0.4, 0.5), "0.5-0.6": (0.5, 0.6), "0.6-0.7": (0.6, 0.7)}
STRANGERS = "strangers"
GROUPS = (*GENUINE, STRANGERS)
# Cosines at which an FMR between 1e-3 and 1e-6 would put the threshold.
THRESHOLDS = (0.25, 0.3, 0.35, 0.4)
_SCHEDULERS = {os.SCHED_OTHER: "normal", os.SCHED_FIFO: "real-time", os.SCHED_RR: "real-time"}


@dataclass(frozen=True)
class Size:
    """How much to measure: probes a cosine, rounds of timed searches, templates written one by one."""

    probes: int = 1000
    rounds: int = 100
    writes: int = 300


@dataclass
class Field:
    """The index, its rivals, and the probes with the truth about them.  group_of: (P,) the group of each probe."""

    index: FaissRabitqIndex
    rivals: dict[str, Split | Usearch]
    truth: Truth
    group_of: NDArray[np.str_]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write; 0 if everything was measured."""
    arguments = _parser().parse_args(argv)
    size = Size(100, 20, 50) if arguments.quick else Size()
    machine = describe_machine()
    population = Population.load(SEED)
    field = _field(population, arguments, size)
    _fill(field, population, arguments.templates)
    field.index.compact()
    if arguments.real_time:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    report = {
        "templates": arguments.templates,
        "dimension": DIMENSION,
        "threads": arguments.threads,
        "seed": SEED,
        "machine": machine | {"scheduling": _SCHEDULERS.get(os.sched_getscheduler(0), "other")},
        "usearch": version("usearch") if field.rivals else None,
        "memory_bytes_a_template": round(field.index.statistics().memory_bytes / arguments.templates, 1),
        "agreement": _agreement(field),
        "search_ms": _latencies(field, size.rounds),
    }
    if field.rivals:
        report["times_faster_than_flat"] = _ratio(report["search_ms"])
    field.rivals.clear()
    report["life"] = measure_life(field.index, population, arguments.templates, size.writes, field.truth.probes)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))
    return 0


def _field(population: Population, arguments: argparse.Namespace, size: Size) -> Field:
    """Empty indexes, and probes of people of the first chunk."""
    first = population.people(min(arguments.templates, 65536), SEED)
    chosen = np.random.default_rng(SEED).choice(len(first), (len(GENUINE), size.probes))
    genuine = [
        population.probes(first[rows], *bounds, n)
        for n, (bounds, rows) in enumerate(zip(GENUINE.values(), chosen, strict=True))
    ]
    probes = np.concatenate([*genuine, population.people(size.probes, SEED - 1)])
    group_of = np.repeat(GROUPS, size.probes)
    rivals: dict[str, Split | Usearch] = {}
    if not arguments.alone:
        rivals["flat_float32"] = flat(DIMENSION, arguments.threads)
        rivals["usearch_float16"] = Usearch(arguments.templates, DIMENSION, arguments.threads)
        rivals["faiss_rabitq_estimates_alone"] = rabitq(DIMENSION, arguments.threads)
    index = FaissRabitqIndex(DIMENSION, threads=arguments.threads)
    return Field(index, rivals, Truth(probes), group_of)


def _fill(field: Field, population: Population, count: int) -> None:
    for start, vectors in population.chunks(count, SEED):
        field.index.add(range(start, start + len(vectors)), vectors)
        for rival in field.rivals.values():
            rival.add(vectors)
        field.truth.see(start, vectors)


def _agreement(field: Field) -> dict[str, Any]:
    """Rank-1 and decisions beside the exact ones, over all probes and by group."""
    batches = np.array_split(field.truth.probes, max(1, len(field.truth.probes) // 64))
    best = [matches[0] for batch in batches for matches in field.index.search(batch, 1)]
    ids = np.array([match.template_id for match in best])
    cosines = np.array([match.cosine_similarity for match in best], np.float32)
    found: dict[str, Any] = {"thresholds": THRESHOLDS, "all": field.truth.agreement(ids, cosines, THRESHOLDS)}
    for group in GROUPS:
        these = field.group_of == group
        part = Truth(field.truth.probes[these])
        part.best, part.ids = field.truth.best[these], field.truth.ids[these]
        found[group] = part.agreement(ids[these], cosines[these], THRESHOLDS)
    return found


def _latencies(field: Field, rounds: int) -> dict[str, Any]:
    """One query at a time, all methods in turn, so that a busy moment of the machine hits each alike."""
    times: dict[str, list[float]] = {}

    def time(name: str, function: Any, query: Vectors, k: int) -> None:
        times.setdefault(name, []).append(milliseconds(lambda: function(query, k)))

    for number in range(-2, rounds):
        if number == 0:
            times.clear()  # the two rounds before were warm-up
        for group in GROUPS:
            places = np.flatnonzero(field.group_of == group)
            query = field.truth.probes[places[number % len(places)]][None]
            time(f"index, {group}", field.index.search, query, 1)
            time("index, best 4", field.index.search, query, 4)
        for name, rival in field.rivals.items():
            time(name, rival.best, query, 10)
    times["index"] = [
        value for name, values in times.items() if name in {f"index, {group}" for group in GROUPS} for value in values
    ]
    return {name: percentiles(values) for name, values in sorted(times.items())}


def _ratio(search_ms: dict[str, Any]) -> dict[str, float]:
    base = search_ms["flat_float32"]
    return {key: round(base[key] / search_ms["index"][key], 1) for key in ("p50", "p99")}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--templates", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=2, help="that one search uses")
    parser.add_argument("--quick", action="store_true", help="few probes and rounds, to see that it runs")
    parser.add_argument("--alone", action="store_true", help="without FAISS flat and usearch beside it")
    parser.add_argument(
        "--real-time",
        action="store_true",
        help="measure at real-time priority, on a machine that others use too (root)",
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the JSON goes")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
