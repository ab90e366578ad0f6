"""Labelled crops of any layout on their way into the cache, and the count of what was left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
SIZE = 112


@dataclass(frozen=True)
class Picture:
    """name: unique in the set.  person: any text, empty where unknown.  source: which set it comes from.

    rgb: (112, 112, 3) uint8, aligned to the ArcFace template.
    """

    name: str
    person: str
    source: str
    rgb: NDArray[np.uint8]


@dataclass
class Skipped:
    """Reasons and counts, filled while pictures are read."""

    counts: Counter[str] = field(default_factory=Counter)

    def decode(self, content: bytes) -> NDArray[np.uint8] | None:
        """(112, 112, 3) uint8 RGB of a picture file's bytes; None, counted, for anything else."""
        raw = np.frombuffer(content, np.uint8)
        bgr = cv2.imdecode(raw, cv2.IMREAD_COLOR) if len(raw) else None
        if bgr is None:
            self.counts["not a picture"] += 1
            return None
        if bgr.shape[:2] != (SIZE, SIZE):
            self.counts[f"not {SIZE} x {SIZE}: align it first"] += 1
            return None
        return np.ascontiguousarray(bgr[..., ::-1])
