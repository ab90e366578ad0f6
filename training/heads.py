"""Classification heads for training faces whose person is known: ArcFace and AdaFace.

Distillation alone never needs them. Where labels are many, they pull one person's pictures together and push
others away, which a teacher that is itself unsure cannot ask for.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from duetface.errors import ConfigError

HEADS = ("", "arcface", "adaface")
EPSILON = 1e-4  # keeps the arc cosine's gradient finite


class MarginHead(nn.Module):
    """Cross-entropy over the known people, the own person's angle made harder by a margin.

    ArcFace (Deng et al., arXiv 1801.07698, eq. 3): cos(angle + m).
    AdaFace (Kim et al., arXiv 2204.00964, eq. 8): cos(angle - m q) - (m + m q) with q in [-1, 1] the picture's
    quality; theirs is the feature's norm, which a network of unit output has not, so quality is handed in.
    """

    def __init__(self, kind: str, identity: NDArray[np.int64], size: int, scale: float, margin: float) -> None:
        """identity: (N,) of the rows that are trained on, -1 where unknown.  size: of an embedding.

        scale: 64 and margin: 0.5 in the paper; fewer people want less of both.
        Raises ConfigError for an unknown kind, or where fewer than two people are known.
        """
        super().__init__()
        if kind not in HEADS[1:]:
            raise ConfigError(f"head {kind!r}: expected one of {HEADS}")
        people = np.unique(identity[identity >= 0])
        if len(people) < 2:
            raise ConfigError(f"head {kind!r} needs labels: {len(people)} people are known; leave the key out")
        self.kind, self.scale, self.margin = kind, scale, margin
        known = np.where(identity >= 0, np.searchsorted(people, identity.clip(min=people[0])), -1)
        self.register_buffer("person", torch.from_numpy(known), persistent=False)
        self.centres = nn.Parameter(nn.init.normal_(torch.empty(len(people), size), std=0.01))

    person: Tensor

    def forward(self, embedding: Tensor, place: Tensor, quality: Tensor) -> Tensor:
        """embedding: (B, D) of unit length.  place: (B,) rows of `identity`.  quality: (B,) in [-1, 1].

        Returns a scalar: the mean over the faces whose person is known, 0 where there is none.
        """
        person = self.person[place]
        known = person >= 0
        cosine = embedding[known].float() @ nn.functional.normalize(self.centres, dim=1).T  # (K, people)
        own = person[known]
        if len(own) == 0:
            return (embedding * 0).sum() + (self.centres * 0).sum()
        rows = torch.arange(len(own), device=own.device)
        angle = torch.acos(cosine[rows, own].clamp(-1 + EPSILON, 1 - EPSILON))
        target = self._harder(angle, quality[known])
        logits = cosine.index_put((rows, own), target)
        return nn.functional.cross_entropy(self.scale * logits, own)

    def _harder(self, angle: Tensor, quality: Tensor) -> Tensor:
        if self.kind == "arcface":
            return torch.cos((angle + self.margin).clamp(max=math.pi - EPSILON))
        turned = (angle - self.margin * quality).clamp(EPSILON, math.pi - EPSILON)
        return torch.cos(turned) - (self.margin + self.margin * quality)
