"""The training loop: distil the teacher into client and server network of one split.

One loop, resumable, on CPU (bf16, channels last) or CUDA. Read it from fit() down.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from networks import registry
from networks.client import ClientNetwork
from networks.device import DeviceHalf, Maps
from networks.teacher import load_teacher
from training.batches import Batch, Samples, batches
from training.config import FitConfig
from training.datasets import Faces
from training.hints import Hints
from training.losses import TeacherBank, distillation
from training.record import append_curve, write_record
from training.schedule import rate_factor

REPORT_STEPS = 20
CLIP_NORM = 5.0  # a bad batch (a black crop) must not throw the warm start away


def fit(config: FitConfig, faces: Faces, teacher: Path, run: Path, start_from: Path | None = None) -> None:
    """Train until the budget of minutes or faces is spent; continue if the run folder has a checkpoint.

    run: receives checkpoint.pt, curves.csv, final.pt and record.json.
    start_from: another run's weights to begin with.
    Raises FloatingPointError on a loss that is not finite: the checkpoint before it is kept.
    """
    run.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    student = Student(config.split, teacher).to(device, memory_format=torch.channels_last)
    rows = faces.training_rows()
    calibrate_inputs(student, faces, rows)
    if start_from is not None:
        student.load_state_dict(read_weights(start_from, config.split))
    average = {name: value.clone() for name, value in student.state_dict().items()}
    optimiser = torch.optim.AdamW(student.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    state = _resume(run, config, student, average, optimiser)

    bank = TeacherBank(faces.teacher[rows], faces.identity[rows], config.naming_temperature).to(device)
    hints = Hints(load_teacher(teacher)).to(device, memory_format=torch.channels_last) if config.hint_weight else None
    samples = Samples(faces, rows, config.seed, config.augment, config.occluded_weight)
    clock, saved = Clock(state["seconds"]), time.monotonic()
    loader = batches(samples, config.batch, state["faces"], config.faces)
    for step, batch in enumerate(loader, start=state["faces"] // config.batch):
        progress = max(step * config.batch / config.faces, clock.seconds() / (60 * config.minutes))
        if progress >= 1:
            break
        rate = config.learning_rate * rate_factor(progress, config.warm_up)
        listened = hints if progress < config.hint_until else None
        loss, cosine = training_step(student, bank, listened, optimiser, batch, rate, config)
        update_average(average, student, min(config.average_decay, (step + 1) / (step + 10)))
        state = {"faces": (step + 1) * config.batch, "seconds": clock.seconds()}
        if step % REPORT_STEPS == 0:
            _report(run, {**state, "progress": progress, "rate": rate, "loss": loss, "cosine": cosine})
        if time.monotonic() - saved > 60 * config.checkpoint_minutes:
            _save(run / "checkpoint.pt", config, student, average, state, optimiser)
            saved = time.monotonic()
    _save(run / "final.pt", config, student, average, state, optimiser)
    write_record(run, config, faces.digest, {**state, "training_faces": len(rows)})


class Student(nn.Module):
    """Both halves of a split: pictures and face regions in, embeddings out."""

    def __init__(self, split: str, teacher: Path | None) -> None:
        """split: a name of networks.registry.  teacher: file to warm-start the server network from."""
        super().__init__()
        spec = registry.split_named(split)
        self.client, self.server = registry.build(spec, teacher)
        self.device_half = DeviceHalf(spec, self.client)

    def forward(self, rgb: Tensor, region: Tensor) -> tuple[Tensor, Maps]:
        """(B, 3, 112, 112) in 0..255, (B, 1, 112, 112) -> (B, 512) of unit length, and a learned client's maps."""
        planes, maps = self.device_half.observed(rgb, region)
        return self.server(planes), maps


