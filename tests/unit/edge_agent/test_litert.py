"""A model file that is not the released one must never decide anything."""

import json
import shutil
from pathlib import Path

import pytest

from duetface.errors import ModelError
from edge_agent.litert import LiteRtModel


@pytest.fixture
def copy(models: Path, tmp_path: Path) -> Path:
    """A models folder that may be damaged."""
    shutil.copytree(models / "detector", tmp_path / "detector")
    return tmp_path


def test_one_changed_byte_is_refused_by_name(copy: Path) -> None:
    """The message names the file and what to do."""
    path = copy / "detector" / "face_landmark.tflite"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"face_landmark\.tflite: SHA-256 is .* expected .*; install duetface again"):
        LiteRtModel.load(copy, "face_mesh")


@pytest.mark.parametrize("content", [b"", b"no model at all" * 100])
def test_a_file_that_is_no_model_is_refused(copy: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """Even where a manifest was changed with it."""
    import hashlib

    (copy / "detector" / "face_landmark.tflite").write_bytes(content)
    manifest_path = copy / "detector" / "manifest.json"
    manifest = json.loads(manifest_path.read_text("utf-8"))
    manifest["models"]["face_mesh"]["sha256"] = hashlib.sha256(content).hexdigest()
    manifest_path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ModelError, match=r"face_landmark\.tflite: LiteRT cannot read it"):
        LiteRtModel.load(copy, "face_mesh")


def test_a_missing_file_is_named(copy: Path) -> None:
    """A half copied installation says which half is missing."""
    (copy / "detector" / "face_detection_back.tflite").unlink()
    with pytest.raises(ModelError, match=r"face_detection_back\.tflite: cannot be read"):
        LiteRtModel.load(copy, "face_detector")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"models": {}}'])
def test_a_damaged_manifest_is_named(copy: Path, content: str) -> None:
    """Whatever stands in it instead."""
    (copy / "detector" / "manifest.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=r"manifest\.json: no readable entry for 'face_mesh'"):
        LiteRtModel.load(copy, "face_mesh")


def test_loading_leaves_the_terminal_clean(models: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """LiteRT's C++ prints INFO lines; a person would take them for trouble."""
    LiteRtModel.load(models, "face_mesh")
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_every_shipped_model_says_where_it_is_from(models: Path) -> None:
    """Source, licence and meaning travel with the weights."""
    manifest = json.loads((models / "detector" / "manifest.json").read_text("utf-8"))
    assert set(manifest["models"]) == {"face_detector", "face_mesh"}
    for entry in manifest["models"].values():
        assert entry["licence"] == "Apache-2.0"
        assert all(entry[key] for key in ("file", "sha256", "source_package", "source_version", "input", "outputs"))
    assert "Apache License" in (models / "detector" / "LICENSE").read_text("utf-8")
