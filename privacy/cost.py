"""What a split costs: the device's multiply-accumulates, the bytes of a message, the accuracy that is left."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
from onnx import numpy_helper, shape_inference

from duetface.errors import ModelError
from duetface.spec import SplitSpec
from privacy.judges import Interval
from privacy.linkage import accuracy, similarities
from privacy.pack import Pack
from privacy.record import Result, names_of, sizes


def multiply_accumulates(network: Path) -> int:
    """Of the convolutions and matrix products of an ONNX network, for one face.

    Raises ModelError if a shape stays unknown.
    """
    graph = shape_inference.infer_shapes(onnx.load(str(network))).graph
    weights = {item.name: numpy_helper.to_array(item).shape for item in graph.initializer}
    shapes = {
        value.name: [dimension.dim_value or 1 for dimension in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output)
    }
    total = 0
    for node in graph.node:
        if node.op_type == "Conv":
            if node.output[0] not in shapes:
                raise ModelError(f"{network}: the shape of {node.output[0]} is unknown")
            total += math.prod(shapes[node.output[0]]) * math.prod(weights[node.input[1]][1:])
        elif node.op_type in ("Gemm", "MatMul") and node.input[1] in weights:
            total += math.prod(weights[node.input[1]])
    return total


def verification_accuracy(pack: Pack, which: str, seed: int) -> Interval:
    """Accuracy on the victims' pairs by "template" (the split's) or "teacher" (unprotected), with its interval."""
    embeddings = pack.victim.template if which == "template" else pack.victim.teacher
    if embeddings.shape[1] == 0:
        raise ModelError(f"split {pack.meta['split']} has no template space in models/: export one first")
    return accuracy(*similarities(embeddings, pack.victim.names, pack.pairs), seed)


def cost(pack: Pack, spec: SplitSpec, models: Path, seed: int) -> Result:
    """Accuracy left and lost, bytes, and the device's work, as one result: the other axes of the frontier."""
    metrics: dict[str, Interval | float] = {
        "message_bytes": float(pack.victim.wire_bytes.mean()),
        "message_bytes_largest": float(pack.victim.wire_bytes.max()),
        "teacher_accuracy": verification_accuracy(pack, "teacher", seed),
    }
    if pack.victim.template.shape[1]:
        left, whole = verification_accuracy(pack, "template", seed), metrics["teacher_accuracy"]
        assert isinstance(whole, Interval)
        metrics |= {"accuracy": left, "accuracy_lost_points": 100 * (whole.mean - left.mean)}
    network = models / "splits" / spec.name / "client.onnx"
    if network.exists():
        metrics["client_macs"] = multiply_accumulates(network)
    n = {**sizes(len(pack.victim.names), len(set(pack.victim_people)), 0), "comparisons": len(pack.pairs)}
    return Result("cost", "", **names_of(spec), seed=seed, n=n, metrics=metrics)
