"""Builds a pack: attacker's people and victims through the production path, the messages kept, then observed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from duetface.manifest import ModelCatalogue, SpaceManifest
from duetface.spec import SplitSpec
from edge_agent.landmarks import FaceMesh
from networks.teacher import read_teacher
from privacy.messages import Device, device_for, message_folder, message_of, write_messages
from privacy.observation import Observed, observe
from privacy.pack import Group, Pack, write_pack
from privacy.people import Crops, attackers, capture_crop, check_disjoint, victims
from recognition_service.embedder import Embedder
from training.datasets import load

Progress = Callable[[str], None]
BATCH = 32


@dataclass(frozen=True)
class Places:
    """data: the shared research faces.  crops: training's cache.  cache: ours, ignored by git.  models: the folder."""

    data: Path
    crops: Path
    cache: Path
    models: Path

    @property
    def teacher(self) -> Path:
        """The teacher's ONNX file."""
        return self.data / "teacher" / "w600k_mbf.onnx.xz"


@dataclass(frozen=True)
class Cast:
    """faces: of the attacker.  pairs: of each kind among the victims, all if None.  seed: of the choice."""

    faces: int
    pairs: int | None
    seed: int

    @property
    def name(self) -> str:
        """For file names."""
        return f"{self.faces}-{self.pairs or 'all'}-{self.seed}"


@dataclass(frozen=True)
class Side:
    """Device and service of one split, between which the messages pass."""

    device: Device
    embedder: Embedder | None
    places: Places
    progress: Progress

    def observed(self, crops: Crops, teacher: NDArray[np.float32], name: str) -> Group:
        """Messages of one group of people, made or read from disk, and what they say."""
        folder = message_folder(self.places.cache, self.device.spec, name)

        def told(done: int, all_: int) -> None:
            self.progress(f"messages of {name}: {done} of {all_}")

        observed = observe(write_messages(crops, self.device, self.places.models, folder, told), self.device.spec)
        template = stored_templates(observed, self.embedder, self.progress)
        return Group(crops.names, observed.codes, observed.quality, template, teacher, observed.wire_bytes)


def pack_path(places: Places, spec: SplitSpec, cast: Cast) -> Path:
    """Where the pack of one split, template space and cast lies: a retrained service makes other templates."""
    space = space_of(spec, places.models)
    read_by = space.digest.hex()[:8] if space is not None else "no-space"
    return message_folder(places.cache, spec, f"pack-{cast.name}-{read_by}.npz")


def build_pack(split: str, places: Places, cast: Cast, progress: Progress) -> Path:
    """Write the pack of a split; messages that are there already are used again.

    Raises ConfigError if a person of the attacker's is among the victims, or too few faces are at hand.
    """
    device = device_for(split, places.models)
    own = attackers(places.data, places.crops, cast.faces, cast.seed)
    others, pairs = victims(places.data, cast.pairs)
    rows = np.array([int(name) for name in own.names], np.int64)
    own_teacher = load(places.data / "train", places.crops).teacher[rows]
    others_teacher = teacher_embeddings(others.rgb, places, progress)
    alike = check_disjoint(own_teacher, others_teacher)
    embedder = embedder_of(device.spec, places.models)  # opened once: both groups must meet the same network
    side = Side(device, embedder, places, progress)
    attacker = side.observed(own, own_teacher, f"attacker-{cast.faces}-{cast.seed}")
    victim = side.observed(others, others_teacher, f"victims-{cast.pairs or 'all'}")
    meta = {
        "split": device.spec.name,
        "split_digest": device.spec.digest.hex(),
        "space_digest": embedder.space_digest.hex() if embedder is not None else "",
        "seed": cast.seed,
        "largest_cosine_between_groups": round(alike, 3),
    }
    path = pack_path(places, device.spec, cast)
    write_pack(Pack(attacker, victim, others.rgb, tuple(pairs), meta), path)
    return path


def observe_victims(split: str, places: Places, count: int) -> tuple[Observed, Crops]:
    """Messages of `count` victims, spread over the set, made on the spot and kept nowhere.

    The published split's messages are of 2 MB each, so a pack of them would fill a disk.
    """
    device, mesh = device_for(split, places.models), FaceMesh.load(places.models)
    crops, _ = victims(places.data)
    chosen = crops.rows(np.linspace(0, len(crops) - 1, count).astype(np.int64))
    messages = [message_of(capture_crop(np.asarray(rgb), mesh), device) for rgb in chosen.rgb]
    return observe(messages, device.spec), chosen


def embedder_of(spec: SplitSpec, models: Path) -> Embedder | None:
    """The network of the split's template space, None if there is none."""
    space = space_of(spec, models)
    return Embedder.load(models / "spaces" / space.name, spec) if space is not None else None


def space_of(spec: SplitSpec, models: Path) -> SpaceManifest | None:
    """The first template space in models/ that reads this split."""
    spaces = ModelCatalogue(models).spaces()
    return next((space for space in spaces if space.split_digest == spec.digest), None)


def stored_templates(observed: Observed, embedder: Embedder | None, progress: Progress) -> NDArray[np.float32]:
    """(N, 512): what the service stores for these very messages; (N, 0) without a template space."""
    if embedder is None:
        return np.zeros((len(observed), 0), np.float32)
    parts = []
    for start in range(0, len(observed), BATCH):
        faces = [observed.face(row) for row in range(start, min(start + BATCH, len(observed)))]
        parts.append(embedder.embed(faces))
        if start % (32 * BATCH) == 0:
            progress(f"templates: {start} of {len(observed)}")
    return np.concatenate(parts)


def teacher_embeddings(rgb: NDArray[np.uint8], places: Places, progress: Progress) -> NDArray[np.float32]:
    """(N, 512) of unit length: the unprotected teacher on plain crops."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    network = read_teacher(places.teacher).SerializeToString()
    session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = []
    for start in range(0, len(rgb), BATCH):
        batch = (rgb[start : start + BATCH].transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 127.5
        parts.append(session.run(None, {name: batch})[0])
        if start % (32 * BATCH) == 0:
            progress(f"teacher: {start} of {len(rgb)}")
    embeddings = np.concatenate(parts)
    return np.asarray(embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True), np.float32)
