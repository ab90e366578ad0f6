"""`make bench-gallery`'s plots: how fast beside how right, how a search grows with the gallery, what a change costs.

python -m benchmarks.gallery_plots [--results benchmarks/results] [--out build]
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
METHODS = {
    "index": "our index: one-bit scan, exact re-scoring",
    "flat_float32": "FAISS IndexFlatIP",
    "usearch_float16": "usearch, exact, float16",
    "faiss_rabitq_estimates_alone": "FAISS RaBitQ fast scan, estimates alone",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Draw what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path, default=Path("build"))
    arguments = parser.parse_args(argv)
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(arguments.results.glob("gallery*.json"))]
    runs = [run for run in runs if "search_ms" in run]
    if not runs:
        raise SystemExit(f"{arguments.results} holds no gallery*.json: run `make bench-gallery` first")
    arguments.out.mkdir(parents=True, exist_ok=True)
    runs.sort(key=lambda run: run["templates"])
    _methods(runs[-1], arguments.out / "gallery-methods.png")
    _growth(runs, arguments.out / "gallery-growth.png")
    if "committed" in runs[-1]:
        _changes(runs[-1], arguments.out / "gallery-changes.png")
    return 0


def _methods(run: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.add_subplot()
    names = [name for name in METHODS if name in run["search_ms"]]
    for place, name in enumerate(reversed(names)):
        times = run["search_ms"][name]
        axes.barh(place, times["p50"], color="tab:blue" if name == "index" else "tab:gray")
        axes.plot([times["p50"], times["p99"]], [place, place], color="black", marker="|")
        axes.annotate(f" {times['p50']:.1f} / {times['p99']:.1f} ms", (times["p99"], place), va="center")
    axes.set_yticks(range(len(names)), [METHODS[name] for name in reversed(names)])
    same = run["agreement"]["all"]
    axes.set_xlabel("milliseconds a query: bar p50, line to p99")
    figure.suptitle(
        f"{run['templates']:,} x {run['dimension']}, {run['threads']} threads; the index agrees with the exact search "
        f"in {same['rank_1_same']:.2%} of {same['n']:,}",
        fontsize=9,
    )
    axes.set_xlim(0, 1.5 * max(run["search_ms"][name]["p99"] for name in names))
    figure.savefig(path, dpi=150)


def _growth(runs: list[dict[str, Any]], path: Path) -> None:
    """Each method at the sizes of the runs; ours at those of the part `scale` too, with the line through them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.add_subplot()
    for name, label in METHODS.items():
        points = {run["templates"]: run["search_ms"][name]["p50"] for run in runs if name in run["search_ms"]}
        if name == "index" and "scale" in runs[-1]:
            points |= {size["templates"]: size["search_ms"]["p50"] for size in runs[-1]["scale"]["sizes"]}
            _line(axes, runs[-1]["scale"]["fit"])
        axes.plot(sorted(points), [points[size] for size in sorted(points)], marker="o", label=label)
    axes.set(xscale="log", yscale="log", xlabel="templates", ylabel="search p50, ms")
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=150)


def _line(axes: Any, fit: dict[str, float] | None) -> None:
    if fit is not None:
        sizes = (100_000, 1_000_000, 10_000_000)
        times = [fit["start_ms"] + fit["ms_a_million"] * size / 1e6 for size in sizes]
        axes.plot(sizes, times, "--", color="tab:gray", label="line through our index's sizes")


def _changes(run: dict[str, Any], path: Path) -> None:
    """What a change costs until it is committed and visible, and what it costs those who search meanwhile."""
    from matplotlib.figure import Figure

    names = [name for name in run["committed"] if name.endswith("_ms")]
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for place, name in enumerate(reversed(names)):
        times = run["committed"][name]
        axes.barh(place, times["p50"], color="tab:blue" if "search_" in name else "tab:orange")
        axes.plot([times["p50"], times["p99"]], [place, place], color="black", marker="|")
        axes.annotate(f" {times['p50']:.1f} / {times['p99']:.1f} ms", (times["p99"], place), va="center", fontsize=8)
    axes.set_yticks(range(len(names)), [name.removesuffix("_ms").replace("_", " ") for name in reversed(names)])
    axes.set_xlabel("milliseconds: bar p50, line to p99")
    axes.set_xlim(0, 1.4 * max(run["committed"][name]["p99"] for name in names))
    figure.suptitle(f"a whole gallery of {run['templates']:,} in SQLite", fontsize=9)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    raise SystemExit(main())
