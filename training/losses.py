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
    """Every training face as the teacher sees it: the student must be nearest to the teacher's own answer.

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

    def forward(self, student: Tensor, teacher: Tensor, row: Tensor, weight: Tensor) -> Tensor:
        """Mean cross-entropy of the student's softmax over own answer and bank to the teacher's, a scalar.

        student, teacher: (B, D) unit length.  row: (B,), each face's own row of the bank, or -1 for a blend, which
        has none.  weight: (B,).
        """
        neither = self._neither_right_nor_wrong(row)
        mine = self._log_softmax(student, teacher, neither)
        with torch.no_grad():  # next to 1 for the own answer; a blend's parents get their share
            right = self._log_softmax(teacher, teacher, neither).exp()
        return (weight * -(right * mine).sum(dim=1)).mean()

    def _log_softmax(self, asked: Tensor, own: Tensor, neither: Tensor) -> Tensor:
        """(B, D), (B, D), (B, N) -> (B, 1 + N): the own answer first, then the bank."""
        others = (asked @ self.embeddings.T).masked_fill(neither, -1)
        alike = torch.cat([(asked * own).sum(dim=1, keepdim=True), others], dim=1)
        return nn.functional.log_softmax(alike / self.temperature, dim=1)

    def _neither_right_nor_wrong(self, row: Tensor) -> Tensor:
        """(B,) -> (B, N) bool: the own row, which the own answer stands for, and other pictures of the person."""
        known = row >= 0
        person = torch.where(known, self.identity[row], -1)[:, None]
        left_out = (person == self.identity) & (person >= 0)
        left_out[known, row[known]] = True
        return left_out


def relational(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the two similarity matrices: what verification thresholds look at."""
    return torch.square(student @ student.T - teacher @ teacher.T).mean()
