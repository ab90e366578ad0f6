"""Linkage: a student distilled on messages recognises people across messages (FaceLinkGen, arXiv 2602.02914).

No message that allows recognition escapes this attack; the figure is reported so that nobody claims otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from privacy.decoder import Residual, Stem, make_stems, to_tensors
from privacy.fit import Budget, Machine, Progress, adam, fit
from privacy.judges import Floats, Interval, bootstrap
from privacy.ridge import Arrays
from training.losses import distillation

EMBEDDING = 512
RELATIONAL_WEIGHT = 4.0  # as the service's own networks are distilled (training.config)


class Student(nn.Module):
    """Observed planes -> (B, 512) embedding of unit length."""

    def __init__(self, stems: dict[str, Stem], width: int, blocks: int) -> None:
        """stems: with 4 * width channels."""
        super().__init__()
        channels = 4 * width
        self.stems = nn.ModuleDict(stems)
        self.body = nn.Sequential(
            *(Residual(channels) for _ in range(2 * blocks)),
            nn.BatchNorm2d(channels),
            nn.SiLU(),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),  # (B, 8 width, 7, 7)
            *(Residual(2 * channels) for _ in range(blocks)),
            nn.BatchNorm2d(2 * channels),
            nn.SiLU(),
            nn.Conv2d(2 * channels, 64, 1),
            nn.Flatten(),
            nn.Linear(64 * 49, EMBEDDING),
        )

    def forward(self, observed: dict[str, Tensor]) -> Tensor:
        """Plane name -> (B, C, H, W)."""
        x = torch.stack([stem(observed[name]) for name, stem in self.stems.items()]).sum(dim=0)
        return nn.functional.normalize(self.body(x), dim=1)


class Distiller:
    """A student and its optimiser on the attacker's own messages and a recogniser's embeddings of their crops."""

    def __init__(
        self, student: Student, observed: Arrays, aim: NDArray[np.float32], budget: Budget, device: str
    ) -> None:
        """aim: (N, 512) unit length."""
        self.student = student.to(device).train()
        self.optimiser = adam(student, budget)
        self._observed, self._aim, self._device = observed, aim, device

    def step(self, rows: NDArray[np.int64]) -> float:
        """One step; returns the loss."""
        aim = torch.from_numpy(self._aim[rows]).to(self._device)
        made = self.student(to_tensors(self._observed, rows, self._device))
        loss, _ = distillation(made, aim, torch.ones(len(rows), device=self._device), RELATIONAL_WEIGHT)
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimiser.step()
        return float(loss.detach())

    def set_rate(self, rate: float) -> None:
        """For the next step."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def state(self) -> dict[str, Any]:
        """Everything that training changes."""
        return {"student": self.student.state_dict(), "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of state."""
        self.student.load_state_dict(state["student"])
        self.optimiser.load_state_dict(state["optimiser"])


def train_student(
    observed: Arrays, aim: NDArray[np.float32], budget: Budget, folder: Path, progress: Progress, machine: Machine
) -> Student:
    """From scratch, or from the folder's checkpoint.  observed: name -> (N, C, H, W).  aim: (N, 512)."""
    torch.set_num_threads(machine.threads)
    student = Student(make_stems(observed, 4 * budget.width, budget.seed), budget.width, budget.blocks)
    shapes = {name: array.shape[1:] for name, array in observed.items()}
    fit(Distiller(student, observed, aim, budget, machine.device), len(aim), shapes, budget, folder, progress)
    return student


def embed(student: Student, observed: Arrays, device: str = "cpu", batch: int = 256) -> NDArray[np.float32]:
    """(N, 512) embeddings of messages."""
    student.eval()
    count = len(next(iter(observed.values())))
    with torch.inference_mode():
        parts = [student(to_tensors(observed, slice(i, i + batch), device)).cpu() for i in range(0, count, batch)]
    return np.asarray(torch.cat(parts).numpy())


def similarities(
    embeddings: NDArray[np.float32], names: Sequence[str], pairs: Sequence[tuple[str, str, bool]]
) -> tuple[Floats, NDArray[np.bool_], list[str]]:
    """(P,) cosine of each pair, whether it shows one person, and who is on the first picture."""
    row = {name: i for i, name in enumerate(names)}
    first = np.array([row[a] for a, _, _ in pairs])
    second = np.array([row[b] for _, b, _ in pairs])
    cosine = (embeddings[first].astype(np.float64) * embeddings[second]).sum(axis=1)
    return cosine, np.array([same for _, _, same in pairs]), [first.rsplit("_", 1)[0] for first, _, _ in pairs]


def accuracy(cosine: Floats, same: NDArray[np.bool_], people: Sequence[str], seed: int, folds: int = 10) -> Interval:
    """Verification accuracy, each fold's threshold from the others (as LFW View 2), pairs shuffled once.

    people: of each pair's first picture, over whom the interval is resampled.
    """
    fold = np.random.default_rng(seed).permutation(len(same)) % folds
    right = np.zeros(len(same))
    for held_out in range(folds):
        learn, test = fold != held_out, fold == held_out
        right[test] = (cosine[test] >= best_threshold(cosine[learn], same[learn])) == same[test]
    return bootstrap(right, people, seed)


def true_accept_rate(cosine: Floats, same: NDArray[np.bool_], far: float) -> float:
    """TAR at the threshold that `far` of the other pairs reach."""
    others = np.sort(cosine[~same])[::-1]
    threshold = others[min(int(len(others) * far), len(others) - 1)]
    return float((cosine[same] > threshold).mean())


def best_threshold(cosine: Floats, same: NDArray[np.bool_]) -> float:
    """The cosine at or above which calling two pictures one person is right most often."""
    order = np.argsort(cosine)
    kept = same[order]
    # Threshold just below the i-th smallest: all before it are refused.
    right = np.concatenate([[kept.sum()], kept.sum() - np.cumsum(kept) + np.cumsum(~kept)])
    best = int(right.argmax())
    edges = np.concatenate([cosine[order], [np.inf]])
    return float(edges[best])
