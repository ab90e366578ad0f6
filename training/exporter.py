"""A run's networks as ONNX files in float32 or int8, and how far apart the forms are."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from duetface.errors import ConfigError
from duetface.spec import SplitSpec
from networks.equalise import equalise
from networks.export import client_inputs, export_client, export_server, parity
from networks.interaction import GatedInteraction
from networks.learned import LearnedClient
from networks.quantised import Feed, cosines, quantise_network
from networks.server import ServerNetwork
from training.datasets import CROP, Faces
from training.student import Student

SAMPLE, BATCH = 100, 10  # calibration faces, and as many held-out ones to compare on
SAME_ANSWER = 1e-4  # of two client files: less than a fiftieth of a mask's step


class Exporter:
    """Writes the files of one student; remembers the cosines of what it wrote in int8."""

    def __init__(self, student: Student, spec: SplitSpec, faces: Faces) -> None:
        """faces: their training rows calibrate the int8 files, their held-out ones compare."""
        self._student, self._spec, self._faces = student.eval(), spec, faces
        self.quantised: dict[str, tuple[float, float]] = {}

    def client(self, path: Path, precision: str) -> float:
        """Write client.onnx unless the file there answers alike; returns float32's largest difference from torch."""
        client = self._student.client
        assert client is not None
        if precision == "float32":
            names, shapes = client_inputs(self._spec)
            if path.exists() and (difference := parity(client, path, names, shapes)) < SAME_ANSWER:
                return difference
            return export_client(client, self._spec, path)
        client = copy.deepcopy(client)
        train, test = ([device for device, _ in group] for group in self._batches)
        if isinstance(client, LearnedClient):
            equalise(client.trunk, lambda: _run_client(client, train))
        with TemporaryDirectory() as folder:
            float_file = Path(folder) / "client.onnx"
            difference = export_client(client, self._spec, float_file)
            self._quantise("client", float_file, path, train, test)
        return difference

    def server(self, path: Path, precision: str) -> float:
        """Write server.onnx; returns float32's largest difference from torch."""
        if precision == "float32":
            return export_server(self._student.server, self._spec, path)
        server = copy.deepcopy(self._student.server)
        train, test = ([sent for _, sent in group] for group in self._batches)
        if isinstance(server, ServerNetwork):
            if any(isinstance(module, GatedInteraction) for module in server.modules()):
                raise ConfigError("a gated interactive block does not keep scales: there is no int8 form of it")
            equalise(server.trunk, lambda: [server(_tensors(feed)) for feed in train])
        with TemporaryDirectory() as folder:
            float_file = Path(folder) / "server.onnx"
            difference = export_server(server, self._spec, float_file)
            self._quantise("server", float_file, path, train, test)
        return difference

    def _quantise(self, name: str, float_file: Path, path: Path, train: Sequence[Feed], test: Sequence[Feed]) -> None:
        quantise_network(float_file, path, train)
        found = cosines(float_file, path, test)
        self.quantised[name] = (float(found.mean()), float(found.min()))

    @cached_property
    def _batches(self) -> tuple[list[tuple[Feed, Feed]], list[tuple[Feed, Feed]]]:
        """Training and held-out faces: what the client network reads, and what the server network reads."""
        train, held_out = self._faces.training_rows(), self._faces.held_out_rows()
        return self._feeds(_spread(train)), self._feeds(_spread(held_out))

    @torch.no_grad()
    def _feeds(self, rows: NDArray[np.int64]) -> list[tuple[Feed, Feed]]:
        return [self._feed(rows[i : i + BATCH]) for i in range(0, len(rows), BATCH)]

    def _feed(self, rows: NDArray[np.int64]) -> tuple[Feed, Feed]:
        half = self._student.device_half
        rgb = torch.from_numpy(np.stack([self._faces.crops[row] for row in rows])).permute(0, 3, 1, 2).float()
        packed = np.stack([np.unpackbits(self._faces.regions[row]).reshape(1, CROP, CROP) for row in rows])
        region = torch.from_numpy(packed).float()
        assert half.transform is not None
        stays, _ = half.transform(rgb)
        device = {"channels": stays.numpy()} | {
            f"region_{k}": nn.functional.avg_pool2d(region, CROP // k).numpy() for k in self._spec.mask_grids.values()
        }
        return device, {name: plane.numpy() for name, plane in half(rgb, region).items()}


def _spread(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows[:: max(1, len(rows) // SAMPLE)][:SAMPLE]


def _tensors(feed: Feed) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in feed.items()}


def _run_client(client: nn.Module, feeds: Sequence[Feed]) -> None:
    for feed in feeds:
        client(**_tensors(feed))
