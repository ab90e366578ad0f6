"""One file with everything that attacks on one split may use, read from messages through privacy.observation.

It lets a long attack run where neither the service nor protobuf is installed (a lent GPU): NumPy reads it.
The attacker's own crops are not in it; they come by name from the shards of the training data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duetface.errors import ConfigError

VIEWS = ("message", "codes", "masks", "template", "teacher", "both")
VECTORS = ("quality", "template", "teacher")


@dataclass(frozen=True)
class Group:
    """What was observed of one group of people, row i being one picture.

    planes: plane name -> (N, C, H, W) codes.  quality: (N, 5).  template: (N, D), the stored embedding of the very
    message, (N, 0) if the split has no template space.  teacher: (N, D), the unprotected teacher's.
    wire_bytes: (N,).
    """

    names: tuple[str, ...]
    planes: Mapping[str, NDArray[np.generic]]
    quality: NDArray[np.float32]
    template: NDArray[np.float32]
    teacher: NDArray[np.float32]
    wire_bytes: NDArray[np.int64]

    def view(self, name: str) -> dict[str, NDArray[np.generic]]:
        """An attacker's inputs by name, each (N, C, H, W); vectors become (N, D, 1, 1).

        message: every plane and the quality.  codes: without the masks.  masks: nothing else.  both: message and
        template, which whoever holds the message and the public model can compute.
        Raises ConfigError if the view has nothing to look at in this split.
        """
        masks = {plane: codes for plane, codes in self.planes.items() if plane.startswith("mask_")}
        codes = {plane: array for plane, array in self.planes.items() if plane not in masks}
        quality = {"quality": self._vector("quality")}
        views: dict[str, dict[str, NDArray[np.generic]]] = {
            "message": {**self.planes, **quality},
            "codes": codes,
            "masks": masks,
            "template": {"template": self._vector("template")},
            "teacher": {"teacher": self._vector("teacher")},
            "both": {**self.planes, **quality, "template": self._vector("template")},
        }
        if name not in views:
            raise ConfigError(f"unknown view {name!r}: expected one of {VIEWS}")
        empty = not views[name] or any(array.shape[1] == 0 for array in views[name].values())
        if empty:
            raise ConfigError(f"view {name!r} is empty: the split has no masks, or no template space in models/")
        return views[name]

    def rows(self, chosen: NDArray[np.int64]) -> Group:
        """A subset, in the given order."""
        planes = {name: array[chosen] for name, array in self.planes.items()}
        vectors = {name: getattr(self, name)[chosen] for name in VECTORS}
        return Group(tuple(self.names[i] for i in chosen), planes, wire_bytes=self.wire_bytes[chosen], **vectors)

    def _vector(self, name: str) -> NDArray[np.float32]:
        vector: NDArray[np.float32] = getattr(self, name)
        return vector[:, :, None, None]


@dataclass(frozen=True)
class Pack:
    """attacker: the attacker's own people.  victim: the others, their crops (N, 112, 112, 3) and pairs beside them.

    meta: split name and digest, space, seed, how alike the two groups are at most.
    """

    attacker: Group
    victim: Group
    victim_rgb: NDArray[np.uint8]
    pairs: tuple[tuple[str, str, bool], ...]
    meta: Mapping[str, Any]

    @property
    def victim_people(self) -> tuple[str, ...]:
        """Who is on each picture of a victim."""
        return tuple(name.rsplit("_", 1)[0] for name in self.victim.names)


def write_pack(pack: Pack, path: Path) -> None:
    """One compressed file, whole or not at all."""
    arrays: dict[str, NDArray[np.generic]] = {"victim_rgb": pack.victim_rgb}
    for side, group in (("attacker", pack.attacker), ("victim", pack.victim)):
        arrays |= {f"{side}/plane/{name}": codes for name, codes in group.planes.items()}
        arrays |= {f"{side}/{name}": getattr(group, name) for name in (*VECTORS, "wire_bytes")}
        arrays[f"{side}/names"] = np.array(group.names)
    meta = json.dumps({**pack.meta, "pairs": pack.pairs})
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as stream:
        np.savez_compressed(stream, meta=np.array(meta), **arrays)  # type: ignore[arg-type]  # stubs miss **arrays
    partial.rename(path)


def read_pack(path: Path) -> Pack:
    """Raises ConfigError with the command that makes the file."""
    if not path.exists():
        raise ConfigError(f"{path} is missing: run `python -m privacy observe` first")
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    meta = json.loads(str(arrays.pop("meta")))
    pairs = tuple((first, second, bool(same)) for first, second, same in meta.pop("pairs"))
    return Pack(_group(arrays, "attacker"), _group(arrays, "victim"), arrays["victim_rgb"], pairs, meta)


def aligned_rows(names: Sequence[str], wanted: Sequence[str]) -> NDArray[np.int64]:
    """Row of each wanted name; ConfigError for one that is not there."""
    row = {name: i for i, name in enumerate(names)}
    missing = [name for name in wanted if name not in row]
    if missing:
        raise ConfigError(f"{len(missing)} pictures are missing, the first {missing[0]}: bring all shards along")
    return np.array([row[name] for name in wanted], np.int64)


def _group(arrays: Mapping[str, NDArray[np.generic]], side: str) -> Group:
    prefix = f"{side}/plane/"
    planes = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    rest: dict[str, Any] = {name: arrays[f"{side}/{name}"] for name in (*VECTORS, "wire_bytes")}
    return Group(tuple(str(name) for name in arrays[f"{side}/names"]), planes, **rest)
