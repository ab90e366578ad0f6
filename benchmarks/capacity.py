"""The capacity sheet of docs/operations.md, computed from measured figures.

python -m benchmarks.capacity [docs/operations.md]

Prints the sheet, or writes it between its markers in the files named.  Every row says whether its search time is
measured or reckoned: what was measured at several sizes gives a line over size, and beyond the memory of one machine
realms stand side by side.
"""

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).with_name("results")
MARKS = re.compile(r"(<!-- CAPACITY -->\n).*?(<!-- /CAPACITY -->)", re.DOTALL)
SIZES = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
# Of a node's 64 GB a service may fill three quarters: a compaction and a snapshot need room.
NODE_BYTES = 48e9
# Subject, template and expiry of each template in the roster (gallery/roster.py).
ROSTER_BYTES = 24
# How far beyond the larger of the two runs a line may be drawn on one machine.
_BEYOND = 10


@dataclass(frozen=True)
class Line:
    """y = start + slope * templates."""

    start: float
    slope: float

    @staticmethod
    def through(points: Mapping[int, float]) -> "Line":
        """The line of least squares through the figures measured at two sizes or more."""
        slope, start = np.polyfit(np.array([*points], np.float64), np.array([*points.values()]), 1)
        return Line(float(start), float(slope))

    def at(self, templates: float) -> float:
        """The figure at a size."""
        return self.start + self.slope * templates


def sheet(results: Path = RESULTS) -> str:
    """The table in Markdown."""
    runs = [json.loads((results / name).read_text(encoding="utf-8")) for name in ("gallery-100k.json", "gallery.json")]
    measured = {run["templates"]: run["search_ms"]["index"]["p50"] for run in runs}
    for size in runs[1]["scale"]["sizes"]:
        measured.setdefault(size["templates"], size["search_ms"]["p50"])
    search = Line.through(measured)
    start = Line.through({run["templates"]: run["life"]["start"]["whole_start_s"] for run in runs})
    from_sql_s = runs[1]["sql_start"]["microseconds_a_template"] / 1e6
    held = runs[1]["memory_bytes_a_template"] + ROSTER_BYTES
    largest = runs[1]["templates"]
    one_node = min(int(NODE_BYTES / held), _BEYOND * largest)
    lines = [
        "| templates | realms | memory a node | search p50 | searches a second | start from snapshot | from SQL | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for size in SIZES:
        realms = max(1, math.ceil(size / one_node))
        each = size / realms
        search_ms = measured[size] if size in measured else search.at(each)
        how = "measured" if size in measured else "reckoned"
        lines.append(
            f"| {size:,} | {realms:,} | {_bytes(each * held)} | {search_ms:.1f} ms | {1000 / search_ms:,.0f} "
            f"| {_seconds(start.at(each))} | {_seconds(from_sql_s * each)} | {how} |"
        )
    return "\n".join(lines) + "\n"


def _bytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _seconds(value: float) -> str:
    if value >= 120:
        return f"{value / 60:.0f} min"
    return f"{value:.1f} s" if value >= 1 else "under 1 s"


def written(text: str, table: str) -> str:
    """The text with the table between its markers."""
    return MARKS.sub(lambda match: match[1] + table + match[2], text)


def main(argv: Sequence[str] | None = None) -> int:
    """Print or write."""
    paths = [Path(name) for name in (sys.argv[1:] if argv is None else argv)]
    table = sheet()
    for path in paths:
        path.write_text(written(path.read_text(encoding="utf-8"), table), encoding="utf-8")
    if not paths:
        print(table, end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
