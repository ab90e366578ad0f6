"""The capacity sheet of docs/operations.md, computed from measured figures.

python -m benchmarks.capacity [docs/operations.md]

Prints the sheet, or writes it between its markers in the files named.  Every row says what is measured and what is
reckoned: two gallery runs of different size give a line of search time over size, and beyond the memory of one machine
realms stand side by side.
"""

import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
MARKS = re.compile(r"(<!-- CAPACITY -->\n).*?(<!-- /CAPACITY -->)", re.DOTALL)
SIZES = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
# Of a node's 64 GB a service may fill three quarters: a compaction and a snapshot need room.
NODE_BYTES = 48e9
# Subject, template and expiry of each template in the roster (gallery/roster.py).
ROSTER_BYTES = 24
# The larger of the two measured runs, and how far beyond it a line may be drawn on one machine.
_BEYOND = 10


@dataclass(frozen=True)
class Line:
    """y = start + slope * templates, through the two measured runs."""

    start: float
    slope: float

    @staticmethod
    def through(runs: Sequence[dict[str, Any]], value: Any) -> "Line":
        """value: takes the figure from a run."""
        (x1, y1), (x2, y2) = ((run["templates"], value(run)) for run in runs)
        slope = (y2 - y1) / (x2 - x1)
        return Line(y1 - slope * x1, slope)

    def at(self, templates: float) -> float:
        """The figure at a size."""
        return self.start + self.slope * templates


def sheet(results: Path = RESULTS) -> str:
    """The table in Markdown."""
    runs = [json.loads((results / name).read_text(encoding="utf-8")) for name in ("gallery-100k.json", "gallery.json")]
    search = Line.through(runs, lambda run: run["search_ms"]["index"]["p50"])
    start = Line.through(runs, lambda run: run["life"]["start"]["whole_start_s"])
    held = runs[1]["memory_bytes_a_template"] + ROSTER_BYTES
    largest = runs[1]["templates"]
    one_node = min(int(NODE_BYTES / held), _BEYOND * largest)
    lines = [
        "| templates | realms | memory a node | search p50 | searches a second | start from snapshot | |",
        "|---|---|---|---|---|---|---|",
    ]
    for size in SIZES:
        realms = max(1, math.ceil(size / one_node))
        each = size / realms
        how = "measured" if size in {run["templates"] for run in runs} else "reckoned"
        lines.append(
            f"| {size:,} | {realms:,} | {_bytes(each * held)} | {search.at(each):.1f} ms "
            f"| {1000 / search.at(each):,.0f} | {_seconds(start.at(each))} | {how} |"
        )
    return "\n".join(lines) + "\n"


def _bytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _seconds(value: float) -> str:
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
