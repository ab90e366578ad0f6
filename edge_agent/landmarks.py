"""Face mesh: 468 points on a face, its outline, and five points that agree with YuNet's.

Y. Kartynnik et al., "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs",
CVPR workshops 2019. The vertices are numbered as in MediaPipe's canonical face model.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.litert import LiteRtModel

VERTICES = 468


@dataclass(frozen=True)
class Mesh:
    """points_px: (468, 2) float32, x then y, in pixels of the region that was looked at (pixel
    centres at whole numbers).  depth_px: (468,) float32, the same unit, smaller is nearer to the
    camera, 0 at the head's centre of mass.  presence: in [0, 1], that the region holds a face.
    """

    points_px: NDArray[np.float32]
    depth_px: NDArray[np.float32]
    presence: float


class FaceMesh:
    """The face mesh network by LiteRT; one instance serves one thread."""

    def __init__(self, model: LiteRtModel) -> None:
        self._model = model

    @classmethod
    def load(cls, models_root: Path, threads: int = 1) -> "FaceMesh":
        """Open models/detector's mesh file; raises ModelError if it is missing or altered."""
        return cls(LiteRtModel.load(models_root, "face_mesh", threads))

    def detect(self, rgb_u8_hwc: NDArray[np.uint8]) -> Mesh:
        """Place the mesh on the one face of a square region.

        rgb_u8_hwc: (S, S, 3) uint8; the mesh is most exact where the face is upright and its box
        fills two thirds of the region, but it follows a face that fills all of it as well.
        Raises ValueError if the region is not square.
        """
        side = rgb_u8_hwc.shape[0]
        if rgb_u8_hwc.shape != (side, side, 3) or rgb_u8_hwc.dtype != np.uint8 or side == 0:
            raise ValueError(f"expected a square uint8 RGB region, got {rgb_u8_hwc.shape}")
        size = self._model.input_width
        shrinking = side > size
        resized = cv2.resize(
            rgb_u8_hwc, (size, size), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
        )
        coordinates, presence_logit = self._model.run(resized[None].astype(np.float32) / 255.0)
        vertices = coordinates.reshape(VERTICES, 3) * np.float32(side / size)
        # The network counts from the corner of the first pixel, we count from its centre.
        points_px = vertices[:, :2] - np.float32(0.5)
        logit = float(np.clip(presence_logit.reshape(-1)[0], -80.0, 80.0))
        return Mesh(points_px, vertices[:, 2], 1.0 / (1.0 + float(np.exp(-logit))))


def hull(points_px: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the convex outline (K, 2) float32 of points (N, 2), in order around it."""
    outline = cv2.convexHull(np.ascontiguousarray(points_px, dtype=np.float32))
    return outline.reshape(-1, 2).astype(np.float32)


def five_points(points_px: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (5, 2): eye, eye, nose, mouth corner, mouth corner; the picture's left side first.

    points_px: (468, 2) mesh points; the result is in the same pixels.
    """
    right_eye, left_eye = points_px[[33, 133]].mean(0), points_px[[263, 362]].mean(0)
    return np.stack([right_eye, left_eye, points_px[1], points_px[61], points_px[291]])
