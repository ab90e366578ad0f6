"""Distillation: the student's embedding of the message against the teacher's embedding of the clean crop."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def distillation(student: Tensor, teacher: Tensor, weight: Tensor, relational_weight: float) -> tuple[Tensor, Tensor]:
    """Cosine plus relational loss (Park et al., arXiv 1904.05068, in its cosine form).

    student, teacher: (B, D) unit length.  weight: (B,) > 0, how much each face counts.
    Returns the loss and the mean cosine (without gradient), both scalars.
    """
    cosine = (student * teacher).sum(dim=1)
    return (
        (weight * (1 - cosine)).mean() + relational_weight * relational(student, teacher),
        cosine.detach().mean(),
    )


class TeacherBank(nn.Module):
    """Every training face as the teacher sees it: the student must be nearest to its own.

    Cosine regression under doubt answers the mean of all likely faces, so people of one kind (old men in
    studio portraits) come to look alike. Naming the right one among thousands punishes exactly that.
    """

    embeddings: Tensor
    identity: Tensor

    def __init__(self, embeddings: NDArray[np.float32], identity: NDArray[np.int64], temperature: float) -> None:
        """embeddings: (N, D) of unit length.  identity: (N,), -1 where unknown.  temperature: of the softmax."""
        super().__init__()
        self.temperature = temperature
        self.register_buffer("embeddings", torch.from_numpy(embeddings), persistent=False)
        self.register_buffer("identity", torch.from_numpy(identity), persistent=False)

    def forward(self, student: Tensor, row: Tensor, weight: Tensor) -> Tensor:
        """student: (B, D) unit length.  row: (B,), each face's own row of the bank, or -1.  Returns a scalar."""
        logits = student @ self.embeddings.T / self.temperature  # (B, N)
        person = self.identity[row][:, None]
        same_person = (person == self.identity) & (person >= 0)
        same_person[torch.arange(len(row)), row] = False
        # Other pictures of the same person are neither right nor wrong.
        logits = logits.masked_fill(same_person, -torch.inf)
        return (weight * nn.functional.cross_entropy(logits, row, reduction="none", ignore_index=-1)).mean()


def relational(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the two similarity matrices: what verification thresholds look at."""
    return torch.square(student @ student.T - teacher @ teacher.T).mean()
