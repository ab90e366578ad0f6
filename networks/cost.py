"""What a network costs a machine, counted on its ONNX file."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
from onnx import shape_inference

from duetface.errors import ModelError

Shapes = dict[str, list[int]]


def multiply_accumulates(network: Path) -> int:
    """Of the convolutions and matrix products of an ONNX network, for one face.

    Raises ModelError if a shape stays unknown.
    """
    model = onnx.load(str(network))
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_value = 1  # one face: then reshapes can be followed too
    del model.graph.value_info[:]
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = _shapes(graph)
    try:
        return sum(_of_node(node, shapes) for node in graph.node)
    except KeyError as error:
        raise ModelError(f"{network}: the shape of {error} is unknown") from error


def _of_node(node: onnx.NodeProto, shapes: Shapes) -> int:
    if node.op_type == "Conv":  # each output sees its group's inputs through one kernel
        return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "ConvTranspose":  # each input is spread by its kernels
        return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type in ("Gemm", "MatMul"):
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    return 0


def _shapes(graph: onnx.GraphProto) -> Shapes:
    """By name, of every value, constant and weight that is known to the last dimension."""
    shapes: Shapes = {item.name: list(item.dims) for item in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                shapes[node.output[0]] = list(attribute.t.dims)
    for value in (*graph.value_info, *graph.input, *graph.output):
        dimensions = value.type.tensor_type.shape.dim
        # Only the batch may be open: anything else unknown would be counted as one and make the network look cheap.
        if dimensions and all(dimension.dim_value for dimension in dimensions[1:]):
            shapes.setdefault(value.name, [dimensions[0].dim_value or 1, *(d.dim_value for d in dimensions[1:])])
    return shapes
