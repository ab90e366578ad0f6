"""The shipped networks as a start for more training: whoever has faces of their own need not begin at the teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from duetface.errors import ModelError
from duetface.manifest import ModelCatalogue, load_space
from networks.read_back import read_back
from training.student import Student, read_weights


@dataclass(frozen=True)
class Start:
    """named: as it was asked for, for the record.  weights: by the names of Student.state_dict."""

    named: str
    weights: Mapping[str, Tensor]


def start_named(named: str, split: str, models: Path) -> Start:
    """A run's weights (a path), or those of a template space in the models folder (its name), for Student(split).

    Raises ModelError for another split's, for a space in int8 and for what is neither.
    """
    if Path(named).is_file():
        return Start(named, read_weights(Path(named), split))
    folder = ModelCatalogue(models).space_folder(named)
    if not (folder / "space.json").exists():
        raise ModelError(f"{named} is no file of weights, and {models} has no space of that name")
    return Start(named, _published(folder, split, models))


def _published(folder: Path, split: str, models: Path) -> dict[str, Tensor]:
    catalogue, space = ModelCatalogue(models), load_space(folder)
    spec = catalogue.split_by_digest(space.split_digest)
    if spec.name != split:
        raise ModelError(f"space {space.name} is of split {spec.name}, not {split}")
    student = Student(split, None)
    if student.client is not None:
        read_back(student.client, catalogue.split_folder(split) / "client.onnx")
    read_back(student.server, folder / space.server_file, prefix="server.")
    return student.state_dict()
