"""The device's side: bytes of a face on the wire, milliseconds of each stage."""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import Timer, percentiles
from duetface.codec import by_digest, probe_to_bytes
from duetface.identity import ClientIdentity, sign_probe
from duetface.manifest import load_split, models_root
from duetface.types import Probe
from edge_agent.pipeline import Protector
from edge_agent.sources import read_picture

PAPER_BYTES = 8_128_512  # float32 server channels of one face at r = 8 (docs/method.md 1.9)


@dataclass(frozen=True)
class Measured:
    """Probes of the pictures that gave one, and what they cost."""

    probes: dict[str, Probe]
    report: dict[str, Any]


def measure_device(pictures: Sequence[Path], split: str, identity: ClientIdentity, repeats: int) -> Measured:
    """Protect every picture `repeats` times after a warm-up.  identity: signs, as on a stream."""
    protector = Protector.load(models_root(), (split,))
    splits = by_digest([load_split(models_root() / "splits" / split)])
    frames = {path.name: read_picture(path) for path in pictures}
    probes = _probes(protector, frames)
    stages: dict[str, list[float]] = defaultdict(list)
    signing = Timer()
    for _ in range(repeats):
        for name in probes:
            outcome = protector.protect(frames[name])
            for stage, milliseconds in outcome.timings_ms.items():
                stages[stage].append(milliseconds)
            stages["total"].append(sum(outcome.timings_ms.values()))
            with signing:
                sign_probe(identity, bytes(32), 0, probe_to_bytes(probes[name], splits, time.monotonic_ns()))
    stages["serialise_and_sign"] = signing.values_ms
    sizes = [len(probe_to_bytes(probe, splits, time.monotonic_ns())) for probe in probes.values()]
    signed = [sign_probe(identity, bytes(32), 0, bytes(size)).ByteSize() for size in sizes]
    return Measured(
        probes,
        {
            "pictures": len(pictures),
            "without_usable_face": len(pictures) - len(probes),
            "bytes_per_face": _sizes(signed),
            "bytes_of_the_paper": PAPER_BYTES,
            "client_ms": {stage: percentiles(values) for stage, values in stages.items()},
        },
    )


def _probes(protector: Protector, frames: dict[str, NDArray[np.uint8]]) -> dict[str, Probe]:
    """Also warms every network up."""
    outcomes = {name: protector.protect(frame) for name, frame in frames.items()}
    return {name: outcome.probe for name, outcome in outcomes.items() if outcome.probe is not None}


def _sizes(sizes: Sequence[int]) -> dict[str, float | int]:
    """Whole signed probes: planes, quality, nonce, sequence, signature."""
    return {
        "mean": round(float(np.mean(sizes)), 1),
        "p99": round(float(np.percentile(sizes, 99)), 1),
        "max": max(sizes),
        "n": len(sizes),
    }
