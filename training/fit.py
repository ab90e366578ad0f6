"""The training loop: distil the teacher into client and server network of one split.

One loop, resumable, on CPU (bf16, channels last) or CUDA. Read it from fit() down.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from networks.client import ClientNetwork
from networks.registry import Form
from training.batches import Batch, Samples, batches
from training.compiled import compiled
from training.config import FitConfig
from training.curves import plot_curves
from training.datasets import Faces
from training.distributed import Workers, agreed, average_gradients, start_alike, summed, workers
from training.objective import Objective
from training.progress import Progress
from training.published import Start
from training.record import append_curve, write_record
from training.schedule import rate_factor
from training.student import Student
from training.teacher import TorchTeacher

REPORT_STEPS = 20
BAR = 20  # characters
CLIP_NORM = 5.0  # a bad batch (a black crop) must not throw the warm start away


def fit(config: FitConfig, faces: Faces, teacher: Path, run: Path, start: Start | None = None) -> None:
    """Train until the budget of minutes or faces is spent; continue if the run folder has a checkpoint.

    run: receives checkpoint.pt, curves.csv, curves.png, final.pt and record.json.
    start: weights to begin with instead of the teacher's.
    Started by torchrun, each process sees its part of the faces and the first one writes.
    Raises FloatingPointError on a loss that is not finite: the checkpoint before it is kept.
    """
    with workers() as here:
        run.mkdir(parents=True, exist_ok=True)
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        rows = faces.training_rows()
        student = Student(config.split, teacher, Form(interaction=config.interaction), config.masks)
        student.to(here.device, memory_format=torch.channels_last)
        calibrate_inputs(student, faces, rows)
        if start is not None:
            student.load_state_dict(start.weights)
        objective = Objective(config, faces, rows, teacher).to(here.device)
        progress = Progress.of(config, student, objective, run)
        start_alike([student, objective], here)
        samples = Samples(
            faces, rows, config.seed, config.augment, config.occluded_weight, config.blend_share,
            asked_about_blends(config, teacher, here.device) if config.blend_share else None,
        )  # fmt: skip
        state = _train(progress, samples, run, here)
        if here.first:
            progress.save(run / "final.pt")
            seen = {"training_faces": len(rows), "processes": here.world, "device": here.device.type}
            began = {"start": start.named if start is not None else ""}
            write_record(run, config, faces.digest, {**state, **seen, **began})
            plot_curves(run)


def _train(run_state: Progress, samples: Samples, run: Path, here: Workers) -> dict[str, float]:
    """The loop."""
    config, student = run_state.config, run_state.student
    forward = compiled(student, here.device) if config.compile else student
    clock, saved, faces_a_step = Clock(run_state.seconds), time.monotonic(), config.batch * here.world
    loader = batches(samples, config.batch, run_state.faces, config.faces, here.rank, here.world)
    for step, batch in enumerate(loader, start=run_state.faces // faces_a_step):
        progress = agreed(max(step * faces_a_step / config.faces, clock.seconds() / (60 * config.minutes)), here)
        if progress >= 1:
            break
        rate = config.learning_rate * rate_factor(progress, config.warm_up)
        loss, cosine = training_step(run_state, forward, batch.to(here.device), rate, progress, here)
        update_average(run_state.average, student, min(config.average_decay, (step + 1) / (step + 10)))
        run_state.faces, run_state.seconds = (step + 1) * faces_a_step, clock.seconds()
        if not here.first:
            continue
        if step % REPORT_STEPS == 0:
            row = {**run_state.spent, "progress": progress, "rate": rate, "loss": loss, "cosine": cosine}
            _report(run, row, sys.stdout.isatty())
        if time.monotonic() - saved > 60 * config.checkpoint_minutes:
            run_state.save(run / "checkpoint.pt")
            saved = time.monotonic()
    return run_state.spent


def training_step(
    run_state: Progress, forward: nn.Module, batch: Batch, rate: float, progress: float, here: Workers
) -> tuple[float, float]:
    """One update. Returns the loss and the mean cosine to the teacher, of this process's faces.

    forward: the student, perhaps compiled.
    """
    optimiser, parameters = run_state.optimiser, run_state.parameters
    for group in optimiser.param_groups:
        group["lr"] = rate
    region = batch.region if run_state.config.region else torch.ones_like(batch.region)
    with torch.autocast(batch.rgb.device.type, torch.bfloat16):
        embedding, maps = forward(batch.rgb, region)
    loss, cosine = run_state.objective(embedding, maps, batch, progress)
    # One process's NaN must stop all of them: a sum over processes of what is not finite is not finite.
    if not math.isfinite(summed(loss.item(), here)):
        raise FloatingPointError(f"loss is {loss.item()}: lower learning_rate, then continue from the checkpoint")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    average_gradients(parameters, here)
    nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
    optimiser.step()
    return loss.item(), cosine.item()


@torch.no_grad()
def update_average(average: Mapping[str, Tensor], student: Student, decay: float) -> None:
    """Running mean of the weights (Polyak): what is exported. decay grows from 0.1 in the first steps."""
    for name, value in student.state_dict().items():
        average[name].lerp_(value, 1 - decay)


def asked_about_blends(config: FitConfig, path: Path, device: torch.device) -> TorchTeacher:
    """The teacher as it is quick: its answers need no more precision than the student's."""
    teacher = TorchTeacher(path, device, torch.bfloat16)
    if config.compile:
        teacher.network = compiled(teacher.network, device)
    return teacher


@torch.no_grad()
def calibrate_inputs(student: Student, faces: Faces, rows: np.ndarray, count: int = 512) -> None:
    """Scale each client channel to unit RMS over some training crops: DC spans +- 1024, the rest far less."""
    client = student.client
    if not isinstance(client, ClientNetwork):
        return
    assert student.device_half.transform is not None
    power = torch.zeros_like(client.input_scale).flatten()
    spread = rows[:: max(1, len(rows) // count)]
    for some in np.array_split(spread, max(1, len(spread) // 16)):  # at upsampling 8 a picture becomes 10 MB
        rgb = torch.from_numpy(np.stack([faces.crops[row] for row in some])).permute(0, 3, 1, 2).float()
        stays, _ = student.device_half.transform(rgb.to(power.device))
        power += stays.square().mean(dim=(2, 3)).sum(dim=0) / len(spread)
    client.input_scale.copy_(1 / power.sqrt()[:, None, None])


class Clock:
    """Seconds of training over all the sittings of a run."""

    def __init__(self, before: float) -> None:
        """before: seconds of earlier sittings."""
        self._start = time.monotonic() - before

    def seconds(self) -> float:
        """Total so far."""
        return time.monotonic() - self._start


def _report(run: Path, row: dict[str, float], terminal: bool) -> None:
    """One line of curves.csv and one to read: a bar that stays in its place on a terminal, else line after line."""
    append_curve(run, row)
    filled, seconds = round(BAR * row["progress"]), max(row["seconds"], 1e-9)
    left = seconds * (1 - row["progress"]) / row["progress"] if row["progress"] else math.nan
    print(
        f"{'#' * filled}{'.' * (BAR - filled)} {row['progress']:6.1%}  {int(row['faces']):8d} faces  "
        f"{row['faces'] / seconds:5.1f}/s  loss {row['loss']:.4f}  cosine {row['cosine']:.4f}  "
        f"{left / 60:5.0f} min left",
        end="\r" if terminal else "\n",
        flush=True,
    )
