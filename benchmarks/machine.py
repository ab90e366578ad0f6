"""Where a figure was measured, and how a list of them is summed up."""

import os
import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = ("grpcio", "numpy", "onnxruntime", "ai-edge-litert", "faiss-cpu", "SQLAlchemy", "opencv-python-headless")


def describe_machine() -> dict[str, Any]:
    """Processor, cores, load, versions and date: a figure without them is a rumour."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def percentiles(values: Sequence[float], digits: int = 2) -> dict[str, float | int]:
    """p50 and p99, never a mean alone, and how many values they rest on."""
    p50, p99 = np.percentile(np.asarray(values), [50, 99])
    return {"p50": round(float(p50), digits), "p99": round(float(p99), digits), "n": len(values)}


def tell(line: str) -> None:
    """How far it is, on standard error: over the line before where that is a terminal, else now and then."""
    global _told_s
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{line}")
    elif time.monotonic() - _told_s > _TELL_EVERY_S:
        _told_s = time.monotonic()
        sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


_TELL_EVERY_S = 5.0
_told_s = -_TELL_EVERY_S


class Timer:
    """Milliseconds of each use as a context manager, in `values_ms`."""

    def __init__(self) -> None:
        """Nothing measured yet."""
        self.values_ms: list[float] = []

    def __enter__(self) -> None:
        """Start."""
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.values_ms.append((time.perf_counter() - self._started) * 1000)
