"""Tar shards in WebDataset's layout: members KEY.jpg and KEY.cls (or KEY.json) stand beside each other.

Read in order and without seeking, as a shard that comes over a network would be; nothing is unpacked to disk.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from duetface.errors import ConfigError
from training.pictures import SUFFIXES, Picture, Skipped

LARGEST = 64 << 20  # bytes of one member: a crop is some kilobytes, more is damage
LABEL_KEYS = ("identity", "label", "class", "person")  # of KEY.json


def read_shards(root: Path, skipped: Skipped) -> Iterator[Picture]:
    """Pictures of all ROOT/*.tar in order. Raises ConfigError naming a damaged shard or a label that is none."""
    for path in sorted(root.glob("*.tar")):
        for key, parts in _samples(path):
            yield from _picture(f"{path.stem}/{key}", parts, root.name, skipped)


def _samples(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Key and parts by suffix; a sample ends where the next key begins."""
    key, parts = "", dict[str, bytes]()
    try:
        with tarfile.open(path, "r|") as shard:
            for member in shard:
                if not member.isfile():
                    continue
                if member.size > LARGEST:
                    raise ConfigError(f"{path}: {member.name} has {member.size} bytes, at most {LARGEST} are read")
                name = PurePosixPath(member.name)
                stem, _, suffix = name.name.partition(".")  # WebDataset: the key ends at the first dot
                found = str(name.parent / stem)
                if found != key and parts:
                    yield key, parts
                    parts = {}
                stream = shard.extractfile(member)
                key, parts[f".{suffix.lower()}"] = found, stream.read() if stream else b""
    except tarfile.TarError as error:
        raise ConfigError(f"{path} is no tar file, or a damaged one: {error}") from error
    if parts:
        yield key, parts


def _picture(name: str, parts: dict[str, bytes], source: str, skipped: Skipped) -> Iterator[Picture]:
    content = next((parts[suffix] for suffix in SUFFIXES if suffix in parts), None)
    if content is None:
        skipped.counts["a sample without a picture"] += 1
        return
    rgb = skipped.decode(content)
    if rgb is None:
        return
    person = _label(name, parts)
    if not person:
        skipped.counts["kept without a person"] += 1
    yield Picture(name, person, source, rgb)


def _label(name: str, parts: dict[str, bytes]) -> str:
    try:
        if ".cls" in parts:
            return str(int(parts[".cls"].decode("ascii")))
        if ".json" in parts:
            found: Any = json.loads(parts[".json"])
            return next((str(found[key]) for key in LABEL_KEYS if key in found), "")
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{name}: its label cannot be read ({error}): .cls is a number, .json an object") from error
    return ""
