"""Teachers: both shapes of MobileFaceNet are read from ONNX; anything else is refused by name."""

from pathlib import Path

import numpy as np
import pytest
import torch

from duetface.errors import ModelError
from networks import registry
from networks.device import DeviceHalf
from networks.mobile_face_net import TRUNKS, MobileFaceNet
from networks.teacher import load_teacher
from tests.unit.networks.test_splits import Pictures
from training.teacher import TeacherEmbedder


def written(network: torch.nn.Module, path: Path, size: int = 112) -> Path:
    """As teachers are handed out: one picture at a time, names of their own."""
    picture = torch.zeros(1, 3, size, size)
    torch.onnx.export(network.eval(), (picture,), str(path), input_names=["input"], dynamo=False, opset_version=17)
    return path


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published shape with seeded random weights."""
    torch.manual_seed(3)
    network = MobileFaceNet("published")
    for parameter in network.parameters():
        if parameter.ndim == 1:  # equal ones would become one constant of the file
            torch.nn.init.normal_(parameter, std=0.1)
    with pytest.warns(DeprecationWarning):
        return written(network, tmp_path_factory.mktemp("teacher") / "teacher.onnx")


def test_the_published_shape_is_read_back(teacher_file: Path) -> None:
    """A warm start from wrongly read weights would still train, only worse; several pictures at once must pass."""
    pictures = np.random.default_rng(4).integers(0, 256, (3, 112, 112, 3)).astype(np.uint8)
    network = load_teacher(teacher_file)
    assert network.name == "published"
    with torch.no_grad():
        got = network((torch.from_numpy(pictures).permute(0, 3, 1, 2).float() - 127.5) / 127.5)
    expected = TeacherEmbedder(teacher_file, threads=1)(pictures)
    assert np.abs(torch.nn.functional.normalize(got, dim=1).numpy() - expected).max() < 1e-4


def test_a_server_network_takes_the_shape_of_its_teacher(teacher_file: Path, pictures: Pictures) -> None:
    """One config retrains everything from another teacher, masks and all; every weight learns."""
    spec = registry.split_named("r1")
    client, server = registry.build(spec, teacher_file)
    assert server.trunk.name == "published"
    embedding = server(DeviceHalf(spec, client)(*pictures))
    embedding.sum().backward()
    assert all(parameter.grad is not None for parameter in server.parameters())
    again = registry.build(spec, None, registry.Form(trunk="published"))[1]
    again.load_state_dict(server.state_dict())
    assert torch.allclose(again(DeviceHalf(spec, client)(*pictures)), embedding)


def test_a_file_of_another_architecture_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    """Loading what fits and leaving the rest random would pass unnoticed."""
    with pytest.warns(DeprecationWarning):
        path = written(torch.nn.Conv2d(3, 7, 3), tmp_path / "other.onnx")
    with pytest.raises(ModelError, match="the first layer has 7 channels"):
        load_teacher(path)
    with pytest.warns(DeprecationWarning):
        path = written(torch.nn.Sequential(torch.nn.Conv2d(3, TRUNKS["published"].stem, 3)), tmp_path / "short.onnx")
    with pytest.raises(ModelError, match="1 Conv nodes, expected 50"):
        load_teacher(path)
    (tmp_path / "damaged.onnx").write_bytes(b"junk")
    (tmp_path / "damaged.onnx.xz").write_bytes(b"junk")
    for name in ("damaged.onnx", "damaged.onnx.xz"):
        with pytest.raises(ModelError, match="no ONNX file, or a damaged one"):
            load_teacher(tmp_path / name)
