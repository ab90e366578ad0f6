"""What a run minimises: distillation, naming the own face, a teacher's hints, and a head where people are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from networks.device import Maps
from networks.mobile_face_net import EMBEDDING
from networks.teacher import load_teacher
from training.batches import Batch
from training.config import FitConfig
from training.datasets import Faces
from training.heads import MarginHead
from training.hints import Hints
from training.losses import TeacherBank, distillation

QUALITY_SPREAD = 0.333  # AdaFace's h: two thirds of the faces fall within [-1, 1]


class Objective(nn.Module):
    """The terms of a run's loss; parameters only where there is a head."""

    def __init__(self, config: FitConfig, faces: Faces, rows: NDArray[np.int64], teacher: Path) -> None:
        """rows: which faces are trained on; a batch's places count among them."""
        super().__init__()
        self.config = config
        self.bank = TeacherBank(faces.teacher[rows], faces.identity[rows], config.naming_temperature)
        self.hints = Hints(load_teacher(teacher)) if config.hint_weight else None
        self.head = (
            MarginHead(config.head, faces.identity[rows], EMBEDDING, config.head_scale, config.head_margin)
            if config.head
            else None
        )

    def forward(self, embedding: Tensor, maps: Maps, batch: Batch, progress: float) -> tuple[Tensor, Tensor]:
        """embedding: (B, D) of the batch's faces.  progress: in [0, 1].  Returns loss and mean cosine, scalars."""
        config = self.config
        loss, cosine = distillation(embedding, batch.teacher, batch.weight, config.relational_weight)
        loss = loss + config.naming_weight * self.bank(embedding, batch.teacher, batch.place, batch.weight)
        if self.hints is not None and progress < config.hint_until:
            loss = loss + config.hint_weight * self.hints(batch.rgb, maps)
        if self.head is not None:
            quality = picture_quality(embedding, batch.teacher)
            loss = loss + config.head_weight * self.head(embedding, batch.place, quality)
        return loss, cosine


@torch.no_grad()
def picture_quality(embedding: Tensor, teacher: Tensor) -> Tensor:
    """(B,) in [-1, 1]: how well the changed picture still tells who it is, against the others of the batch.

    AdaFace takes the feature's norm, standardised over the batch; an embedding of unit length has none, and its
    cosine to the teacher's answer on the clean crop is at hand.
    """
    cosine = (embedding * teacher).sum(dim=1)
    spread = cosine.std(unbiased=False).clamp_min(1e-3)
    return (QUALITY_SPREAD * (cosine - cosine.mean()) / spread).clamp(-1, 1)
