"""The device's half of recognition: from an aligned crop to the codes that may leave the device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from duetface.errors import MessageError, ModelError
from duetface.frequency import block_dct, centred_ycbcr
from duetface.manifest import load_split
from duetface.quantisation import quantise
from duetface.region import coarsened, face_pixels
from duetface.spec import SplitSpec
from duetface.splitting import split
from duetface.types import AlignedFace, ProtectedFace


class Encoder:
    """Block DCT, split, client network, quantiser. Stateless after loading; safe to share between threads."""

    def __init__(self, spec: SplitSpec, session: onnxruntime.InferenceSession) -> None:
        """session: the client network that the spec's digest names; see load."""
        self.spec = spec
        self._session = session
        self._digest = spec.digest

    @classmethod
    def load(cls, split_folder: Path, threads: int = 1) -> Encoder:
        """Open a split's folder. Raises ModelError if a file is missing, damaged or of another kind."""
        spec = load_split(split_folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        path = split_folder / "client.onnx"
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        got = [output.name for output in session.get_outputs()]
        if got != list(spec.made_planes):
            raise ModelError(f"{path}: makes {got}, the split needs {list(spec.made_planes)}")
        return cls(spec, session)

    def encode(self, face: AlignedFace) -> ProtectedFace:
        """Split, look, quantise. Raises MessageError unless the crop is (112, 112, 3) uint8."""
        stays, goes = self.split(face.rgb_u8_hwc)
        values: dict[str, NDArray[np.floating]] = {"coefficients": goes, **self.made(stays, face.hull_px)}
        planes = {plane.name: quantise(values[plane.name], plane) for plane in self.spec.planes}
        return ProtectedFace(self._digest, planes)

    def split(self, rgb_u8_hwc: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The crop's DCT channels: what stays (3 * client, K, K), what goes (3 * server, K, K)."""
        expected = (self.spec.crop, self.spec.crop, 3)
        if rgb_u8_hwc.shape != expected or rgb_u8_hwc.dtype != np.uint8:
            raise MessageError(f"crop is {rgb_u8_hwc.shape} {rgb_u8_hwc.dtype}, expected {expected} uint8 RGB")
        channels = block_dct(centred_ycbcr(rgb_u8_hwc), self.spec.upsampling)
        return split(channels, self.spec.client_channels, self.spec.server_channels)

    def made(self, stays: NDArray[np.float64], hull_px: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """What the client network makes of the channels that stay: plane name -> (C, k, k) float32, before rounding.

        Masks, where to look, in [0, 1]; or the codes of a learned split.

        stays: the client's channels.  hull_px: (K, 2) convex hull of the face in crop pixels.
        """
        grids, names = self.spec.mask_grids, self.spec.made_planes
        pixels = face_pixels(hull_px)
        regions = {f"region_{grid}": coarsened(pixels, grid)[None, None] for grid in grids.values()}
        made = self._session.run(list(names), {"channels": stays[None].astype(np.float32), **regions})
        return {name: values[0] for name, values in zip(names, made, strict=True)}
