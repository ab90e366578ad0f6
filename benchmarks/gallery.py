"""`make bench-gallery`: how fast and how right the gallery is, beside FAISS's flat index and usearch, as JSON.

python -m benchmarks.gallery [--parts search,life,scale,sql-start,committed] [--templates 1000000] [--threads 2]

search: the index beside its rivals, and its answers beside the exact ones.  life: additions, removals, compaction and
a start from a snapshot, of the index alone.  sql-start: a whole gallery opened from SQL.  committed: enrolments and
deletions in it while others search.  scale: search time over size, up to --up-to templates if memory allows.

Each part is written to the result file as soon as it is measured; the file keeps the parts that are not asked for, as
long as they are of the same size.  What is slow to make (the exact answers, the database) is kept in --cache.
Needs some 6 GB of memory for a million templates with the rivals beside them, and 6 GB of disk for the database.
"""

import argparse
import functools
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gallery_life import measure_life
from benchmarks.gallery_scale import measure_scale
from benchmarks.gallery_store import built, forget_erasures, measure_changes, measure_start, opened
from benchmarks.machine import describe_machine, percentiles, tell
from benchmarks.population import Population, Truth
from benchmarks.rivals import Split, Usearch, flat, milliseconds, rabitq
from gallery.faiss_rabitq import FaissRabitqIndex
from gallery.gallery import Gallery
from gallery.index import Vectors

RESULTS = Path(__file__).with_name("results") / "gallery.json"
CACHE = Path("build/bench-gallery")
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


class Bench:
    """What the parts share, each made when the first of them needs it."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        """Nothing is made yet."""
        self.arguments = arguments
        self.size = Size(100, 20, 50) if arguments.quick else Size()
        self.count: int = arguments.templates
        self.population = Population.load(SEED)

    @functools.cached_property
    def groups(self) -> dict[str, Vectors]:
        """(P, D) probes of people of the first chunk at each range of cosines, and of strangers."""
        first = self.population.people(min(self.count, 65536), SEED)
        chosen = np.random.default_rng(SEED).choice(len(first), (len(GENUINE), self.size.probes))
        genuine = {
            name: self.population.probes(first[rows], *bounds, n)
            for n, ((name, bounds), rows) in enumerate(zip(GENUINE.items(), chosen, strict=True))
        }
        return genuine | {STRANGERS: self.population.people(self.size.probes, SEED - 1)}

    @functools.cached_property
    def index(self) -> FaissRabitqIndex:
        """Filled with everybody, alone."""
        index = FaissRabitqIndex(DIMENSION, threads=self.arguments.threads)
        for start, vectors in self.population.chunks(self.count, SEED):
            index.add(range(start, start + len(vectors)), vectors)
            tell(f"templates added: {start + len(vectors):,} of {self.count:,}")
        index.compact()
        return index

    @functools.cached_property
    def truth(self) -> Truth:
        """The exact answers, from the cache if they were computed before."""
        truth = Truth(np.concatenate(list(self.groups.values())))
        path = self.arguments.cache / f"truth-{self.count}-{SEED}-{self.size.probes}.npz"
        if path.exists():
            with np.load(path) as stored:
                truth.best, truth.ids = stored["best"], stored["ids"]
            return truth
        for start, vectors in self.population.chunks(self.count, SEED):
            truth.see(start, vectors)
            tell(f"exact answers: {start + len(vectors):,} of {self.count:,}")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, best=truth.best, ids=truth.ids)
        return truth

    @functools.cached_property
    def database(self) -> Path:
        """The whole gallery in SQLite, from the cache if it was made before."""
        return built(self.arguments.cache, self.population, self.count, SEED)

    @functools.cached_property
    def rivals(self) -> dict[str, Split | Usearch]:
        """Filled with everybody; none if they are left out."""
        if self.arguments.alone:
            return {}
        threads = self.arguments.threads
        rivals: dict[str, Split | Usearch] = {
            "flat_float32": flat(DIMENSION, threads),
            "usearch_float16": Usearch(self.count, DIMENSION, threads),
            "faiss_rabitq_estimates_alone": rabitq(DIMENSION, threads),
        }
        for start, vectors in self.population.chunks(self.count, SEED):
            for rival in rivals.values():
                rival.add(vectors)
            tell(f"templates added to the rivals: {start + len(vectors):,} of {self.count:,}")
        return rivals


def search(bench: Bench) -> dict[str, Any]:
    """Speed and answers of the index beside its rivals'."""
    truth, index, rivals = bench.truth, bench.index, bench.rivals
    found: dict[str, Any] = {
        "usearch": version("usearch") if rivals else None,
        "memory_bytes_a_template": round(index.statistics().memory_bytes / bench.count, 1),
        "agreement": _agreement(bench, truth),
        "search_ms": _latencies(bench),
    }
    if rivals:
        base, ours = found["search_ms"]["flat_float32"], found["search_ms"]["index"]
        found["times_faster_than_flat"] = {key: round(base[key] / ours[key], 1) for key in ("p50", "p99")}
    rivals.clear()
    return found | {"machine": _machine()}


