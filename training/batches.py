"""Training samples by position in the run: position p is always the same face, changed the same way.

So a run resumes exactly where its checkpoint ended, with any number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.augment import augment
from training.datasets import COVERED, CROP, Faces


@dataclass(frozen=True)
class Batch:
    """rgb: (B, 3, 112, 112) float32 0..255.  region: (B, 1, 112, 112).  teacher: (B, 512).  weight: (B,)."""

    rgb: Tensor
    region: Tensor
    teacher: Tensor
    weight: Tensor


class Samples(Dataset[tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32], float]]):
    """Faces in the order of the run: each pass a new permutation of the training rows."""

    def __init__(self, faces: Faces, rows: NDArray[np.int64], seed: int, augmented: bool, occluded_weight: float):
        """rows: which faces may be used.  occluded_weight: of crops with black borders."""
        self.faces, self.rows, self.seed, self.augmented = faces, rows, seed, augmented
        self._turn, self._rows = -1, rows
        self.weight = np.where(faces.cover < COVERED, occluded_weight, 1.0)

    def __getitem__(self, position: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32], float]:
        """The sample at that position of the run: crop, region, teacher's embedding, weight."""
        turn, place = divmod(position, len(self.rows))
        row = self._order(turn)[place]
        region = np.unpackbits(self.faces.regions[row]).reshape(CROP, CROP)
        rgb = np.asarray(self.faces.crops[row])
        if self.augmented:
            rgb, region = augment(rgb, region, np.random.default_rng([self.seed, position, 1]))
        return rgb, region, self.faces.teacher[row], float(self.weight[row])

    def _order(self, turn: int) -> NDArray[np.int64]:
        if self._turn != turn:  # positions come in order: one permutation a pass
            self._turn, self._rows = turn, np.random.default_rng([self.seed, turn]).permutation(self.rows)
        return self._rows


def batches(samples: Samples, batch: int, start: int, stop: int, workers: int = 1) -> DataLoader[Batch]:
    """Batches over positions start..stop. One worker overlaps decoding with the step."""
    positions = range(start, stop)
    return DataLoader(
        samples,
        batch_size=batch,
        sampler=positions,
        num_workers=workers,
        collate_fn=collate,
        drop_last=True,
        worker_init_fn=_single_threaded,
        persistent_workers=workers > 0,
    )


def collate(samples: list[tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32], float]]) -> Batch:
    """Samples -> one batch of tensors."""
    rgb, region, teacher, weight = zip(*samples, strict=True)
    return Batch(
        torch.from_numpy(np.stack(rgb)).permute(0, 3, 1, 2).float(),
        torch.from_numpy(np.stack(region))[:, None].float(),
        torch.from_numpy(np.stack(teacher)),
        torch.tensor(weight),
    )


def _single_threaded(_worker: int) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
