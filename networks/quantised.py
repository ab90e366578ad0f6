"""Static int8 files by ONNX Runtime: weights per channel, activations by percentiles over calibration faces."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

Feed = Mapping[str, NDArray[np.float32]]

OPERATORS = ("Conv", "Gemm")
# The few coefficients of the fixed inverse and the picture-sized stem cost cosine and next to no bytes:
# on r1, 100 held-out faces, the mean is .988 with the stem and .993 without (equal ranges in both).
KEPT_IN_FLOAT = ("/inverse/", "/picture/", "/stem/")
PERCENTILE = 99.999  # of the calibration's values: the largest alone would stretch every step


def quantise_network(float_file: Path, int8_file: Path, feeds: Sequence[Feed]) -> None:
    """Write the int8 form of an ONNX network.  feeds: batches of its inputs by name, from training faces."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quiet = logging.getLogger()
    before = quiet.level
    quiet.setLevel(logging.ERROR)  # it warns of what it leaves in float, which is the point
    try:
        with TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            prepared = Path(folder) / "prepared.onnx"
            quant_pre_process(str(float_file), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared), str(int8_file), _Reader(feeds), quant_format=QuantFormat.QDQ, per_channel=True,
                op_types_to_quantize=list(OPERATORS), nodes_to_exclude=_kept(prepared),
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.Percentile, extra_options={"CalibPercentile": PERCENTILE},
            )  # fmt: skip
    finally:
        quiet.setLevel(before)


def _kept(path: Path) -> list[str]:
    return [node.name for node in onnx.load(str(path)).graph.node if any(part in node.name for part in KEPT_IN_FLOAT)]


class _Reader:
    """What quantize_static asks for its calibration faces."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._rest: Iterator[Feed] = iter(feeds)

    def get_next(self) -> Feed | None:
        """The next batch, None after the last."""
        return next(self._rest, None)


def cosines(first: Path, second: Path, feeds: Sequence[Feed]) -> NDArray[np.float64]:
    """(N,) cosine of the first outputs of two files, face by face, each output flattened."""
    sessions: list[Any] = [
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]) for path in (first, second)
    ]
    found = []
    for feed in feeds:
        a, b = (np.asarray(session.run(None, feed)[0], np.float64) for session in sessions)
        a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
        found.append((a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)))
    return np.concatenate(found)