def _agreement(bench: Bench, truth: Truth) -> dict[str, Any]:
    """Rank-1 and decisions beside the exact ones, over all probes and by group."""
    best = []
    for batch in np.array_split(truth.probes, max(1, len(truth.probes) // 64)):
        best += [matches[0] for matches in bench.index.search(batch, 1)]
        tell(f"answers compared: {len(best):,} of {len(truth.probes):,}")
    ids = np.array([match.template_id for match in best])
    cosines = np.array([match.cosine_similarity for match in best], np.float32)
    found: dict[str, Any] = {"thresholds": THRESHOLDS, "all": truth.agreement(ids, cosines, THRESHOLDS)}
    for number, group in enumerate(GROUPS):
        these = slice(number * bench.size.probes, (number + 1) * bench.size.probes)
        part = Truth(truth.probes[these])
        part.best, part.ids = truth.best[these], truth.ids[these]
        found[group] = part.agreement(ids[these], cosines[these], THRESHOLDS)
    return found


def _latencies(bench: Bench) -> dict[str, Any]:
    """One query at a time, all methods in turn, so that a busy moment of the machine hits each alike."""
    times: dict[str, list[float]] = {}

    def time(name: str, function: Any, query: Vectors, k: int) -> None:
        times.setdefault(name, []).append(milliseconds(lambda: function(query, k)))

    for number in range(-2, bench.size.rounds):
        if number == 0:
            times.clear()  # the two rounds before were warm-up
        for group, probes in bench.groups.items():
            query = probes[number % len(probes)][None]
            time(f"index, {group}", bench.index.search, query, 1)
            time("index, best 4", bench.index.search, query, 4)
        for name, rival in bench.rivals.items():
            time(name, rival.best, query, 10)
        tell(f"rounds of searches: {number + 1} of {bench.size.rounds}")
    times["index"] = [value for group in GROUPS for value in times[f"index, {group}"]]
    return {name: percentiles(values) for name, values in sorted(times.items())}


def life(bench: Bench) -> dict[str, Any]:
    """See benchmarks.gallery_life."""
    probes = np.concatenate(list(bench.groups.values()))
    return {"life": measure_life(bench.index, bench.population, bench.count, bench.size.writes, probes)}


def sql_start(bench: Bench) -> dict[str, Any]:
    """See benchmarks.gallery_store."""
    bench.__dict__.pop("index", None)  # its memory is needed now
    gallery, found = measure_start(bench.database, bench.arguments.threads)
    bench.__dict__["gallery"] = gallery
    return {"sql_start": found | {"machine": _machine()}}


def committed(bench: Bench) -> dict[str, Any]:
    """See benchmarks.gallery_store."""
    gallery: Gallery = bench.__dict__.pop("gallery", None) or opened(bench.database, bench.arguments.threads)
    probes = np.concatenate(list(bench.groups.values()))
    np.random.default_rng(SEED).shuffle(probes)
    found = measure_changes(gallery, bench.arguments.cache, bench.population, bench.size.writes, probes)
    forget_erasures(bench.database)
    return {"committed": found | {"machine": _machine()}}


def scale(bench: Bench) -> dict[str, Any]:
    """See benchmarks.gallery_scale."""
    bench.__dict__.pop("index", None)
    probes = [probes[:: max(1, len(probes) // 20)] for probes in bench.groups.values()]
    largest = bench.arguments.up_to or bench.count
    found = measure_scale(bench.population, SEED, largest, bench.arguments.threads, np.concatenate(probes))
    return {"scale": found | {"machine": _machine()}}


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "search": search,
    "life": life,
    "scale": scale,
    "sql-start": sql_start,
    "committed": committed,  # the last, since erasures go on after it
}


def _machine() -> dict[str, Any]:
    return describe_machine() | {"scheduling": _SCHEDULERS.get(os.sched_getscheduler(0), "other")}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure part after part and write; 0 if all that was asked for was measured."""
    arguments = _parser().parse_args(argv)
    bench = Bench(arguments)
    of: dict[str, Any] = {"templates": bench.count, "dimension": DIMENSION, "threads": arguments.threads, "seed": SEED}
    report = of | _earlier(arguments.out, of)
    if arguments.real_time:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    for part in (name for name in PARTS if name in arguments.parts):
        tell(f"part: {part}")
        report |= PARTS[part](bench)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))
    return 0


def _earlier(path: Path, of: dict[str, Any]) -> dict[str, Any]:
    """What the result file holds already of the same size and seed."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found if all(found.get(name) == value for name, value in of.items()) else {}


def _parts(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no part: expected some of {', '.join(PARTS)}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=_parts, default=list(PARTS), help="which, with commas between")
    parser.add_argument("--templates", type=int, default=1_000_000)
    parser.add_argument("--up-to", type=int, help="templates that the part scale ends with; else --templates")
    parser.add_argument("--threads", type=int, default=2, help="that one search uses")
    parser.add_argument("--quick", action="store_true", help="few probes and rounds, to see that it runs")
    parser.add_argument("--alone", action="store_true", help="without FAISS flat and usearch beside it")
    parser.add_argument(
        "--real-time",
        action="store_true",
        help="at real-time priority, on a machine that others use too (root); Linux takes 50 ms of each second back "
        "from it (sched_rt_runtime_us), which stand in its p99",
    )
    parser.add_argument("--cache", type=Path, default=CACHE, help="where what is slow to make is kept")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the JSON goes")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
