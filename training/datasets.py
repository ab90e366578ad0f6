"""Crops, labels and the cache of what never changes between runs: pixels, teacher embeddings, face regions.

A data folder holds `faces.csv` and zip shards of 112 x 112 crops, or tar shards, or one folder a person
(docs/training.md).
Decoding WebP, embedding with the teacher and running the face mesh cost minutes, so they are done once
and kept under a cache folder that git ignores.
"""

from __future__ import annotations

import csv
import hashlib
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from duetface.errors import ConfigError
from training.ingest import ingest
from training.track import track

CROP = 112
COVERED = 0.9  # below this share of source picture, a crop carries black borders: treated as occluded
EMBEDDED_TOGETHER = 64
HELD_OUT_PERSONS = 600  # identities kept from training, for calibration
HOLD_OUT_SALT = "duetface calibration 1"  # changing it changes who is held out: then retrain everything


@dataclass(frozen=True)
class Faces:
    """One training set, row i of each array being one crop.

    crops: (N, 112, 112, 3) uint8 RGB, memory-mapped.  teacher: (N, 512) float32, unit length.
    regions: (N, 1568) uint8, the 112 x 112 face region as packed bits, row-major.
    identity: (N,) int64, -1 where unknown.  cover: (N,) float32 in [0, 1].  source: (N,) names of sets.
    """

    crops: NDArray[np.uint8]
    teacher: NDArray[np.float32]
    regions: NDArray[np.uint8]
    identity: NDArray[np.int64]
    cover: NDArray[np.float32]
    source: NDArray[np.str_]
    digest: str

    def training_rows(self) -> NDArray[np.int64]:
        """Rows that may be trained on: all but the held-out people's."""
        held_out = held_out_identities(self.identity)
        return np.flatnonzero(~np.isin(self.identity, held_out))

    def held_out_rows(self) -> NDArray[np.int64]:
        """Rows of the people kept for calibration."""
        return np.flatnonzero(np.isin(self.identity, held_out_identities(self.identity)))


