"""Int8 files: close to float32, small, and a second space does not make a new split."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from duetface.errors import ConfigError
from duetface.manifest import SpaceManifest
from duetface.types import ProtectedFace
from gallery.calibration import SourceFigures
from networks import registry
from networks.cost import multiply_accumulates
from networks.equalise import equalise
from networks.mobile_face_net import MobileFaceNet
from networks.registry import Form
from recognition_service.embedder import Embedder
from training.cards import space_card, split_card
from training.datasets import Faces
from training.exporter import Exporter
from training.publish import Parity, Publication, publish
from training.record import write_json
from training.student import Student


@pytest.fixture(scope="module")
def exporter(faces: Faces) -> Exporter:
    """The r1 networks with seeded random weights."""
    torch.manual_seed(2)
    return Exporter(Student("r1", None), registry.split_named("r1"), faces)


def test_equal_ranges_change_nothing_but_the_ranges() -> None:
    """In float the rescaled trunk is the same function; the channels of a block then span the same."""
    torch.manual_seed(1)
    trunk, pictures = MobileFaceNet().eval(), torch.rand(2, 3, 112, 112) * 2 - 1
    block = trunk.stage_28[1]
    with torch.no_grad():
        block.expand.weight[0] *= 50  # one loud channel, quiet again in the next layer
        block.expand.bias[0] *= 50
        block.depthwise.weight[0] /= 50
        before = trunk(pictures)
        equalise(trunk, lambda: trunk(pictures))
        assert torch.allclose(trunk(pictures), before, rtol=1e-3, atol=1e-3 * before.abs().max())
        spans = block.expand(trunk.stage_28[0](trunk.stem(pictures))).abs().amax(dim=(0, 2, 3))
    assert spans[0] < 5 * spans.median()


@pytest.mark.timeout(400)  # the percentiles of every layer
def test_the_int8_server_answers_as_the_float_one(exporter: Exporter, tmp_path: Path) -> None:
    """A quarter of the bytes, the same work, the cosine remembered for the card."""
    exporter.server(tmp_path / "float.onnx", "float32")
    exporter.server(tmp_path / "int8.onnx", "int8")
    mean, least = exporter.quantised["server"]
    assert least <= mean and mean > 0.98
    sizes = [(tmp_path / name).stat().st_size for name in ("int8.onnx", "float.onnx")]
    assert sizes[0] < 0.32 * sizes[1]
    assert multiply_accumulates(tmp_path / "int8.onnx") == multiply_accumulates(tmp_path / "float.onnx")
    served(exporter, tmp_path)


def served(exporter: Exporter, folder: Path) -> None:
    """The service's embedder opens the int8 space: a face alone or among others gets one and the same template."""
    spec = registry.split_named("r1")
    manifest = SpaceManifest(
        "r1-int8", spec.digest, "int8.onnx", hashlib.sha256((folder / "int8.onnx").read_bytes()).hexdigest(), "int8",
        512, {}, "none", "none", "none",
    )  # fmt: skip
    write_json(folder / "space.json", manifest.to_dict())
    embedder = Embedder.load(folder, spec)
    random = np.random.default_rng(1)
    faces = [
        ProtectedFace(
            spec.digest,
            {
                plane.name: random.integers(-9, 9, plane.shape).astype(np.int8) if plane.signed
                else random.integers(0, 16, plane.shape).astype(np.uint8)
                for plane in spec.planes
            },
        )
        for _ in range(3)
    ]  # fmt: skip
    together, alone = embedder.embed(faces), embedder.embed(faces[1:2])
    assert float(together[1] @ alone[0]) > 0.99999
    assert embedder.space_digest == manifest.digest


def test_a_client_file_that_answers_alike_is_left_as_it_is(exporter: Exporter, tmp_path: Path) -> None:
    """Its digest is the split's: a second space must not turn the agents of the first away."""
    path = tmp_path / "client.onnx"
    assert exporter.client(path, "float32") < 1e-5
    path.write_bytes(path.read_bytes())
    before = path.stat().st_mtime_ns
    assert exporter.client(path, "float32") < 1e-5
    assert path.stat().st_mtime_ns == before
    other = Exporter(Student("r1", None), registry.split_named("r1"), exporter._faces)
    other.client(path, "float32")
    assert path.stat().st_mtime_ns != before


