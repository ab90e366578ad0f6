"""Exported files against torch, and the teacher's weights against their source."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from duetface.spec import SplitSpec
from networks.client import ClientNetwork
from networks.export import OPSET, export_client, export_server
from networks.server import ServerNetwork
from networks.teacher import load_teacher, read_teacher

Pair = tuple[ClientNetwork, ServerNetwork]


def test_the_server_file_equals_torch_and_names_its_planes(pair: Pair, spec: SplitSpec, tmp_path: Path) -> None:
    """The service feeds planes by name; a swapped mask would only cost accuracy, silently."""
    path = tmp_path / "server.onnx"
    assert export_server(pair[1], spec, path) < 1e-5
    model = onnx.load(str(path))
    assert [item.name for item in model.graph.input] == ["coefficients", "mask_28", "mask_14", "mask_7"]
    assert all(item.type.tensor_type.shape.dim[0].dim_param == "batch" for item in model.graph.input)
    assert next(item.version for item in model.opset_import if item.domain == "") >= OPSET


def test_the_client_file_equals_torch_and_names_its_masks(pair: Pair, spec: SplitSpec, tmp_path: Path) -> None:
    """The device multiplies the region in by these very inputs."""
    path = tmp_path / "client.onnx"
    assert export_client(pair[0], spec, path) < 1e-5
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [item.name for item in session.get_inputs()] == ["channels", "region_28", "region_14", "region_7"]
    assert [item.name for item in session.get_outputs()] == ["mask_28", "mask_14", "mask_7"]


@pytest.mark.shared_data
def test_the_teacher_in_torch_equals_its_file(shared_data: Path) -> None:
    """A warm start from wrongly read weights would still train, only worse."""
    path = shared_data / "teacher" / "w600k_mbf.onnx.xz"
    pictures = np.random.default_rng(4).uniform(-1, 1, (2, 3, 112, 112)).astype(np.float32)
    session = onnxruntime.InferenceSession(read_teacher(path).SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"input.1": pictures})
    with torch.no_grad():
        got = load_teacher(path)(torch.from_numpy(pictures)).numpy()
    assert np.abs(got - expected).max() < 1e-4
