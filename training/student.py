"""Both halves of a split as one module, and the weights that a run leaves of them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from duetface.errors import ModelError
from networks import registry
from networks.device import DeviceHalf, Maps
from networks.registry import Form


class Student(nn.Module):
    """Both halves of a split: pictures and face regions in, embeddings out."""

    def __init__(self, split: str, teacher: Path | None, form: Form | None = None, masks: str = "own") -> None:
        """split: a name of networks.registry.  teacher: file to warm-start the server network from.

        masks: "random" puts noise in the place of the client's: for an ablation that asks what masks are worth.
        """
        super().__init__()
        spec = registry.split_named(split)
        self.client, self.server = registry.build(spec, teacher, form)
        self.device_half = DeviceHalf(spec, self.client)
        self.random_masks = masks == "random"

    def forward(self, rgb: Tensor, region: Tensor) -> tuple[Tensor, Maps]:
        """(B, 3, 112, 112) in 0..255, (B, 1, 112, 112) -> (B, 512) of unit length, and a learned client's maps."""
        planes, maps = self.device_half.observed(rgb, region)
        if self.random_masks:
            planes |= {name: torch.rand_like(plane) for name, plane in planes.items() if name.startswith("mask_")}
        return self.server(planes), maps

    @property
    def form(self) -> Form:
        """What a checkpoint must tell to build these modules again."""
        trunk = getattr(self.server, "trunk", None)
        interactions = list(getattr(self.server, "interactions", {}).values())
        gated = bool(interactions) and not list(interactions[0].parameters())
        return Form(trunk.name if trunk is not None else Form.trunk, "gated" if gated else "weighted")


def read_checkpoint(path: Path, split: str) -> dict[str, Any]:
    """Whatever a run saved. Raises ModelError for a file that is none, or of another split."""
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found = checkpoint["split_digest"]
    except Exception as error:  # whatever a damaged or foreign file makes torch raise
        raise ModelError(f"{path} holds no weights of a run: {error}") from error
    if found != registry.split_named(split).digest.hex():
        raise ModelError(f"{path} was trained for another split than {split}: digest {found}")
    return checkpoint


def read_weights(path: Path, split: str) -> dict[str, Tensor]:
    """The averaged weights of a checkpoint. Raises ModelError if it belongs to another split."""
    weights: dict[str, Tensor] = read_checkpoint(path, split)["average"]
    return weights


def load_student(path: Path, split: str = "") -> Student:
    """The networks that a run made, in evaluation mode.  split: found by the digest in the file if empty."""
    split = split or registry.split_of(weights_digest(path)).name
    checkpoint = read_checkpoint(path, split)
    student = Student(split, None, Form(**checkpoint.get("form", {})))
    student.load_state_dict(checkpoint["average"])
    return student.eval()


def weights_digest(path: Path) -> bytes:
    """The split digest in a checkpoint. Raises ModelError for a file that is none."""
    try:
        return bytes.fromhex(torch.load(path, map_location="cpu", weights_only=True)["split_digest"])
    except Exception as error:
        raise ModelError(f"{path} holds no weights of a run: {error}") from error


def form_to_plain(student: Student) -> dict[str, str]:
    """For a checkpoint."""
    return asdict(student.form)
