"""Where a run stands: networks, running mean, optimiser and what was spent; saved whole, resumed exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from duetface.errors import ModelError
from networks import registry
from training.config import FitConfig
from training.objective import Objective
from training.student import Student, form_to_plain, read_checkpoint


@dataclass
class Progress:
    """average: the running mean of the student's weights, which is what a run is for.  faces, seconds: so far."""

    config: FitConfig
    student: Student
    objective: Objective
    optimiser: torch.optim.Optimizer
    average: dict[str, Tensor]
    faces: int = 0
    seconds: float = 0.0
    parameters: list[nn.Parameter] = field(default_factory=list)

    @staticmethod
    def of(config: FitConfig, student: Student, objective: Objective, run: Path) -> Progress:
        """At the beginning, or where the run folder's checkpoint is. Raises ModelError for another run's."""
        parameters = [*student.parameters(), *(p for p in objective.parameters() if p.requires_grad)]
        progress = Progress(
            config,
            student,
            objective,
            torch.optim.AdamW(parameters, config.learning_rate, weight_decay=config.weight_decay),
            {name: value.clone() for name, value in student.state_dict().items()},
            parameters=parameters,
        )
        if (run / "checkpoint.pt").exists():
            progress._resume(run / "checkpoint.pt")
        return progress

    @property
    def spent(self) -> dict[str, float]:
        """For the curves and the record."""
        return {"faces": self.faces, "seconds": self.seconds}

    def save(self, path: Path) -> None:
        """Write a checkpoint whole or not at all."""
        partial = path.with_suffix(".partial")
        torch.save(
            {
                "split_digest": registry.split_named(self.config.split).digest.hex(),
                "form": form_to_plain(self.student),
                "student": self.student.state_dict(),
                "average": dict(self.average),
                "head": self.objective.head.state_dict() if self.objective.head is not None else {},
                "optimiser": self.optimiser.state_dict(),
                "state": self.spent,
            },
            partial,
        )
        partial.rename(path)  # a crash while writing leaves the older checkpoint whole

    def _resume(self, path: Path) -> None:
        checkpoint = read_checkpoint(path, self.config.split)
        try:
            self.student.load_state_dict(checkpoint["student"])
            if self.objective.head is not None:
                self.objective.head.load_state_dict(checkpoint.get("head", {}))
            self.optimiser.load_state_dict(checkpoint["optimiser"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise ModelError(
                f"{path} is of a run with other networks: choose another --run folder ({error})"
            ) from error
        device = next(self.student.parameters()).device
        self.average.update({name: value.to(device) for name, value in checkpoint["average"].items()})
        self.faces, self.seconds = int(checkpoint["state"]["faces"]), float(checkpoint["state"]["seconds"])
