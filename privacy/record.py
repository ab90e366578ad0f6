"""Results as JSON files: what was attacked, by whom, with what budget, on which machine, and how it went."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duetface.errors import ConfigError
from duetface.spec import SplitSpec
from privacy.judges import Interval, bootstrap, psnr, rounded, ssim

SCHEMA = 1


@dataclass(frozen=True)
class Result:
    """One attack on one split.

    attack: its name and variant.  threat: name in threat_models.  n: sample sizes by name.
    metrics: by name, each an interval over people or one number.  settings: the attacker's budget.
    """

    attack: str
    threat: str
    split: str
    split_digest: str
    seed: int
    n: Mapping[str, int]
    metrics: Mapping[str, Interval | float]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values with date, machine and commit."""
        metrics = {
            name: value.to_dict() if isinstance(value, Interval) else rounded(float(value))
            for name, value in self.metrics.items()
        }
        named = {known.name: getattr(self, known.name) for known in fields(self)}
        return {"schema": SCHEMA, **named, "metrics": metrics, **where_and_when()}


def picture_metrics(
    made: NDArray[np.generic], real: NDArray[np.uint8], people: Sequence[str], seed: int
) -> dict[str, Interval]:
    """SSIM and PSNR of reconstructions (N, 112, 112, 3) with intervals over people."""
    return {
        "ssim": bootstrap(ssim(made, real), people, seed),
        "psnr_db": bootstrap(np.minimum(psnr(made, real), 100.0), people, seed),  # equal pictures are infinite
    }


def sizes(victims: int, people: int, attacker_faces: int) -> dict[str, int]:
    """The sample sizes that every result states."""
    return {"victim_pictures": victims, "victims": people, "attacker_faces": attacker_faces}


def names_of(spec: SplitSpec) -> dict[str, Any]:
    """The fields that name a split in a result."""
    return {"split": spec.name, "split_digest": spec.digest.hex()}


def write(result: Mapping[str, Any], path: Path) -> None:
    """One JSON file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    partial.rename(path)


def read_all(folder: Path) -> list[dict[str, Any]]:
    """Every result `privacy-*.json` of a folder.  Raises ConfigError naming a file of another schema."""
    results = []
    for path in sorted(folder.glob("privacy-*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.get("schema") != SCHEMA:
            raise ConfigError(f"{path}: schema {found.get('schema')}, expected {SCHEMA}: measure again")
        results.append(found)
    return results


def where_and_when() -> dict[str, Any]:
    """Date, machine size, versions and commit; no host name, no path."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cores": os.cpu_count(), "architecture": platform.machine(), "python": platform.python_version()},
        "numpy": np.__version__,
        "commit": _commit(),
    }


def _commit() -> str:
    root = Path(__file__).resolve().parent.parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()
