"""The training loop of every learned attacker: readable, repeatable, and resumed where it was interrupted.

Every verdict trains its own attacker: weights are never carried from one split, or one set of weights of a split,
to another. Needs torch and NumPy only.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from duetface.errors import ConfigError

Progress = Callable[[str], None]
CHECKPOINT = "checkpoint.pt"
REPORT_STEPS = 50


@dataclass(frozen=True)
class Budget:
    """What an attacker may spend. Two attackers are comparable only if all of this is equal."""

    passes: float = 3.0  # over the attacker's faces
    batch: int = 64
    width: int = 32
    blocks: int = 2
    start: str = "mean-face"  # or "ridge", see privacy.start
    learning_rate: float = 2e-3  # AdamW, peak of a one-cycle schedule
    weight_decay: float = 0.01
    warm_up: float = 0.05
    ssim_weight: float = 0.5
    perceptual_weight: float = 0.0
    adversarial_weight: float = 0.0
    seed: int = 1
    checkpoint_s: float = 120.0


@dataclass(frozen=True)
class Machine:
    """Where it runs; changes nothing of the result but rounding."""

    device: str = "cpu"
    threads: int = 1


SHORT = {  # the settings that a person may choose, in names of runs and files
    "width": "w",
    "blocks": "b",
    "passes": "x",
    "batch": "n",
    "learning_rate": "r",
    "start": "",
    "ssim_weight": "s",
    "perceptual_weight": "p",
    "adversarial_weight": "a",
}


def variant(settings: Mapping[str, Any]) -> str:
    """How a trained attack differs from one of the plain budget, short: "w48", "ridge-p0.5"; "" if it does not."""
    plain = asdict(Budget())
    changed = [
        (short, settings[name]) for name, short in SHORT.items() if settings.get(name, plain[name]) != plain[name]
    ]
    return "-".join(f"{short}{value:g}" if short else str(value) for short, value in changed)


class Learner(Protocol):
    """What the loop drives: networks with their optimisers on some faces."""

    def step(self, rows: NDArray[np.int64]) -> float:
        """One step on these faces; returns the loss."""
        ...

    def set_rate(self, rate: float) -> None:
        """Learning rate of the next step."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything that training changes."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of state."""
        ...


def fit(
    learner: Learner, faces: int, inputs: Mapping[str, Sequence[int]], budget: Budget, folder: Path, progress: Progress
) -> None:
    """Train; continues if the folder has a checkpoint of this very budget.

    faces: the attacker's.  inputs: names and shapes, which a checkpoint must share.
    Raises ConfigError if the checkpoint is of another budget or other inputs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    identity = _identity(faces, inputs, budget)
    steps = max(1, math.ceil(budget.passes * faces / budget.batch))
    first = _resume(folder, learner, identity)
    clock = saved = time.monotonic()
    for step in range(first, steps):
        learner.set_rate(budget.learning_rate * rate_factor(step / steps, budget.warm_up))
        loss = learner.step(batch_rows(step, faces, budget))
        last = step == steps - 1
        if step % REPORT_STEPS == 0 or last:
            pace_s = (time.monotonic() - clock) / (step - first + 1)
            left = pace_s * (steps - step - 1) / 60
            progress(f"step {step + 1} of {steps}: loss {loss:.4f}, {left:.1f} minutes left")
        if time.monotonic() - saved > budget.checkpoint_s or last:
            _save(folder, learner, identity, step + 1)
            saved = time.monotonic()


def batch_rows(step: int, count: int, budget: Budget) -> NDArray[np.int64]:
    """Which faces step number `step` sees: each pass a new permutation, the same in every run."""
    positions = np.arange(step * budget.batch, (step + 1) * budget.batch)
    rows = np.empty(budget.batch, np.int64)
    for turn in np.unique(positions // count):
        order = np.random.default_rng([budget.seed, int(turn)]).permutation(count)
        inside = positions // count == turn
        rows[inside] = order[positions[inside] % count]
    return rows


def rate_factor(progress: float, warm_up: float) -> float:
    """Share of the peak rate at a progress in [0, 1]: a linear rise, then half a cosine down to nothing."""
    if progress < warm_up:
        return max(progress / warm_up, 0.02)  # never quite zero: the first steps should move
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def parameters_of(network: nn.Module) -> int:
    """How many numbers were trained."""
    return sum(parameter.numel() for parameter in network.parameters())


def adam(network: nn.Module, budget: Budget) -> torch.optim.AdamW:
    """The optimiser of every learned attacker."""
    return torch.optim.AdamW(network.parameters(), budget.learning_rate, weight_decay=budget.weight_decay)


def _identity(faces: int, inputs: Mapping[str, Sequence[int]], budget: Budget) -> str:
    settings = {key: value for key, value in asdict(budget).items() if key != "checkpoint_s"}
    shapes = {name: list(shape) for name, shape in inputs.items()}
    return json.dumps({"budget": settings, "inputs": shapes, "faces": faces}, sort_keys=True)


def _resume(folder: Path, learner: Learner, identity: str) -> int:
    path = folder / CHECKPOINT
    if not path.exists():
        return 0
    stored = torch.load(path, map_location="cpu", weights_only=True)
    if stored["identity"] != identity:
        raise ConfigError(f"{path} is of another run ({stored['identity']}): choose another folder or delete it")
    learner.restore(stored["state"])
    return int(stored["step"])


def _save(folder: Path, learner: Learner, identity: str, step: int) -> None:
    partial = folder / "checkpoint.partial"
    torch.save({"identity": identity, "step": step, "state": learner.state()}, partial)
    partial.rename(folder / CHECKPOINT)  # an interrupted save leaves the last one whole
