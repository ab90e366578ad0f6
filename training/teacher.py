"""The teacher as an oracle: on ONNX Runtime, or in torch where that is not installed or a GPU is at hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from networks.teacher import load_teacher, read_teacher

Teacher = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""(B, 112, 112, 3) uint8 RGB -> (B, 512) of unit length."""


def teacher_at_hand(path: Path, device: torch.device) -> TeacherEmbedder | TorchTeacher:
    """The one that is quick here: on a CPU a thread of ONNX Runtime beside the training, else the GPU."""
    return TeacherEmbedder(path, threads=1) if device.type == "cpu" else TorchTeacher(path, device)


class TeacherEmbedder:
    """Crops -> embeddings of unit length."""

    def __init__(self, path: Path, threads: int) -> None:
        """path: .onnx or .onnx.xz of a network with one input (x - 127.5) / 127.5."""
        import onnxruntime  # a lent GPU machine has none

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        model = read_teacher(path).SerializeToString()
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def __call__(self, rgb_u8_nhwc: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, 112, 112, 3) uint8 RGB -> (B, 512) float32."""
        pictures = (np.asarray(rgb_u8_nhwc).transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 127.5
        (embeddings,) = self._session.run(None, {self._session.get_inputs()[0].name: pictures})
        return np.asarray(embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True), np.float32)


class TorchTeacher:
    """The same in torch."""

    def __init__(self, path: Path, device: torch.device) -> None:
        """path: .onnx or .onnx.xz of a MobileFaceNet."""
        self._network, self._device = load_teacher(path).to(device), device

    @torch.no_grad()
    def __call__(self, rgb_u8_nhwc: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, 112, 112, 3) uint8 RGB -> (B, 512) float32."""
        pictures = torch.from_numpy(np.asarray(rgb_u8_nhwc)).to(self._device).permute(0, 3, 1, 2).float()
        embeddings = torch.nn.functional.normalize(self._network((pictures - 127.5) / 127.5), dim=1)
        return np.asarray(embeddings.cpu().numpy(), np.float32)
