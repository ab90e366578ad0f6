"""The server network: protected faces in, embeddings out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from duetface.errors import ContractError, MessageError, ModelError
from duetface.manifest import SpaceManifest, load_space
from duetface.quantisation import decode
from duetface.spec import SplitSpec
from duetface.types import ProtectedFace


class Embedder:
    """One template space's network on ONNX Runtime. Blocking; deterministic whatever the batch size."""

    def __init__(self, space: SpaceManifest, split: SplitSpec, session: onnxruntime.InferenceSession) -> None:
        """session: the server network that the space's digest names; see load."""
        self.space_digest = space.digest
        self.dimension = space.dimension
        self._split = split
        self._split_digest = split.digest
        self._session = session

    @classmethod
    def load(cls, space_folder: Path, split: SplitSpec, threads: int = 1) -> Embedder:
        """Open a space's folder for one split.

        Raises ModelError if a file is missing, damaged, or made for another split.
        """
        space = load_space(space_folder)
        if space.split_digest != split.digest:
            raise ModelError(f"{space_folder} reads split {space.split_digest.hex()[:16]}, not {split.name}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        path = space_folder / space.server_file
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        got = {item.name for item in session.get_inputs()}
        if got != {plane.name for plane in split.planes}:
            raise ModelError(f"{path}: reads {sorted(got)}, the split sends {[p.name for p in split.planes]}")
        return cls(space, split, session)

    def embed(self, faces: Sequence[ProtectedFace]) -> NDArray[np.float32]:
        """Embeddings of unit length, (B, 512) float32, in the order of the faces; (0, 512) for none.

        Raises ContractError for a face of another split, MessageError for one whose embedding has no length.
        """
        if not faces:
            return np.zeros((0, self.dimension), np.float32)
        for face in faces:
            if face.split_digest != self._split_digest:
                raise ContractError(f"face of split {face.split_digest.hex()[:16]}, expected {self._split.name}")
        planes = {
            plane.name: np.stack([decode(face.planes[plane.name], plane) for face in faces])  # (B, C, H, W)
            for plane in self._split.planes
        }
        (embeddings,) = self._session.run(["embedding"], planes)
        lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
        if not (lengths > 0.5).all():  # NaN fails too; the network ends in a division by the length
            raise MessageError("a face gives no embedding: its planes hold nothing")
        return np.asarray(embeddings / lengths, np.float32)
