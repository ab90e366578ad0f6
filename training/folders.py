"""Crops in folders, one folder a person: ROOT/PERSON/PICTURE.jpg (the layout of ImageFolder and of most face sets)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from duetface.errors import ConfigError
from training.pictures import SUFFIXES, Picture, Skipped


def read_folders(root: Path, skipped: Skipped) -> Iterator[Picture]:
    """Pictures by person, in the order of their names. A picture beside the folders has no person.

    Raises ConfigError if there is not one picture file.
    """
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ConfigError(f"{root} holds no pictures ({', '.join(SUFFIXES)}), nor faces.csv, nor .tar shards")
    for path in paths:
        rgb = skipped.decode(path.read_bytes())
        if rgb is None:
            continue
        person = str(path.parent.relative_to(root)) if path.parent != root else ""
        if not person:
            skipped.counts["kept without a person"] += 1
        yield Picture(str(path.relative_to(root)), person, root.name, rgb)
