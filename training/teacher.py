"""The teacher as an oracle on ONNX Runtime: fast, and in the precision in which it was published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from networks.teacher import read_teacher


class TeacherEmbedder:
    """Crops -> embeddings of unit length."""

    def __init__(self, path: Path, threads: int) -> None:
        """path: .onnx or .onnx.xz of a network with one input (x - 127.5) / 127.5."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        model = read_teacher(path).SerializeToString()
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def __call__(self, rgb_u8_nhwc: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, 112, 112, 3) uint8 RGB -> (B, 512) float32."""
        pictures = (np.asarray(rgb_u8_nhwc).transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 127.5
        (embeddings,) = self._session.run(None, {self._session.get_inputs()[0].name: pictures})
        return np.asarray(embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True), np.float32)