def held_out_identities(identity: NDArray[np.int64], count: int = HELD_OUT_PERSONS) -> NDArray[np.int64]:
    """The identities that no run may train on: those whose salted hash is smallest.

    People with two or more pictures come first: only they give genuine comparisons.
    Half of the places go to them, the other half to people with one picture.
    """
    known, pictures = np.unique(identity[identity >= 0], return_counts=True)
    order = np.array([hashlib.sha256(f"{HOLD_OUT_SALT} {person}".encode()).hexdigest() for person in known])
    several = known[pictures > 1][np.argsort(order[pictures > 1])]
    single = known[pictures == 1][np.argsort(order[pictures == 1])]
    half = min(count // 2, len(several))
    return np.sort(np.concatenate([several[:half], single[: count - half]]))


def load(folder: Path, cache: Path, teacher: str = "teacher.npy") -> Faces:
    """The cached training set; FileNotFoundError says which command makes the cache.

    teacher: file of the cache with the teacher's embeddings; see embeddings_of for others than the default's.
    """
    for name in ("crops.npy", teacher, "regions.npy"):
        if not (cache / name).exists():
            raise FileNotFoundError(f"{cache / name} is missing: run `python -m training prepare --data {folder}`")
    rows = _read_table(folder, cache)
    return Faces(
        crops=np.load(cache / "crops.npy", mmap_mode="r"),
        teacher=np.load(cache / teacher),
        regions=np.load(cache / "regions.npy"),
        identity=np.array([int(row["identity"] or -1) for row in rows], np.int64),
        cover=np.array([float(row["cover"]) for row in rows], np.float32),
        source=np.array([row["set"] for row in rows]),
        digest=data_digest(folder, cache),
    )


def prepare(
    folder: Path,
    cache: Path,
    embed: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None,
    region: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
) -> None:
    """Fill the cache, skipping what is there.

    embed: (B, 112, 112, 3) uint8 -> (B, 512) float32 unit; None leaves that to embeddings_of.
    region: (112, 112, 3) uint8 -> (112, 112) 0 or 1.
    """
    cache.mkdir(parents=True, exist_ok=True)
    if (folder / "faces.csv").exists():
        if not (cache / "crops.npy").exists():
            _decode_all(folder, cache)
    elif not (cache / "table.csv").exists():
        for reason, count in ingest(folder, cache).items():
            print(f"{count} pictures: {reason}")
    crops = np.load(cache / "crops.npy", mmap_mode="r")
    if embed is not None and not (cache / "teacher.npy").exists():
        _save_whole(cache / "teacher.npy", _embedded(crops, embed))
    if not (cache / "regions.npy").exists():
        packed = [np.packbits(region(np.asarray(crop))) for crop in track(crops, "finding the faces")]
        _save_whole(cache / "regions.npy", np.stack(packed))


def embeddings_of(teacher: Path, cache: Path, embed: Callable[[NDArray[np.uint8]], NDArray[np.float32]]) -> str:
    """Embed the cached crops with another teacher, once; returns the name of the file in the cache."""
    name = f"teacher-{hashlib.sha256(teacher.read_bytes()).hexdigest()[:8]}.npy"
    if not (cache / name).exists():
        _save_whole(cache / name, _embedded(np.load(cache / "crops.npy", mmap_mode="r"), embed))
    return name


def _embedded(
    crops: NDArray[np.uint8], embed: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    starts = track(range(0, len(crops), EMBEDDED_TOGETHER), "asking the teacher")
    return np.concatenate([embed(np.array(crops[i : i + EMBEDDED_TOGETHER])) for i in starts])


def data_digest(folder: Path, cache: Path) -> str:
    """SHA-256 over the table and names and sizes of the shards: tells which data a run saw."""
    digest = hashlib.sha256(_table(folder, cache).read_bytes())
    for shard in sorted(folder.glob("faces-*.zip")):
        digest.update(f"{shard.name} {shard.stat().st_size}".encode())
    return digest.hexdigest()


def read_pairs(folder: Path) -> tuple[dict[str, NDArray[np.uint8]], list[list[tuple[str, str, bool]]]]:
    """An LFW-style benchmark folder: crops by name and folds of (name, name, same person).

    The folder holds pairs.txt (LFW View 2 form, tab separated) and aligned_112.zip.
    """
    crops = dict(read_zip(folder / "aligned_112.zip"))
    lines = (folder / "pairs.txt").read_text(encoding="utf-8").splitlines()
    folds, per_kind = (int(field) for field in lines[0].split("\t"))
    pairs = [_parse_pair(line) for line in lines[1:] if line]
    size = 2 * per_kind
    return crops, [pairs[i * size : (i + 1) * size] for i in range(folds)]


def read_zip(path: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield (stem, (H, W, 3) uint8 RGB) for each picture of a zip; a broken one raises ValueError."""
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith("/"):
                continue
            bgr = cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), cv2.IMREAD_COLOR)
            if bgr is None:
                raise ValueError(f"{path}: {name} is not a picture")
            yield Path(name).stem, np.ascontiguousarray(bgr[..., ::-1])


def _parse_pair(line: str) -> tuple[str, str, bool]:
    fields = line.split("\t")
    if len(fields) == 3:
        person, first, second = fields
        return f"{person}_{int(first):04d}", f"{person}_{int(second):04d}", True
    person, first, other, second = fields
    return f"{person}_{int(first):04d}", f"{other}_{int(second):04d}", False


def _decode_all(folder: Path, cache: Path) -> None:
    names = [row["name"] for row in _read_table(folder, cache)]
    by_name = dict(pair for shard in folder.glob("faces-*.zip") for pair in read_zip(shard))
    missing = [name for name in names if name not in by_name]
    if missing:
        raise ConfigError(f"{folder}: {len(missing)} pictures of faces.csv are in no shard, the first {missing[0]}")
    _save_whole(cache / "crops.npy", np.stack([by_name[name] for name in names]))  # names run over all shards


def _save_whole(path: Path, array: NDArray[np.generic]) -> None:
    partial = path.with_suffix(".partial")
    with partial.open("wb") as stream:
        np.save(stream, array)
    partial.rename(path)  # an interrupted run leaves no half file under the real name


def _table(folder: Path, cache: Path) -> Path:
    """The data's own table, or the one that ingest made of folders or tar shards; FileNotFoundError without either."""
    for table in (folder / "faces.csv", cache / "table.csv"):
        if table.exists():
            return table
    raise FileNotFoundError(f"{folder} has no faces.csv and {cache} no table.csv: run `python -m training prepare`")


def _read_table(folder: Path, cache: Path) -> list[dict[str, str]]:
    path = _table(folder, cache)
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    lacking = {"name", "set", "identity", "cover"} - set(rows[0] if rows else ())
    if lacking:
        raise ConfigError(f"{path} lacks the columns {sorted(lacking)}, or has no rows")
    # The zip shards' table may come in any order; ingest wrote its own in the order of the crops.
    return sorted(rows, key=lambda row: row["name"]) if path.parent == folder else rows
