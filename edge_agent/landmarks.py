"""Face mesh: 468 points on a face, its outline, and five points that agree with YuNet's.

Y. Kartynnik et al., "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs",
CVPR workshops 2019. The vertices are numbered as in MediaPipe's canonical face model.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from duetface.alignment import Transform, transform_points, warp
from edge_agent.detector import Detection
from edge_agent.five_points import five_points
from edge_agent.litert import LiteRtModel

__all__ = ["FaceMesh", "Mesh", "five_points", "hull", "region_transform"]

VERTICES: Final = 468
REGION_GROWTH: Final = 1.5

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Mesh:
    """points_px: (468, 2) float32, x then y, in pixels of the region that was looked at (pixel
    centres at whole numbers).  depth_px: (468,) float32, the same unit, smaller is nearer to the
    camera, 0 at the head's centre of mass.  presence: in [0, 1], that the region holds a face.
    """

    points_px: Floats
    depth_px: Floats
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
        resized = cv2.resize(rgb_u8_hwc, (size, size), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
        coordinates, presence_logit = self._model.run(resized[None].astype(np.float32) / 255.0)
        vertices = coordinates.reshape(VERTICES, 3) * np.float32(side / size)
        # The network counts from the corner of the first pixel, we count from its centre.
        points_px = vertices[:, :2] - np.float32(0.5)
        logit = float(np.clip(presence_logit.reshape(-1)[0], -80.0, 80.0))
        return Mesh(points_px, vertices[:, 2], 1.0 / (1.0 + float(np.exp(-logit))))

    def place(self, rgb_u8_hwc: NDArray[np.uint8], detection: Detection) -> Mesh:
        """Return the mesh of a detected face in the pixels of the whole picture."""
        side = self._model.input_width
        to_region = region_transform(detection, side)
        mesh = self.detect(warp(rgb_u8_hwc, to_region, side, border="edge"))
        to_picture = np.asarray(cv2.invertAffineTransform(to_region), dtype=np.float64)
        scale = np.float32(np.hypot(to_picture[0, 0], to_picture[1, 0]))
        return Mesh(transform_points(to_picture, mesh.points_px), mesh.depth_px * scale, mesh.presence)


def region_transform(detection: Detection, side_px: int) -> Transform:
    """Return the transform from the picture to an upright square around a found face.

    Turned so that the eyes are level and grown to 1.5 times the box, as the mesh was trained
    (MediaPipe, face_detection_front_detection_to_roi.pbtxt).
    """
    eye_line = detection.keypoints_px[1] - detection.keypoints_px[0]
    angle = float(np.arctan2(eye_line[1], eye_line[0]))
    scale = side_px / max(REGION_GROWTH * max(detection.width_px, detection.height_px), 1.0)
    cosine, sine = np.cos(angle) * scale, np.sin(angle) * scale
    turn = np.array([[cosine, sine], [-sine, cosine]])
    middle = np.full(2, (side_px - 1) / 2.0)
    return np.column_stack([turn, middle - turn @ detection.centre_px])


def hull(points_px: Floats) -> Floats:
    """Return the convex outline (K, 2) float32 of points (N, 2), in order around it."""
    outline = cv2.convexHull(np.ascontiguousarray(points_px, dtype=np.float32))
    return np.asarray(outline, dtype=np.float32).reshape(-1, 2)
