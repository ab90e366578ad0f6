"""From a run's weights to shipped files: ONNX, manifests, calibration, model card, parity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from duetface.manifest import SpaceManifest
from duetface.spec import SplitSpec
from networks import registry
from networks.export import export_client, export_server
from training.calibrate import calibrate
from training.cards import space_card, split_card
from training.datasets import Faces
from training.production import ProductionPath
from training.record import write_json
from training.student import load_student

LICENCE = (
    "Non-commercial research only: started and distilled from InsightFace's w600k_mbf, whose weights are "
    "licensed so; the code is Apache-2.0"
)
DATA = "22,000 aligned crops of public research sets (docs/training.md); none of them is shipped"


@dataclass(frozen=True)
class Published:
    """Folders of what was written, and the largest difference of the ONNX files from torch."""

    split_folder: Path
    space_folder: Path
    client_parity: float
    server_parity: float


def publish(
    split: str, space: str, weights: Path, faces: Faces, models: Path, threads: int, note: str = ""
) -> Published:
    """Export, calibrate on held-out people, write manifests and cards.

    weights: final.pt or checkpoint.pt of a run; its record.json, if there, goes into the card.
    note: what else the card must say of how the weights came to be.
    """
    # A run goes on while its checkpoint is published: what is said of the weights is read with them.
    student, facts = load_student(weights, split), _run_facts(weights)
    folders = models / "splits" / split, models / "spaces" / space
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    split_folder, space_folder = folders
    assert student.client is not None, f"split {split} has no client network to ship"
    spec = registry.split_named(split)
    client_parity = export_client(student.client, spec, split_folder / "client.onnx")
    server_parity = export_server(student.server, spec, space_folder / "server.onnx")
    spec = replace(spec, client_network_sha256=_sha256(split_folder / "client.onnx"))
    write_json(split_folder / "split.json", spec.to_dict())
    manifest = _space_manifest(space, spec, space_folder)
    write_json(space_folder / "space.json", manifest.to_dict())
    calibration = calibrate(ProductionPath.load(models, split, space, threads), faces)
    manifest = replace(manifest, calibration=calibration.to_dict())
    write_json(space_folder / "space.json", manifest.to_dict())
    published = Published(split_folder, space_folder, client_parity, server_parity)
    (split_folder / "README.md").write_text(split_card(spec, student.client, client_parity), encoding="utf-8")
    card = space_card(manifest, spec, calibration, student.server, server_parity, facts, note)
    (space_folder / "README.md").write_text(card, encoding="utf-8")
    return published


def _space_manifest(name: str, spec: SplitSpec, folder: Path) -> SpaceManifest:
    return SpaceManifest(
        name=name,
        split_digest=spec.digest,
        server_file="server.onnx",
        server_sha256=_sha256(folder / "server.onnx"),
        precision="float32",
        dimension=512,
        calibration={},
        teacher="InsightFace w600k_mbf (buffalo_s), MobileFaceNet",
        data=DATA,
        licence=LICENCE,
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
