"""Multiply-accumulates against counting by hand."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from duetface.errors import ModelError
from networks import registry
from networks.cost import multiply_accumulates
from networks.export import export_server


def saved(
    path: Path, nodes: list[onnx.NodeProto], shape: tuple[object, ...], constants: dict[str, tuple[int, ...]]
) -> Path:
    """A graph from x to y."""
    weights = [helper.make_tensor(k, TensorProto.FLOAT, v, np.zeros(int(np.prod(v)))) for k, v in constants.items()]
    picture = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [picture], [made], weights)), path)
    return path


@pytest.mark.parametrize(
    ("operator", "shape", "weight", "expected"),
    [
        ("Conv", ("batch", 2, 8, 8), (4, 2, 3, 3), 6 * 6 * 4 * 2 * 9),
        ("ConvTranspose", ("batch", 2, 8, 8), (2, 4, 3, 3), 8 * 8 * 2 * 4 * 9),
        ("MatMul", ("batch", 3, 5, 7), (7, 11), 3 * 5 * 7 * 11),
        ("Gemm", ("batch", 7), (7, 11), 7 * 11),
    ],
)
def test_multiply_accumulates_of_one_layer(
    operator: str, shape: tuple[object, ...], weight: tuple[int, ...], expected: int, tmp_path: Path
) -> None:
    """One face of a batch."""
    path = saved(tmp_path / "n.onnx", [helper.make_node(operator, ["x", "w"], ["y"])], shape, {"w": weight})
    assert multiply_accumulates(path) == expected


def test_a_shape_that_stays_unknown_is_named(tmp_path: Path) -> None:
    """Counting what is known and leaving out the rest would flatter."""
    nodes = [helper.make_node("Conv", ["x", "absent"], ["y"])]
    with pytest.raises(ModelError, match=r"the shape of .* is unknown"):
        multiply_accumulates(saved(tmp_path / "n.onnx", nodes, ("batch", 2, 8, 8), {}))


@pytest.mark.parametrize("name", ["r1", "r2"])
def test_a_split_costs_the_service_hardly_more_than_the_plain_picture(name: str, tmp_path: Path) -> None:
    """At most a twentieth: the fixed inverse is all that the twin does not need."""
    counts = {}
    for split in (name, "twin"):
        spec = registry.split_named(split)
        _, server = registry.build(spec, None)
        export_server(server, spec, tmp_path / f"{split}.onnx")
        counts[split] = multiply_accumulates(tmp_path / f"{split}.onnx")
    assert counts[name] <= 1.05 * counts["twin"]
