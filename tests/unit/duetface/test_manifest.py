"""The models that are shipped, each file checked against its digest."""

import hashlib
import json
from pathlib import Path

import pytest

from duetface.errors import ModelError
from duetface.manifest import ModelCatalogue, SpaceManifest, load_space, load_split, models_root
from duetface.spec import SplitSpec
from tests.unit.duetface.test_spec import SPEC


@pytest.fixture
def catalogue(tmp_path: Path) -> ModelCatalogue:
    """One split and one space whose networks are a few bytes."""
    split_folder, space_folder = tmp_path / "splits" / "small", tmp_path / "spaces" / "small-1"
    for folder in (split_folder, space_folder):
        folder.mkdir(parents=True)
    (split_folder / "client.onnx").write_bytes(b"client")
    (space_folder / "server.onnx").write_bytes(b"server")
    split = SplitSpec.from_dict({**SPEC.to_dict(), "client_network_sha256": hashlib.sha256(b"client").hexdigest()})
    server_sha256 = hashlib.sha256(b"server").hexdigest()
    space = SpaceManifest("small-1", split.digest, "server.onnx", server_sha256, "float32", 512, {}, "t", "d", "l")
    (split_folder / "split.json").write_text(json.dumps(split.to_dict()))
    (space_folder / "space.json").write_text(json.dumps(space.to_dict()))
    (tmp_path / "default.json").write_text('{"split": "small", "space": "small-1"}')
    return ModelCatalogue(tmp_path)


def test_what_was_written_is_found(catalogue: ModelCatalogue) -> None:
    """The service finds the split of a message by its digest."""
    (split,), (space,) = catalogue.splits(), catalogue.spaces()
    assert catalogue.default_split() == split == catalogue.split_by_digest(split.digest)
    assert catalogue.default_space() == space
    assert space.split_digest == split.digest


@pytest.mark.parametrize(("folder", "file"), [("splits/small", "client.onnx"), ("spaces/small-1", "server.onnx")])
def test_a_damaged_file_is_named_with_its_remedy(catalogue: ModelCatalogue, folder: str, file: str) -> None:
    """A flipped bit in a network decides wrongly without any other sign."""
    (catalogue.root / folder / file).write_bytes(b"damage")
    load = load_split if "splits" in folder else load_space
    with pytest.raises(ModelError, match=rf"{file} is damaged or another file: SHA-256 .* restore it"):
        load(catalogue.root / folder)


def test_a_missing_file_is_named(catalogue: ModelCatalogue) -> None:
    """Half an installation must say which half."""
    (catalogue.root / "spaces" / "small-1" / "server.onnx").unlink()
    with pytest.raises(ModelError, match=r"server\.onnx cannot be read"):
        catalogue.spaces()


def test_a_manifest_that_is_no_json_is_named(catalogue: ModelCatalogue) -> None:
    """A truncated download ends in the middle of a line."""
    path = catalogue.root / "splits" / "small" / "split.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(ModelError, match=r"split\.json cannot be read"):
        catalogue.splits()


def test_an_unknown_key_names_the_file(catalogue: ModelCatalogue) -> None:
    """A newer manifest must not be half understood."""
    path = catalogue.root / "spaces" / "small-1" / "space.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "colour": "red"}))
    with pytest.raises(ModelError, match=r"space\.json: space: unknown keys \['colour'\]"):
        catalogue.spaces()


def test_a_server_file_may_not_point_elsewhere(catalogue: ModelCatalogue) -> None:
    """A manifest from outside must not open files beside its folder."""
    path = catalogue.root / "spaces" / "small-1" / "space.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "server_file": "../../x.onnx"}))
    with pytest.raises(ModelError, match="server_file must be a plain name"):
        catalogue.spaces()


def test_an_unknown_split_asks_for_an_update(catalogue: ModelCatalogue) -> None:
    """The likeliest cause is a newer agent."""
    with pytest.raises(ModelError, match="update the older end"):
        catalogue.split_by_digest(bytes(32))


def test_the_space_digest_ignores_calibration_but_not_the_network(catalogue: ModelCatalogue) -> None:
    """Calibrating again must not orphan templates; another network must."""
    raw = catalogue.default_space().to_dict()
    digest = SpaceManifest.from_dict(raw).digest
    assert SpaceManifest.from_dict({**raw, "calibration": {"n": 1}}).digest == digest
    assert SpaceManifest.from_dict({**raw, "server_sha256": "00"}).digest != digest
    assert SpaceManifest.from_dict({**raw, "precision": "int8"}).digest != digest


def test_the_shipped_models_are_whole() -> None:
    """Every shipped file is the one its manifest names, and the defaults fit each other."""
    catalogue = ModelCatalogue(models_root())
    assert catalogue.default_space().split_digest == catalogue.default_split().digest
    assert {space.split_digest for space in catalogue.spaces()} <= {split.digest for split in catalogue.splits()}
    assert all("on-commercial" in space.licence for space in catalogue.spaces())
