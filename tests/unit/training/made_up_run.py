"""A run of two steps on the tiny set, for a process that a test starts."""

import os
from pathlib import Path

import numpy as np
import pytest

from networks import registry
from training import datasets
from training.config import FitConfig
from training.fit import fit


def run(data: Path, folder: Path, batch: int, patch: pytest.MonkeyPatch) -> None:
    """Eight faces, whatever the number of processes; random weights in the place of a teacher's."""
    build = registry.build
    patch.setattr(registry, "build", lambda spec, _teacher, form=None: build(spec, None, form))
    # Each process its own: they may not write one file at the same time.
    cache = folder.parent / f"cache-{os.getpid()}"
    datasets.prepare(data, cache, _embed, lambda crop: np.ones((112, 112), np.uint8))
    faces = datasets.load(data, cache)
    config = FitConfig(
        "r1", minutes=5, faces=8, batch=batch, threads=1, relational_weight=0, augment=False, learning_rate=1e-4
    )
    fit(config, faces, folder / "unused", folder)


def _embed(crops: np.ndarray) -> np.ndarray:
    projection = np.random.default_rng(0).normal(size=(147, 512)).astype(np.float32)
    embedding = (np.asarray(crops)[:, 8::16, 8::16].reshape(len(crops), -1).astype(np.float32) - 128) @ projection
    return embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
