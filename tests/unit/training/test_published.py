"""What is shipped as a start for more training: the files' weights, or one clear line."""

from pathlib import Path

import numpy as np
import pytest
import torch

from duetface.errors import ModelError
from duetface.manifest import models_root
from networks.registry import split_named
from tests.unit.training.conftest import made_up_picture
from training.evaluate import TorchPath
from training.production import CropHull, ProductionPath
from training.published import start_named
from training.student import Student

MODELS = models_root()


def test_training_goes_on_from_the_shipped_network() -> None:
    """The torch modules answer as the shipped files do."""
    student = Student("l1", None)
    student.load_state_dict(start_named("l1-3", "l1", MODELS).weights)
    production = ProductionPath.load(MODELS, "l1", "l1-3")
    crops = [made_up_picture(seed) for seed in range(4)]
    shipped, _ = production.embed(crops)
    again, _ = TorchPath(production.encoder.spec, student.eval(), CropHull(MODELS)).embed(crops)
    assert np.einsum("nd,nd->n", shipped, again).min() > 0.99  # a code may round to the other side


@pytest.mark.parametrize(
    ("named", "split", "says"),
    [
        ("l1-3", "r1", "space l1-3 is of split l1, not r1"),
        ("l1-3-int8", "l1", "a file of another network, or in int8"),
        ("r1-1-int8", "r1", "a file of another network, or in int8"),
        ("nowhere.pt", "l1", "nowhere.pt is no file of weights, and .* has no space of that name"),
    ],
)
def test_what_cannot_be_started_from_is_named(named: str, split: str, says: str) -> None:
    """Half a network from one file and half from the teacher would pass unnoticed."""
    with pytest.raises(ModelError, match=says):
        start_named(named, split, MODELS)


def test_a_runs_weights_are_a_start_too(tmp_path: Path) -> None:
    """Of the same split only."""
    weights = Student("l1", None).state_dict()
    torch.save({"split_digest": split_named("l1").digest.hex(), "average": weights}, tmp_path / "final.pt")
    assert start_named(str(tmp_path / "final.pt"), "l1", MODELS).weights.keys() == weights.keys()
    with pytest.raises(ModelError, match="trained for another split than r1"):
        start_named(str(tmp_path / "final.pt"), "r1", MODELS)
