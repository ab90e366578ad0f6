"""Training samples by position in the run: position p is always the same face, changed the same way.

So a run resumes exactly where its checkpoint ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import islice

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.augment import augment
from training.blends import blend
from training.datasets import COVERED, CROP, Faces
from training.teacher import Teacher

AHEAD = 4  # batches prepared beforehand
NOBODY = -1


@dataclass(frozen=True)
class Batch:
    """rgb: (B, 3, 112, 112) float32 0..255.  region: (B, 1, 112, 112).  teacher: (B, 512).  weight: (B,).

    place: (B,) int64, each face's place among the rows that are trained on, NOBODY for a blend.
    """

    rgb: Tensor
    region: Tensor
    teacher: Tensor
    weight: Tensor
    place: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


Sample = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32], float, int]


class Samples:
    """Faces in the order of the run: each pass a new permutation of the training rows."""

    def __init__(
        self,
        faces: Faces,
        rows: NDArray[np.int64],
        seed: int,
        augmented: bool,
        occluded_weight: float,
        blend_share: float = 0.0,
        teacher: Teacher | None = None,
    ) -> None:
        """rows: which faces may be used.  occluded_weight: of crops with black borders.

        blend_share: of the samples, for which the teacher is asked.
        """
        self.faces, self.rows, self.seed, self.augmented = faces, rows, seed, augmented
        self.blend_share, self.teacher = blend_share, teacher
        self._turn, self._places = -1, np.arange(len(rows))
        self.weight = np.where(faces.cover < COVERED, occluded_weight, 1.0)

    def __getitem__(self, position: int) -> Sample:
        """The sample at that position of the run: crop, region, teacher's embedding, weight, place."""
        return self.at([position])[0]

    def at(self, positions: Sequence[int]) -> list[Sample]:
        """Those at several positions; the teacher is asked about all their blends at once, which is quicker."""
        drawn = [self._draw(position) for position in positions]
        blends = {i: asked for i, (_, asked) in enumerate(drawn) if asked is not None}
        samples = [sample for sample, _ in drawn]
        if self.teacher is not None and blends:
            for i, answer in zip(blends, self.teacher(np.stack(list(blends.values()))), strict=True):
                rgb, region, _, weight, place = samples[i]
                samples[i] = rgb, region, answer, weight, place
        return samples

    def _draw(self, position: int) -> tuple[Sample, NDArray[np.uint8] | None]:
        """The sample, and the clean picture that the teacher is to be asked about, if it is a blend."""
        turn, place = divmod(position, len(self.rows))
        place = self._order(turn)[place]
        row = self.rows[place]
        region = np.unpackbits(self.faces.regions[row]).reshape(CROP, CROP)
        rgb, asked, weight = np.asarray(self.faces.crops[row]), None, float(self.weight[row])
        chance = np.random.default_rng([self.seed, position, 2])
        if self.teacher is not None and chance.random() < self.blend_share:
            other = self.faces.crops[self.rows[chance.integers(len(self.rows))]]
            rgb = asked = blend(rgb, np.asarray(other), chance)
            place, weight = NOBODY, 1.0
        if self.augmented:
            rgb, region = augment(rgb, region, np.random.default_rng([self.seed, position, 1]))
        return (rgb, region, self.faces.teacher[row], weight, int(place)), asked

    def _order(self, turn: int) -> NDArray[np.int64]:
        if self._turn != turn:  # positions come in order: one permutation a pass
            self._turn = turn
            self._places = np.random.default_rng([self.seed, turn]).permutation(len(self.rows))
        return self._places


def batches(samples: Samples, batch: int, start: int, stop: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
    """Whole batches over positions start..stop, made by one thread while the step runs.

    rank, world: of several processes, each takes its own part of every `batch * world` positions.

    A thread, not a process: OpenCV and torch release the interpreter lock, and a fork after either
    has started threads of its own can hang.
    """
    cv2.setNumThreads(1)
    firsts = iter(range(start + rank * batch, stop - (world - rank) * batch + 1, batch * world))
    # The teacher that is asked about blends stays on one thread of its own, beside those of the step.
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as worker:

        def prepare(first: int) -> Future[Batch]:
            return worker.submit(lambda: collate(samples.at(range(first, first + batch))))

        waiting = deque(map(prepare, islice(firsts, AHEAD)))
        while waiting:
            ready = waiting.popleft().result()
            waiting.extend(map(prepare, islice(firsts, 1)))
            yield ready


def collate(samples: list[Sample]) -> Batch:
    """Samples -> one batch of tensors."""
    rgb, region, teacher, weight, place = zip(*samples, strict=True)
    return Batch(
        torch.from_numpy(np.stack(rgb)).permute(0, 3, 1, 2).float(),
        torch.from_numpy(np.stack(region))[:, None].float(),
        torch.from_numpy(np.stack(teacher)),
        torch.tensor(weight),
        torch.tensor(place),
    )
