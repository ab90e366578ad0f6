"""One HTML page and its JSON: who attacked what and how far it came, beside published figures and on portraits.

The pictures are of public-domain portraits only; figures come from result files, never from this module.
"""

from __future__ import annotations

import argparse
import base64
import csv
import html
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from duetface.errors import ConfigError
from privacy import gallery_page
from privacy.frontier import frontier, frontier_picture
from privacy.record import read_all, where_and_when
from privacy.threat_models import THREATS

Say = Callable[[str], None]
ELSEWHERE = {"seed", "view", "checkpoint_s"}
PUBLISHED = Path(__file__).with_name("published.csv")

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { border-bottom: 1px solid #ddd; padding: .3rem .7rem;
text-align: left; vertical-align: top; } td.figure { font-variant-numeric: tabular-nums; white-space: nowrap; }
img.face { width: 112px; height: 112px; image-rendering: pixelated; } .note { color: #666; max-width: 50rem; }
"""


def write_report(arguments: argparse.Namespace, say: Say) -> Path:
    """Write index.html, report.json, frontier.png and a picture a split; returns the page's path.

    Raises ConfigError if a split has no results.
    """
    results = [result for result in read_all(arguments.results) if result["split"] in arguments.split]
    missing = sorted(set(arguments.split) - {result["split"] for result in results})
    if missing:
        raise ConfigError(f"no results of splits {missing} in {arguments.results}: run attacks with --publish first")
    say(f"{len(results)} results; drawing the portraits")
    out, runs = Path(arguments.out), [Path(run) for run in arguments.runs]
    out.mkdir(parents=True, exist_ok=True)
    portraits = {
        split: gallery_page.portrait_columns(split, arguments.portraits, arguments.models, runs)
        for split in arguments.split
    }
    for split, columns in portraits.items():
        gallery_page.portraits_picture(columns, out / f"portraits-{split}.png")
    points = frontier(results)
    sections = [
        ("What is measured", _measure()),
        *((f"Split {split}", split_section(split, results)) for split in arguments.split),
        ("Frontier", _frontier(points, out / "frontier.png")),
        *((f"Portraits, {split}", gallery_page.portraits_table(columns)) for split, columns in portraits.items()),
        ("Published figures", published_section(PUBLISHED)),
        ("Attackers", threats_section()),
    ]
    page = out / "index.html"
    page.write_text(_page(sections), encoding="utf-8")
    summary = {"results": results, "frontier": points, **where_and_when()}
    (out / "report.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return page


def split_section(split: str, results: Sequence[Mapping[str, Any]]) -> str:
    """Every attack on one split, a row a figure; what holds for all figures of an attack stands in its first row."""
    rows: list[tuple[str, ...]] = []
    for result in results:
        if result["split"] != split:
            continue
        sizes = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in result["n"].items() if count)
        common = (sizes, budget_words(result["settings"]), f"seed {result['seed']}", result["date"])
        for row, (name, value) in enumerate(result["metrics"].items()):
            figure = (name.replace("_", " "), _figure(value))
            rows.append((str(result["attack"]), *figure, *common) if row == 0 else ("", *figure, *("" for _ in common)))
    return table(("attack", "figure", "mean [95 % over people]", "sample", "budget", "seed", "date"), rows)


def budget_words(settings: Mapping[str, Any]) -> str:
    """What an attack might spend, as a person reads it: every setting but those that are told elsewhere or are nil."""
    told = {name: value for name, value in settings.items() if name not in ELSEWHERE and value}
    return ", ".join(f"{name.replace('_', ' ')} {_setting(value)}" for name, value in told.items())


def published_section(path: Path) -> str:
    """Other people's figures, with their source. Sets and attackers differ: they set the scale, no more."""
    with path.open(newline="", encoding="utf-8") as stream:
        rows = [tuple(row.values()) for row in csv.DictReader(stream)]
    note = "<p class='note'>Other data, other attackers: not comparable figure by figure.</p>"
    return note + table(("method", "data", "accuracy %", "attack", "PSNR dB", "SSIM", "source"), rows)


def threats_section() -> str:
    """Who the attackers are."""
    rows = [(t.name, t.who, t.holds, t.spends, t.wins_by, t.beats) for t in THREATS.values()]
    return table(("attack", "who", "holds", "spends", "wins by", "shown to succeed on"), rows)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """An HTML table; every cell is escaped."""
    top = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def _setting(value: object) -> str:
    if isinstance(value, list):
        return " + ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _figure(value: Mapping[str, float] | float) -> str:
    if isinstance(value, Mapping):
        return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    return f"{value:g}"


def _frontier(points: Sequence[Mapping[str, Any]], path: Path) -> str:
    """The picture of the frontier, in the page and as a file of its own."""
    if not points:
        return "<p>No split has both a measured excess and a measured cost yet.</p>"
    frontier_picture(points, path)
    return f"<img alt='frontier' src='data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}'>"


def _measure() -> str:
    return (
        "<p>The service needs a template to decide, and whoever holds a message can compute it. So the figure that "
        "counts is the <b>excess</b>: what the best attack draws from a message beyond what the same attacker draws "
        "from its template. The mean face is the floor of every reconstruction, the plain crop its ceiling. "
        "Identity itself is not hidden: see linkage.</p>"
    )


def _page(sections: Sequence[tuple[str, str]]) -> str:
    body = "".join(f"<h2>{html.escape(title)}</h2>{content}" for title, content in sections)
    head = f"<head><meta charset='utf-8'><title>Privacy</title><style>{STYLE}</style></head>"
    return f"<!doctype html><html lang='en'>{head}<body><h1>What a message gives away</h1>{body}</body></html>\n"
