"""The message from its template: where the service's network is one linear layer, the codes can be computed back.

A message whose codes are found again in its template tells nothing that the template does not tell. So this attack
is the one whose success is good news: it proves what trained attackers can only suggest (docs/method.md 9).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from duetface.errors import ModelError
from duetface.spec import PlaneSpec

Floats = NDArray[np.float64]

# Codes have unit variance before rounding; rounding and saturation change their length by some hundredths.
LENGTHS = np.linspace(0.9, 1.05, 301)
ROWS = 32  # faces at a time: 301 lengths of 512 values each


@dataclass(frozen=True)
class LinearLayer:
    """embedding ~ weight @ codes + bias, brought to unit length.  weight: (D, D).  bias: (D,)."""

    weight: Floats
    bias: Floats

    @staticmethod
    def read(server: Path) -> LinearLayer:
        """From server.onnx. Raises ModelError for a network that is not one square layer in float32."""
        graph = onnx.load(str(server)).graph
        layers = [node for node in graph.node if node.op_type == "Gemm"]
        others = {node.op_type for node in graph.node} & {"Conv", "PRelu", "QuantizeLinear", "MatMul", "ConvTranspose"}
        arrays = {item.name: numpy_helper.to_array(item).astype(np.float64) for item in graph.initializer}
        if len(layers) != 1 or others or any(name not in arrays for name in layers[0].input[1:]):
            raise ModelError(f"{server}: only a network of one linear layer in float32 can be turned back")
        weight, bias = (arrays[name] for name in layers[0].input[1:])
        if weight.shape[0] != weight.shape[1]:
            raise ModelError(f"{server}: a layer of {weight.shape} loses something, it cannot be turned back")
        return LinearLayer(weight, bias)

    @property
    def condition(self) -> float:
        """Largest over smallest singular value: how many times smaller than others a direction may arrive."""
        return float(np.linalg.cond(self.weight))


def rebuilt_codes(template: NDArray[np.floating], layer: LinearLayer, plane: PlaneSpec) -> NDArray[np.int64]:
    """(N, D) templates of unit length -> the (N, D) codes that they were made of.

    The layer is undone up to one factor a face, its length before it was brought to one. Codes lie on a grid, so of
    the lengths that codes can have the one is taken that comes closest to it.
    """
    (step,) = plane.scale
    top = 2 ** (plane.bits - 1) - 1
    found = np.empty(template.shape, np.int64)
    turned = np.linalg.solve(layer.weight, template.T).T.astype(np.float64)
    shift = np.linalg.solve(layer.weight, layer.bias).astype(np.float64)
    for start in range(0, len(template), ROWS):
        rows = turned[start : start + ROWS]
        values = _scale_of(rows, shift)[:, None, None] * LENGTHS[None, :, None] * rows[:, None] - shift
        codes = np.clip(np.rint(values / step), -top, top)
        distance = np.square(values / step - codes).sum(axis=2)
        best = distance.argmin(axis=1)
        found[start : start + ROWS] = codes[np.arange(len(rows)), best]
    return found


def _scale_of(rows: Floats, shift: Floats) -> Floats:
    """The factor s of each row at which |s row - shift| is the length of D codes of unit variance."""
    a, b = np.square(rows).sum(axis=1), rows @ shift
    c = shift @ shift - rows.shape[1]
    scale: Floats = (b + np.sqrt(np.maximum(b**2 - a * c, 0))) / a
    return scale
