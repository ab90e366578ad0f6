"""From a run's weights to shipped files: ONNX, manifests, calibration, model card, parity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from duetface.errors import ConfigError
from duetface.manifest import SpaceManifest
from duetface.spec import SplitSpec
from networks import registry
from networks.mobile_face_net import EMBEDDING
from training.calibrate import calibrate
from training.cards import space_card, split_card
from training.datasets import Faces
from training.exporter import Exporter
from training.production import ProductionPath
from training.record import write_json
from training.student import load_student

INSIGHTFACE = (
    "InsightFace w600k_mbf (buffalo_s), MobileFaceNet",
    "Non-commercial research only: started and distilled from InsightFace's w600k_mbf, whose weights are "
    "licensed so; the code is Apache-2.0",
)
# By the config's key `teacher`; the training faces keep their own terms whatever the teacher's.
TEACHERS = {
    "": INSIGHTFACE,
    "fr_feature.onnx": (
        "fr_feature of npm faceplugin-face-recognition-js 0.0.1, MobileFaceNet",
        "Started and distilled from a teacher under MIT; the code is Apache-2.0. Trained on research sets: see data",
    ),
}
DATA = "22,000 aligned crops of public research sets (docs/training.md); none of them is shipped"
PRECISIONS = ("float32", "int8")


@dataclass(frozen=True)
class Publication:
    """split, space: names to publish under.  precision: of the server network, and of the client's.

    note: what else the card must say of how the weights came to be.  threads: of the calibration.
    """

    split: str
    space: str
    precision: str = "float32"
    client_precision: str = "float32"
    note: str = ""
    threads: int = 1


@dataclass(frozen=True)
class Parity:
    """client, server: largest difference of the float32 files from torch on random input.

    quantised: cosine of the int8 files to the float32 ones on held-out faces, (mean, least); empty for float32.
    """

    client: float
    server: float
    quantised: Mapping[str, tuple[float, float]]


def publish(wanted: Publication, weights: Path, faces: Faces, models: Path) -> Parity:
    """Export, calibrate on held-out people, write manifests and cards below the models folder.

    weights: final.pt or checkpoint.pt of a run; its record.json, if there, goes into the card.
    A client network that is there already and answers as these weights do is left as it is: its bytes are in the
    split's digest, and a second space of the split must not make a new split.
    Raises ConfigError for a split that is never served, ModelError for weights of another one.
    """
    # A run goes on while its checkpoint is published: what is said of the weights is read with them.
    student, facts = load_student(weights, wanted.split), _run_facts(weights)
    if student.client is None:
        raise ConfigError(f"split {wanted.split} has no client network: it is for measuring and is never published")
    split_folder, space_folder = models / "splits" / wanted.split, models / "spaces" / wanted.space
    _refuse_other_precision(space_folder, wanted)
    for folder in (split_folder, space_folder):
        folder.mkdir(parents=True, exist_ok=True)
    spec = registry.split_named(wanted.split)
    export = Exporter(student, spec, faces)
    client_parity = export.client(split_folder / "client.onnx", wanted.client_precision)
    server_parity = export.server(space_folder / "server.onnx", wanted.precision)
    parity = Parity(client_parity, server_parity, export.quantised)
    spec = replace(spec, client_network_sha256=_sha256(split_folder / "client.onnx"))
    write_json(split_folder / "split.json", spec.to_dict())
    manifest = _space_manifest(wanted, spec, space_folder, facts)
    write_json(space_folder / "space.json", manifest.to_dict())
    path = ProductionPath.load(models, wanted.split, wanted.space, wanted.threads)
    calibration = calibrate(path, faces)
    manifest = replace(manifest, calibration=calibration.to_dict())
    write_json(space_folder / "space.json", manifest.to_dict())
    text = split_card(spec, student.client, parity, manifest.licence)
    (split_folder / "README.md").write_text(text, encoding="utf-8")
    text = space_card(manifest, spec, calibration, student.server, parity, facts, wanted.note)
    (space_folder / "README.md").write_text(text, encoding="utf-8")
    return parity


def _refuse_other_precision(folder: Path, wanted: Publication) -> None:
    """Templates of the two forms do not compare: one name must not become the other under a gallery."""
    if not (folder / "space.json").exists():
        return
    there = json.loads((folder / "space.json").read_text(encoding="utf-8"))["precision"]
    if there != wanted.precision:
        raise ConfigError(f"space {wanted.space} is there in {there}: give the {wanted.precision} one another --space")


def _space_manifest(wanted: Publication, spec: SplitSpec, folder: Path, facts: Mapping[str, Any]) -> SpaceManifest:
    named = facts.get("config", {}).get("teacher", "")
    teacher, licence = TEACHERS.get(
        Path(named).name, (Path(named).name, "as the teacher's own, which is not known here")
    )
    return SpaceManifest(
        name=wanted.space,
        split_digest=spec.digest,
        server_file="server.onnx",
        server_sha256=_sha256(folder / "server.onnx"),
        precision=wanted.precision,
        dimension=EMBEDDING,
        calibration={},
        teacher=teacher,
        data=DATA,
        licence=licence,
    )


def _run_facts(weights: Path) -> Mapping[str, Any]:
    """Faces and seconds of these weights; settings and commit from record.json where the run has ended."""
    facts: dict[str, Any] = dict(torch.load(weights, map_location="cpu", weights_only=True)["state"])
    record = weights.parent / "record.json"
    if weights.name == "final.pt" and record.exists():
        facts |= json.loads(record.read_text(encoding="utf-8"))
    return facts


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
