"""What a pair of networks costs device and server: multiply-accumulates of the exported files, milliseconds a face."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime

from duetface.codec import encode_plane
from duetface.frequency import block_dct, centred_ycbcr
from duetface.quantisation import quantise
from duetface.spec import SplitSpec
from duetface.splitting import split
from networks.cost import multiply_accumulates
from networks.export import export_client, export_server, random_inputs
from training.student import Student

WARM_UP, REPEATS = 3, 20


@dataclass(frozen=True)
class Cost:
    """Of one face, batch 1, one thread.  client_ms: transform, client network, rounding and coding together.

    Zero milliseconds: not measured.
    """

    client_macs: int
    server_macs: int
    client_ms: float
    server_ms: float

    def to_dict(self) -> dict[str, float]:
        """Plain JSON values."""
        return asdict(self)


def measure(spec: SplitSpec, student: Student, time_it: bool = True) -> Cost:
    """Export to a temporary folder, count, and time on ONNX Runtime; the median of REPEATS."""
    with TemporaryDirectory() as folder:
        client_file, server_file = Path(folder) / "client.onnx", Path(folder) / "server.onnx"
        client_macs = 0
        if student.client is not None:
            export_client(student.client, spec, client_file)
            client_macs = multiply_accumulates(client_file)
        export_server(student.server, spec, server_file)
        server_macs = multiply_accumulates(server_file)
        if not time_it:
            return Cost(client_macs, server_macs, 0.0, 0.0)
        server = _session(server_file)
        planes = random_inputs([plane.shape for plane in spec.planes], batch=1)
        feed = dict(zip([plane.name for plane in spec.planes], planes, strict=True))
        client = _session(client_file) if student.client is not None else None
        return Cost(
            client_macs, server_macs, _median_ms(_device(spec, client)), _median_ms(lambda: server.run(None, feed))
        )


def _device(spec: SplitSpec, client: onnxruntime.InferenceSession | None) -> Callable[[], object]:
    """All that the device does to one crop after alignment."""
    rgb = np.random.default_rng(1).integers(0, 256, (spec.crop, spec.crop, 3)).astype(np.uint8)
    regions = {f"region_{k}": np.ones((1, 1, k, k), np.float32) for k in spec.mask_grids.values()}

    def once() -> object:
        values = {"rgb": rgb.transpose(2, 0, 1) / 127.5 - 1}
        if spec.colour != "rgb":
            channels = block_dct(centred_ycbcr(rgb), spec.upsampling)
            stays, goes = split(channels, spec.client_channels, spec.server_channels)
            values = {"coefficients": goes}
            if client is not None:
                made = client.run(None, {"channels": stays[None].astype(np.float32), **regions})
                values |= {item.name: array[0] for item, array in zip(client.get_outputs(), made, strict=True)}
        return [encode_plane(quantise(values[plane.name], plane), plane) for plane in spec.planes]

    return once


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _median_ms(call: Callable[[], object]) -> float:
    times = []
    for _ in range(WARM_UP + REPEATS):
        begin = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - begin))
    return round(statistics.median(times[WARM_UP:]), 2)