def training_step(
    student: Student,
    bank: TeacherBank,
    hints: Hints | None,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    rate: float,
    config: FitConfig,
) -> tuple[float, float]:
    """One update. Returns the loss and the mean cosine to the teacher."""
    device = bank.embeddings.device
    for group in optimiser.param_groups:
        group["lr"] = rate
    rgb, weight = batch.rgb.to(device), batch.weight.to(device)
    with torch.autocast(device.type, torch.bfloat16):
        embedding, maps = student(rgb, batch.region.to(device))
    loss, cosine = distillation(embedding, batch.teacher.to(device), weight, config.relational_weight)
    loss = loss + config.naming_weight * bank(embedding, batch.place.to(device), weight)
    if hints is not None:
        loss = loss + config.hint_weight * hints(rgb, maps)
    if not torch.isfinite(loss):
        raise FloatingPointError(f"loss is {loss.item()}: lower learning_rate, then continue from the checkpoint")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(student.parameters(), CLIP_NORM)
    optimiser.step()
    return loss.item(), cosine.item()


@torch.no_grad()
def update_average(average: Mapping[str, Tensor], student: Student, decay: float) -> None:
    """Running mean of the weights (Polyak): what is exported. decay grows from 0.1 in the first steps."""
    for name, value in student.state_dict().items():
        average[name].lerp_(value, 1 - decay)


@torch.no_grad()
def calibrate_inputs(student: Student, faces: Faces, rows: np.ndarray, count: int = 512) -> None:
    """Scale each client channel to unit RMS over some training crops: DC spans +- 1024, the rest far less."""
    client = student.client
    if not isinstance(client, ClientNetwork):
        return
    assert student.device_half.transform is not None
    crops = np.stack([faces.crops[row] for row in rows[:: max(1, len(rows) // count)]])
    rgb = torch.from_numpy(crops).permute(0, 3, 1, 2).float().to(client.input_scale.device)
    stays, _ = student.device_half.transform(rgb)
    client.input_scale.copy_(1 / stays.square().mean(dim=(0, 2, 3)).sqrt()[:, None, None])


def read_weights(path: Path, split: str) -> dict[str, Tensor]:
    """The averaged weights of a checkpoint. Raises ValueError if it belongs to another split."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    digest = registry.split_named(split).digest.hex()
    if checkpoint["split_digest"] != digest:
        raise ValueError(f"{path} was trained for another split than {split}: digest {checkpoint['split_digest']}")
    weights: dict[str, Tensor] = checkpoint["average"]
    return weights


class Clock:
    """Seconds of training over all the sittings of a run."""

    def __init__(self, before: float) -> None:
        """before: seconds of earlier sittings."""
        self._start = time.monotonic() - before

    def seconds(self) -> float:
        """Total so far."""
        return time.monotonic() - self._start


def _save(
    path: Path,
    config: FitConfig,
    student: Student,
    average: Mapping[str, Tensor],
    state: Mapping[str, float],
    optimiser: torch.optim.Optimizer,
) -> None:
    partial = path.with_suffix(".partial")
    torch.save(
        {
            "split_digest": registry.split_named(config.split).digest.hex(),
            "student": student.state_dict(),
            "average": dict(average),
            "optimiser": optimiser.state_dict(),
            "state": dict(state),
        },
        partial,
    )
    partial.rename(path)  # a crash while writing leaves the older checkpoint whole


def _resume(
    run: Path, config: FitConfig, student: Student, average: dict[str, Tensor], optimiser: torch.optim.Optimizer
) -> dict[str, Any]:
    path = run / "checkpoint.pt"
    if not path.exists():
        return {"faces": 0, "seconds": 0.0}
    read_weights(path, config.split)  # refuses another split's checkpoint
    checkpoint = torch.load(path, map_location=next(student.parameters()).device, weights_only=True)
    student.load_state_dict(checkpoint["student"])
    average.update(checkpoint["average"])
    optimiser.load_state_dict(checkpoint["optimiser"])
    state: dict[str, Any] = checkpoint["state"]
    return state


def _report(run: Path, row: dict[str, float]) -> None:
    append_curve(run, row)
    speed = row["faces"] / max(row["seconds"], 1e-9)
    print(
        f"{row['progress']:6.1%}  {int(row['faces']):8d} faces  {speed:5.1f}/s  "
        f"loss {row['loss']:.4f}  cosine {row['cosine']:.4f}",
        flush=True,
    )
