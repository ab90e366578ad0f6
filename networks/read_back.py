"""Weights out of an exported file, into the module it was exported from."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import nn

from duetface.errors import ModelError


def read_back(module: nn.Module, path: Path, prefix: str = "") -> None:
    """Fill a module from its float32 .onnx file (networks.export), whose tensors keep torch's names but for slopes.

    prefix: of the names in the file, where the module was exported inside another.
    The exporter renames the slopes of PReLU; they are taken in the order of the nodes, which is that of the modules.
    Raises ModelError if the file is of another network, or in int8.
    """
    graph = onnx.load(path).graph
    tensors = {
        item.name.removeprefix(prefix): torch.from_numpy(numpy_helper.to_array(item).copy())
        for item in graph.initializer
    }
    slopes = [node.input[1].removeprefix(prefix) for node in graph.node if node.op_type == "PRelu"]
    activations = [f"{name}.weight" for name, part in module.named_modules() if isinstance(part, nn.PReLU)]
    if len(slopes) == len(activations):
        tensors |= {own: tensors[named].flatten() for own, named in zip(activations, slopes, strict=True)}
    expected = module.state_dict()
    lacking = [name for name, own in expected.items() if name not in tensors or tensors[name].shape != own.shape]
    if lacking:
        raise ModelError(
            f"{path} lacks {len(lacking)} of {len(expected)} tensors, the first {lacking[0]}: "
            "a file of another network, or in int8"
        )
    module.load_state_dict({name: tensors[name] for name in expected})
