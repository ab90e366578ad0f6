"""From torch to ONNX: the two files that are shipped, and how close they are to torch.

Opset 17, batch dynamic, weights float32. Input names of the server network are the plane names.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from duetface.spec import SplitSpec
from networks.mobile_face_net import PairedConvolution
from networks.server import ServerNetwork

OPSET = 17


class PlanesInOrder(nn.Module):
    """The server network with its planes as positional inputs, as ONNX wants them."""

    def __init__(self, server: ServerNetwork, names: Sequence[str]) -> None:
        """names: plane names in wire order."""
        super().__init__()
        self.server, self.names = server, tuple(names)

    def forward(self, *planes: Tensor) -> Tensor:
        """(B, C, H, W) each -> (B, 512) of unit length."""
        embedding: Tensor = self.server(dict(zip(self.names, planes, strict=True)))
        return embedding


def export_client(client: nn.Module, spec: SplitSpec, path: Path) -> float:
    """Write client.onnx; returns the largest difference of a mask or code from torch's on random input."""
    names, shapes = client_inputs(spec)
    return _export(without_zeros(client), path, names, shapes, list(spec.made_planes))


def without_zeros(network: nn.Module) -> nn.Module:
    """A copy whose paired convolutions are plain ones: what a device computes is what its work is counted by."""
    copied = copy.deepcopy(network)
    paired = [(name, module) for name, module in copied.named_modules() if isinstance(module, PairedConvolution)]
    for name, module in paired:
        parent, _, place = name.rpartition(".")
        setattr(copied.get_submodule(parent), place, module.plain())
    return copied


def client_inputs(spec: SplitSpec) -> tuple[list[str], list[tuple[int, ...]]]:
    """Names and shapes (C, H, W) of what a client network reads."""
    grids, blocks = spec.mask_grids.values(), spec.blocks
    names = ["channels", *(f"region_{grid}" for grid in grids)]
    return names, [(3 * len(spec.client_channels), blocks, blocks), *((1, k, k) for k in grids)]


def export_server(server: ServerNetwork, spec: SplitSpec, path: Path) -> float:
    """Write server.onnx; returns the largest difference of an embedding value from torch's on random input."""
    names = [plane.name for plane in spec.planes]
    return _export(PlanesInOrder(server, names), path, names, [plane.shape for plane in spec.planes], ["embedding"])


def _export(
    module: nn.Module, path: Path, inputs: list[str], shapes: Sequence[tuple[int, ...]], outputs: list[str]
) -> float:
    module = module.cpu().eval()
    examples = [torch.from_numpy(array) for array in random_inputs(shapes, batch=2)]
    dynamic = {name: {0: "batch"} for name in [*inputs, *outputs]}
    with warnings.catch_warnings(), torch.no_grad():
        # The tracing exporter writes plain, small graphs and needs nothing more; the newer one needs onnxscript.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            module, tuple(examples), str(path), input_names=inputs, output_names=outputs, dynamic_axes=dynamic,
            opset_version=OPSET, do_constant_folding=True, dynamo=False,
        )  # fmt: skip
    onnx.checker.check_model(onnx.load(str(path)), full_check=True)
    return parity(module, path, inputs, shapes)


def parity(
    module: nn.Module, path: Path, inputs: list[str], shapes: Sequence[tuple[int, ...]], batch: int = 3
) -> float:
    """Largest absolute difference between torch and ONNX Runtime on seeded random input."""
    arrays = random_inputs(shapes, batch)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    got = session.run(None, dict(zip(inputs, arrays, strict=True)))
    with torch.no_grad():
        expected = module(*(torch.from_numpy(array) for array in arrays))
    pairs = zip(got, expected if isinstance(expected, tuple) else (expected,), strict=True)
    return max(float(np.abs(a - b.numpy()).max()) for a, b in pairs)


def random_inputs(shapes: Sequence[tuple[int, ...]], batch: int) -> list[NDArray[np.float32]]:
    """Seeded inputs: coefficients of some tens, masks and regions in [0, 1]."""
    random = np.random.default_rng(1)
    return [
        (random.random((batch, *shape)) if shape[0] == 1 else random.normal(0, 20, (batch, *shape))).astype(np.float32)
        for shape in shapes
    ]
