"""The quick form: does the default split leak more than what was recorded when it was chosen?

A few seconds of linear algebra and a small decoder of fixed budget, on messages made on the spot. It guards against
a change that opens the split by mistake; it is no verdict on privacy, which takes the long attacks.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duetface.errors import ConfigError
from duetface.manifest import ModelCatalogue
from privacy.decoder import reconstruct
from privacy.fit import Budget, Machine
from privacy.judges import psnr, ssim
from privacy.linear import is_linear
from privacy.messages import Device, device_for, message_of
from privacy.observation import Observed, observe
from privacy.painter import train_decoder
from privacy.people import Capture, attackers, capture_crop, portrait_captures, victims
from privacy.record import where_and_when
from privacy.unlinkability import linkage, two_realms
from privacy.untrained import best_linear

Say = Callable[[str], None]
BOUNDS = Path(__file__).with_name("bounds.json")
PORTRAITS = ("biden.jpg", "obama.jpg", "astronaut.png")
SMALL = Budget(passes=4, batch=16, width=4, blocks=1, ssim_weight=0.0)
SMALL_FACES, SMALL_PAIRS = 192, 16
MATED_COSINE = 0.6  # the teacher's mean for one person (data/README.md); what the rotation has to hide
MATES = 1500

# How much worse than recorded is still the same: floats differ between machines, and a small decoder's luck too.
MARGIN = {"linear_ssim": 0.01, "linear_psnr_db": 0.2, "decoder_ssim": 0.03, "decoder_psnr_db": 0.5, "d_sys": 0.02}

# For a default that is not linear: what a fixed split put in its place by mistake must stay under.
NOT_LINEAR = {"linear_ssim": 0.55, "linear_psnr_db": 14.5}


@dataclass(frozen=True)
class Gate:
    """figures: measured now.  bounds: recorded, the margin included; a figure without a bound is not judged."""

    figures: Mapping[str, float]
    bounds: Mapping[str, float]

    @property
    def failures(self) -> list[str]:
        """One line for each figure above its bound."""
        return [
            f"{name} is {self.figures[name]:.3f}, expected at most {bound:.3f}"
            for name, bound in sorted(self.bounds.items())
            if name in self.figures and self.figures[name] > bound
        ]


def run(arguments: argparse.Namespace, say: Say) -> int:
    """Measure, compare, tell; 1 if the split leaks more than its bound."""
    split = arguments.split or ModelCatalogue(arguments.models).default_split().name
    device = device_for(split, arguments.models)
    pictures = [arguments.portraits / name for name in PORTRAITS]
    say(f"linear attack and linkage across realms on {len(pictures)} portraits")
    figures = on_portraits(device, portrait_captures(pictures, arguments.models))
    if (arguments.data / "lfw_dev").is_dir() and (arguments.crops / "crops.npy").exists():
        say(f"small decoder on {SMALL_FACES} faces")
        figures |= on_faces(device, arguments.data, arguments.crops, arguments.models)
    if arguments.record:
        record_bounds(split, device, figures)
    gate = Gate(figures, bounds_of(split, BOUNDS))
    print(json.dumps({"split": split, "figures": dict(gate.figures), "bounds": dict(gate.bounds)}, indent=1))
    for failure in gate.failures:
        say(f"FAILED: {failure}")
    return 1 if gate.failures else 0


def on_portraits(device: Device, captures: list[Capture]) -> dict[str, float]:
    """The figures that need no research faces."""
    figures = {"d_sys": realm_linkage()}
    if is_linear(device.spec):
        observed = observe([message_of(capture, device) for capture in captures], device.spec)
        figures |= linear_figures(observed, np.stack([capture.aligned.rgb_u8_hwc for capture in captures]))
    return figures


def linear_figures(observed: Observed, real: NDArray[np.uint8]) -> dict[str, float]:
    """Mean colour known, best smoothness."""
    made, _ = best_linear(observed, real, real.reshape(len(real), -1, 3).mean(axis=1))
    return {"linear_ssim": float(ssim(made, real).mean()), "linear_psnr_db": float(psnr(made, real).mean())}


def realm_linkage(seed: int = 1) -> float:
    """D_sys across two realms' keys, above the estimator's bias, of made-up mates as alike as one person's pictures."""
    random = np.random.default_rng(seed)
    first = _unit(random.normal(size=(MATES, 512)))
    drawn = random.normal(size=(MATES, 512))
    noise = _unit(drawn - (drawn * first).sum(axis=1, keepdims=True) * first)
    second = MATED_COSINE * first + np.sqrt(1 - MATED_COSINE**2) * noise
    stored = two_realms(first, second.astype(np.float32), same_key=False, seeds=(random.bytes(32), random.bytes(32)))
    return linkage(*stored, seed=seed).above_chance


def on_faces(device: Device, data: Path, crops: Path, models: Path) -> dict[str, float]:
    """A decoder of small, fixed budget on messages of research faces, made here and kept nowhere."""
    from edge_agent.landmarks import FaceMesh

    mesh = FaceMesh.load(models)
    own = attackers(data, crops, SMALL_FACES, seed=1).rgb
    real = victims(data, SMALL_PAIRS)[0].rgb

    def view(rgb: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
        messages = [message_of(capture_crop(np.asarray(crop), mesh), device) for crop in rgb]
        return dict(observe(messages, device.spec).codes)

    with tempfile.TemporaryDirectory() as folder:
        decoder = train_decoder(view(own), own, SMALL, Path(folder), lambda _line: None, Machine())
    made = reconstruct(decoder, view(real))
    return {"decoder_ssim": float(ssim(made, real).mean()), "decoder_psnr_db": float(psnr(made, real).mean())}


def bounds_of(split: str, path: Path) -> dict[str, float]:
    """The recorded bounds of a split.  Raises ConfigError if none were recorded: nothing would be guarded."""
    recorded = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if split not in recorded:
        raise ConfigError(f"{path.name} has no bounds for split {split!r}: measure it, then run gate --record")
    return {name: float(bound) for name, bound in recorded[split]["bounds"].items()}


def record_bounds(split: str, device: Device, figures: Mapping[str, float]) -> None:
    """Today's figures with their margin become the bounds of this split."""
    recorded = json.loads(BOUNDS.read_text(encoding="utf-8")) if BOUNDS.exists() else {}
    bounds = NOT_LINEAR | {name: round(value + MARGIN[name], 3) for name, value in figures.items()}
    recorded[split] = {
        "split_digest": device.spec.digest.hex(),
        "bounds": bounds,
        "date": where_and_when()["date"],
    }
    BOUNDS.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
