"""The teacher as an oracle: on ONNX Runtime, or in torch where that is not installed or quicker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from networks.teacher import load_teacher, read_teacher

Teacher = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""(B, 112, 112, 3) uint8 RGB -> (B, 512) of unit length."""


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

    def __init__(self, path: Path, device: torch.device, precision: torch.dtype = torch.float32) -> None:
        """path: .onnx or .onnx.xz of a MobileFaceNet.

        precision: of the convolutions. In bfloat16 an answer has a cosine of .9995 or more to float32's (128 faces).
        """
        self.network = load_teacher(path).to(device, memory_format=torch.channels_last)
        self._device, self._precision = device, precision

    @torch.no_grad()
    def __call__(self, rgb_u8_nhwc: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, 112, 112, 3) uint8 RGB -> (B, 512) float32."""
        pictures = torch.from_numpy(np.asarray(rgb_u8_nhwc)).to(self._device).permute(0, 3, 1, 2).float()
        with torch.autocast(self._device.type, self._precision, enabled=self._precision != torch.float32):
            answer = self.network(((pictures - 127.5) / 127.5).contiguous(memory_format=torch.channels_last))
        embeddings = torch.nn.functional.normalize(answer.float(), dim=1)
        return np.asarray(embeddings.cpu().numpy(), np.float32)