def test_what_cannot_be_published_is_said(faces: Faces, exporter: Exporter, tmp_path: Path) -> None:
    """The twin is the unprotected picture; a sigmoid does not keep scales."""
    gated = Exporter(Student("r1", None, Form(interaction="gated")), registry.split_named("r1"), faces)
    with pytest.raises(ConfigError, match="there is no int8 form of it"):
        gated.server(tmp_path / "server.onnx", "int8")
    student = Student("twin", None)
    torch.save(
        {
            "split_digest": registry.split_named("twin").digest.hex(),
            "average": student.state_dict(),
            "state": {"faces": 1, "seconds": 1.0},
        },
        tmp_path / "twin.pt",
    )
    with pytest.raises(ConfigError, match="it is for measuring and is never published"):
        publish(Publication("twin", "twin-1"), tmp_path / "twin.pt", faces, tmp_path)


def test_a_space_does_not_change_its_precision(tmp_path: Path, faces: Faces) -> None:
    """`--precision int8` without a new name would replace the space that a gallery's templates live in."""
    torch.save(
        {
            "split_digest": registry.split_named("r1").digest.hex(),
            "average": Student("r1", None).state_dict(),
            "state": {"faces": 1, "seconds": 1.0},
        },
        tmp_path / "r1.pt",
    )
    (tmp_path / "spaces" / "r1-1").mkdir(parents=True)
    (tmp_path / "spaces" / "r1-1" / "space.json").write_text('{"precision": "float32"}')
    with pytest.raises(ConfigError, match="is there in float32: give the int8 one another --space"):
        publish(Publication("r1", "r1-1", precision="int8"), tmp_path / "r1.pt", faces, tmp_path)


def test_a_card_tells_rates_by_source_set_and_what_was_not_seen(published_space: tuple) -> None:  # type: ignore[type-arg]
    """No false match in 3,000 comparisons is no rate of zero: below 1e-3 (rule of three)."""
    manifest, spec, calibration = published_space
    parity = Parity(1e-7, 2e-7, {"server": (0.9931, 0.9871)})
    sources = {
        "pins": SourceFigures(12, 3000, 40, (1e-3, 1e-4, 1e-5), (3, 0, 0), (10, 20, 30)),
        "fiw": SourceFigures(5, 0, 0, (1e-3,), (0,), (0,)),
    }
    calibration = replace(calibration, by_source=sources)
    run = {"faces": 10, "seconds": 60.0}
    card = space_card(manifest, spec, calibration, Student("r1", None).server, parity, run, "")
    assert "| pins | 12 | 0.001 / < 0.001 / < 0.001 (3,000) | 0.25 / 0.5 / 0.75 (40) |" in card
    assert "| fiw | 5 | - (0) | - (0) |" in card
    assert "cosine to float32 is 0.9931 in the mean, 0.9871 at least" in card and manifest.licence in card
    assert "int8" not in split_card(spec, Student("r1", None).client, replace(parity, quantised={}), "terms")


@pytest.fixture
def published_space() -> tuple:  # type: ignore[type-arg]
    """Manifest, split and calibration of the shipped space."""
    from duetface.manifest import load_space, load_split, models_root
    from gallery.calibration import Calibration

    space = load_space(models_root() / "spaces" / "r1-1-int8")
    return space, load_split(models_root() / "splits" / "r1"), Calibration.from_dict(space.calibration)


def test_calibration_faces_are_never_compared_on(exporter: Exporter) -> None:
    """The cosine of the card comes from people who did not set the int8 file's ranges."""
    train, held_out = exporter._batches
    assert train and held_out
    seen = {feed["coefficients"][i].tobytes() for _, feed in train for i in range(len(feed["coefficients"]))}
    assert not [1 for _, feed in held_out for codes in feed["coefficients"] if np.asarray(codes).tobytes() in seen]
