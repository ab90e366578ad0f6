"""Which network is served, and what keeps one from being served."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from duetface.errors import ConfigError, ModelError
from duetface.manifest import ModelCatalogue, models_root
from recognition_service.config import Models
from recognition_service.models import load_network, load_upcoming_network


@pytest.fixture
def catalogue(tmp_path: Path) -> ModelCatalogue:
    """A copy of the shipped models that a test may damage."""
    root = tmp_path / "models"
    root.mkdir()
    for name in ("splits", "spaces"):
        shutil.copytree(models_root() / name, root / name)
    shutil.copy(models_root() / "default.json", root)
    return ModelCatalogue(root)


def test_the_default_is_what_was_shipped_with_its_licence() -> None:
    """`serve` prints the terms of the weights, which are not those of the code."""
    catalogue = ModelCatalogue(models_root())
    network = load_network(Models())
    assert network.split == catalogue.default_split()
    assert network.space_name == catalogue.default_space().name
    assert network.licence
    assert -1 < network.operating_point(1e-4).threshold < 1


def test_a_space_that_is_not_there_is_refused_with_those_that_are(catalogue: ModelCatalogue) -> None:
    """A typing error in config.toml."""
    with pytest.raises(ConfigError, match=r"models\.space 'r9-9' is not there; there are \["):
        load_network(Models(space="r9-9"), catalogue)
    with pytest.raises(ConfigError, match="is not there"):
        load_network(Models(space="../spaces/" + catalogue.default_space().name), catalogue)


def test_a_split_that_the_space_does_not_read_is_refused(catalogue: ModelCatalogue) -> None:
    """Otherwise every probe would be refused later, one by one."""
    with pytest.raises(ConfigError, match=r"models\.split is r9"):
        load_network(Models(split="r9"), catalogue)


def test_the_space_to_move_to_is_named_by_its_own_keys(catalogue: ModelCatalogue) -> None:
    """A refusal must name the line of config.toml that is wrong."""
    shipped = catalogue.default_space().name
    assert load_upcoming_network(Models(), catalogue) is None
    assert load_upcoming_network(Models(next_space=shipped), catalogue) is not None
    with pytest.raises(ConfigError, match=r"models\.next_space 'r9-9' is not there"):
        load_upcoming_network(Models(next_space="r9-9"), catalogue)
    with pytest.raises(ConfigError, match=r"models\.next_space .* reads split .*, models\.next_split is r9"):
        load_upcoming_network(Models(next_space=shipped, next_split="r9"), catalogue)


def test_a_damaged_network_is_refused_by_name(catalogue: ModelCatalogue) -> None:
    """One flipped bit can turn every threshold into a guess."""
    space = catalogue.default_space()
    path = catalogue.space_folder(space.name) / space.server_file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ModelError, match=space.server_file):
        load_network(Models(), catalogue)


@pytest.mark.parametrize(("name", "upsampling"), [("paper", 8), ("r2", 2), ("a harmless name", 4)])
def test_a_comparison_split_is_served_only_if_named(name: str, upsampling: int, catalogue: ModelCatalogue) -> None:
    """Its server channels can be inverted by linear algebra (docs/method.md 4.1), whatever it is called."""
    _change_split(catalogue, name, upsampling)
    with pytest.raises(ConfigError, match=f'split {name} gives the picture away .* set models.split = "{name}"'):
        load_network(Models(), catalogue)
    assert load_network(Models(split=name), catalogue).split.name == name


def _change_split(catalogue: ModelCatalogue, name: str, upsampling: int) -> None:
    split, space = catalogue.default_split(), catalogue.default_space()
    changed = replace(split, name=name, upsampling=upsampling)
    folder = catalogue.split_folder(split.name)
    (folder / "split.json").write_text(json.dumps(changed.to_dict()), encoding="utf-8")
    path = catalogue.space_folder(space.name) / "space.json"
    path.write_text(json.dumps({**space.to_dict(), "split_digest": changed.digest.hex()}), encoding="utf-8")
