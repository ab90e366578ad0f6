"""Distillation: the student's embedding of the message against the teacher's embedding of the clean crop."""

from __future__ import annotations

import torch
from torch import Tensor


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


def relational(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the two similarity matrices: what verification thresholds look at."""
    return torch.square(student @ student.T - teacher @ teacher.T).mean()
