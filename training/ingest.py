"""From folders or tar shards to the cache that training reads: crops in one array, a table beside it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from duetface.errors import ConfigError
from training.folders import read_folders
from training.pictures import SIZE, Picture, Skipped
from training.shards import read_shards

COLUMNS = ("name", "set", "identity", "cover")
GROWTH = 4096  # pictures by which the array on disk grows


def ingest(root: Path, cache: Path) -> dict[str, int]:
    """Write cache/crops.npy, table.csv and skipped.json; returns what was left out or kept without a label.

    Memory stays flat whatever the number of pictures. A table is written last, so an interrupted run starts again.
    Raises ConfigError if nothing can be read.
    """
    skipped = Skipped()
    read = read_shards if any(root.glob("*.tar")) else read_folders
    people: dict[str, int] = {}
    rows: list[tuple[str, str, int | str, float]] = []
    cache.mkdir(parents=True, exist_ok=True)
    raw = cache / "crops.raw"
    with raw.open("wb") as stream:
        for picture in read(root, skipped):
            stream.write(picture.rgb.tobytes())
            rows.append(_row(picture, people))
    if not rows:
        raise ConfigError(f"{root}: no usable picture; left out: {dict(skipped.counts)}")
    _save(raw, len(rows), cache / "crops.npy")
    (cache / "skipped.json").write_text(json.dumps(dict(skipped.counts)) + "\n", encoding="utf-8")
    with (cache / "table.partial").open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    (cache / "table.partial").rename(cache / "table.csv")
    return dict(skipped.counts)


def _row(picture: Picture, people: dict[str, int]) -> tuple[str, str, int | str, float]:
    identity = people.setdefault(picture.person, len(people)) if picture.person else ""
    # Pixels that alignment took from beyond the source are black: a crop from a tight source is mostly covered.
    covered = float(np.any(picture.rgb > 0, axis=2).mean())
    return picture.name, picture.source, identity, round(covered, 3)


def _save(raw: Path, count: int, path: Path) -> None:
    """The raw bytes with NumPy's header before them."""
    partial = path.with_suffix(".partial")
    crops = np.lib.format.open_memmap(partial, "w+", np.uint8, (count, SIZE, SIZE, 3))
    for start, part in _parts(raw):
        crops[start : start + len(part)] = part
    crops.flush()
    del crops
    partial.rename(path)
    raw.unlink()


def _parts(raw: Path) -> Iterator[tuple[int, np.ndarray]]:
    size, start = SIZE * SIZE * 3, 0
    with raw.open("rb") as stream:
        while content := stream.read(GROWTH * size):
            part = np.frombuffer(content, np.uint8).reshape(-1, SIZE, SIZE, 3)
            yield start, part
            start += len(part)
