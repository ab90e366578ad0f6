"""The teacher's weights: from InsightFace's ONNX file into networks.mobile_face_net.

Non-commercial research licence: every model distilled from it, or started from it, carries that caution.
"""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from duetface.errors import ModelError
from networks.mobile_face_net import MobileFaceNet


def read_teacher(path: Path) -> onnx.ModelProto:
    """The teacher's ONNX model, from .onnx or .onnx.xz."""
    if not path.exists():
        raise ModelError(f"teacher {path} is missing: see data/README.md of the shared data")
    content = path.read_bytes()
    return onnx.load_from_string(lzma.decompress(content) if path.suffix == ".xz" else content)


def load_teacher(path: Path) -> MobileFaceNet:
    """The teacher as a module in evaluation mode. Raises ModelError if the file has another architecture."""
    graph = read_teacher(path).graph
    arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    network = MobileFaceNet()
    kinds = {"Conv": nn.Conv2d, "PRelu": nn.PReLU, "Gemm": nn.Linear}
    for operator, kind in kinds.items():
        nodes = [node for node in graph.node if node.op_type == operator]
        modules = [module for module in network.modules() if isinstance(module, kind)]
        if len(nodes) != len(modules):
            raise ModelError(f"{path}: {len(nodes)} {operator} nodes, expected {len(modules)}")
        for node, module in zip(nodes, modules, strict=True):
            _fill(module, [arrays[name] for name in node.input[1:]])
    (norm,) = (node for node in graph.node if node.op_type == "BatchNormalization")
    epsilon = next(a.f for a in norm.attribute if a.name == "epsilon")
    _fold_normalisation(network, [arrays[name] for name in norm.input[1:]], epsilon)
    return network.eval()


@torch.no_grad()
def _fill(module: nn.Module, arrays: list[NDArray[np.float32]]) -> None:
    for parameter, array in zip(module.parameters(), arrays, strict=True):
        # Gemm keeps (inputs, outputs), torch (outputs, inputs); PRelu (C, 1, 1), torch (C,).
        value = array.T if isinstance(module, nn.Linear) and array.ndim == 2 else array
        parameter.copy_(torch.from_numpy(value.copy()).reshape(parameter.shape))


@torch.no_grad()
def _fold_normalisation(network: MobileFaceNet, arrays: list[NDArray[np.float32]], epsilon: float) -> None:
    """Fold the last BatchNormalization into the linear layer before it: y = (x - mean) * gain + bias."""
    weight, bias, mean, variance = (torch.from_numpy(array.copy()) for array in arrays)
    gain: Tensor = weight / torch.sqrt(variance + epsilon)
    linear = network.head[-1]
    assert isinstance(linear, nn.Linear)
    linear.weight.mul_(gain[:, None])
    linear.bias.copy_((linear.bias - mean) * gain + bias)
