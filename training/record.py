"""What a run leaves beside its weights: enough to say later what they are and to make them again."""

from __future__ import annotations

import csv
import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from training.config import FitConfig


def write_record(folder: Path, config: FitConfig, data_digest: str, outcome: Mapping[str, Any]) -> None:
    """record.json: commit, settings, data digest, machine, versions, and the run's outcome."""
    record = {
        "commit": _commit(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": asdict(config),
        "data_sha256": data_digest,
        "machine": {"cpu": platform.machine(), "system": platform.platform(), "torch": torch.__version__},
        **outcome,
    }
    write_json(folder / "record.json", record)


def write_json(path: Path, plain: Mapping[str, Any]) -> None:
    """Written whole or not at all, so that nobody ever reads half a manifest."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def append_curve(folder: Path, row: Mapping[str, float]) -> None:
    """One line of curves.csv; the first call writes the header."""
    path = folder / "curves.csv"
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(row))
        if fresh:
            writer.writeheader()
        writer.writerow({key: f"{value:.6g}" for key, value in row.items()})


def _commit() -> str:
    answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"
