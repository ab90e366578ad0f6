"""The teacher's weights: from an ONNX file into networks.mobile_face_net.

InsightFace's file has a non-commercial research licence: every model distilled from it, or started from it,
carries that caution. docs/training.md names one under MIT.
"""

from __future__ import annotations

import lzma
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from duetface.errors import ModelError
from networks.mobile_face_net import TRUNKS, MobileFaceNet


def read_teacher(path: Path) -> onnx.ModelProto:
    """The teacher's ONNX model, from .onnx or .onnx.xz."""
    if not path.exists():
        raise ModelError(f"teacher {path} is missing: docs/training.md says which there are and where from")
    content = path.read_bytes()
    try:
        model = onnx.load_from_string(lzma.decompress(content) if path.suffix == ".xz" else content)
    except (lzma.LZMAError, DecodeError) as error:
        raise ModelError(f"teacher {path} is no ONNX file, or a damaged one: {error}") from error
    _free_batch(model.graph)
    return model


def _free_batch(graph: onnx.GraphProto) -> None:
    """Let a file that was written for one picture at a time take any number."""
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del graph.value_info[:]
    arrays = {item.name: item for item in graph.initializer}
    for node in graph.node:
        target = arrays.get(node.input[1]) if node.op_type == "Reshape" else None
        if target is not None and numpy_helper.to_array(target)[0] == 1:
            shape = np.array([0, *numpy_helper.to_array(target)[1:]], np.int64)  # 0: as many as come in
            target.CopyFrom(numpy_helper.from_array(shape, target.name))


def load_teacher(path: Path) -> MobileFaceNet:
    """The teacher as a module in evaluation mode. Raises ModelError if the file has another architecture."""
    graph = read_teacher(path).graph
    arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    network = MobileFaceNet(_trunk_of(path, graph, arrays))
    kinds = {"Conv": nn.Conv2d, "PRelu": nn.PReLU, "Gemm": nn.Linear}
    for operator, kind in kinds.items():
        nodes = [node for node in graph.node if node.op_type == operator]
        modules = [module for module in network.modules() if isinstance(module, kind)]
        if len(nodes) != len(modules):
            raise ModelError(f"{path}: {len(nodes)} {operator} nodes, expected {len(modules)}")
        for node, module in zip(nodes, modules, strict=True):
            absent = [name for name in node.input[1:] if name not in arrays]
            if absent:
                raise ModelError(f"{path}: {absent} are no constants of the file; export it without shared weights")
            _fill(module, [arrays[name] for name in node.input[1:]])
    for norm in (node for node in graph.node if node.op_type == "BatchNormalization"):  # none or one, at the end
        epsilon = next(a.f for a in norm.attribute if a.name == "epsilon")
        _fold_normalisation(network, [arrays[name] for name in norm.input[1:]], epsilon)
    return network.eval()


def _trunk_of(path: Path, graph: onnx.GraphProto, arrays: Mapping[str, NDArray[np.float32]]) -> str:
    first = next((node for node in graph.node if node.op_type == "Conv"), None)
    stem = len(arrays[first.input[1]]) if first is not None and first.input[1] in arrays else 0
    for name, shape in TRUNKS.items():
        if shape.stem == stem:
            return name
    raise ModelError(f"{path}: the first layer has {stem} channels; a MobileFaceNet with 64 or 128 can be read")


@torch.no_grad()
def _fill(module: nn.Module, arrays: list[NDArray[np.float32]]) -> None:
    parameters = list(module.parameters())
    if [parameter.numel() for parameter in parameters] != [array.size for array in arrays]:
        raise ModelError(f"the teacher's {type(module).__name__} has other sizes than a MobileFaceNet's")
    for parameter, array in zip(parameters, arrays, strict=True):
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
