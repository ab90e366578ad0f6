"""Pictures made from portraits: what cameras do to faces, each a pure function of (H, W, 3) uint8 RGB."""

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.detector import Detection
from edge_agent.landmarks import Mesh

Picture = NDArray[np.uint8]


def scaled(picture: Picture, factor: float) -> Picture:
    """Shrink or grow the whole picture."""
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(picture, None, fx=factor, fy=factor, interpolation=method)


def with_face_width(picture: Picture, face: Detection, width_px: float) -> Picture:
    """Scale so that the face's box gets this width."""
    return scaled(picture, width_px / face.width_px)


def in_frame(picture: Picture, face: Detection, width_px: float, centre: tuple[int, int]) -> Picture:
    """Place the picture in a 1280 x 720 frame of grey noise, its face of this width at `centre` (x, y)."""
    factor = width_px / face.width_px
    small = scaled(picture, factor)
    frame = np.random.default_rng(0).integers(90, 110, (720, 1280, 3), dtype=np.uint8)
    left, top = (round(float(at) - float(of) * factor) for at, of in zip(centre, face.centre_px, strict=True))
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + small.shape[1], 1280), min(top + small.shape[0], 720)
    frame[y0:y1, x0:x1] = small[y0 - top : y1 - top, x0 - left : x1 - left]
    return frame


def blurred(picture: Picture, sigma_px: float) -> Picture:
    """Out of focus."""
    return cv2.GaussianBlur(picture, (0, 0), sigma_px)


def moved(picture: Picture, length_px: int) -> Picture:
    """Blurred by a movement to the side."""
    kernel = np.zeros((length_px, length_px), np.float32)
    kernel[length_px // 2] = 1.0 / length_px
    return cv2.filter2D(picture, -1, kernel)


def lit(picture: Picture, gain: float, offset: float = 0.0) -> Picture:
    """With more or less light; what is too bright saturates."""
    return np.clip(picture * gain + offset, 0, 255).astype(np.uint8)


def hazed(picture: Picture) -> Picture:
    """Through a dirty lens: hardly any contrast left."""
    return np.clip(picture * 0.08 + 140, 0, 255).astype(np.uint8)


def cut_at(picture: Picture, face: Detection, share: float) -> Picture:
    """Without the left part, which holds this share of the face's width."""
    return np.ascontiguousarray(picture[:, round(float(face.box_xyxy_px[0]) + share * face.width_px) :])


def side_by_side(left: Picture, right: Picture) -> Picture:
    """Two pictures of one height beside each other."""
    height = min(left.shape[0], right.shape[0])
    return np.hstack([scaled_to_height(left, height), scaled_to_height(right, height)])


def scaled_to_height(picture: Picture, height: int) -> Picture:
    """Scale to exactly this height."""
    return cv2.resize(
        picture, (round(picture.shape[1] * height / picture.shape[0]), height), interpolation=cv2.INTER_AREA
    )


def turned(picture: Picture, mesh: Mesh, yaw_deg: float) -> Picture:
    """The head turned to the side: the mesh carries the picture and is drawn again from another side."""
    solid = np.column_stack([mesh.points_px, mesh.depth_px])  # (468, 3)
    centre, angle = solid.mean(axis=0), np.radians(yaw_deg)
    x, z = solid[:, 0] - centre[0], solid[:, 2] - centre[2]
    target = np.column_stack([centre[0] + x * np.cos(angle) + z * np.sin(angle), solid[:, 1]]).astype(np.float32)
    depth = z * np.cos(angle) - x * np.sin(angle)
    canvas = blurred(picture, 25.0)
    triangles = triangles_of(mesh.points_px)
    for corners in triangles[np.argsort(-depth[triangles].mean(axis=1))]:  # the farthest first
        draw_triangle(canvas, picture, mesh.points_px[corners], target[corners])
    return canvas


def triangles_of(points_px: NDArray[np.float32]) -> NDArray[np.int64]:
    """Delaunay triangles (T, 3) of points (N, 2), as indices."""
    low = points_px.min(axis=0) - 10
    width, height = (points_px.max(axis=0) - low + 10).astype(int)
    subdivision = cv2.Subdiv2D((0, 0, int(width), int(height)))
    for point in points_px - low:
        subdivision.insert((float(point[0]), float(point[1])))
    corners = np.array(subdivision.getTriangleList()).reshape(-1, 3, 2) + low
    return np.linalg.norm(corners[:, :, None] - points_px, axis=3).argmin(axis=2)


def draw_triangle(canvas: Picture, picture: Picture, source: NDArray[np.float32], target: NDArray[np.float32]) -> None:
    """Copy one triangle of a picture to its new place."""
    transform = cv2.getAffineTransform(source, target)
    left, top = np.floor(target.min(axis=0)).astype(int)
    width, height = np.ceil(target.max(axis=0)).astype(int) - (left, top) + 1
    transform[:, 2] -= (left, top)
    patch = cv2.warpAffine(picture, transform, (int(width), int(height)), borderMode=cv2.BORDER_REPLICATE)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(mask, np.rint(target - (left, top)).astype(np.int32), (1,))
    canvas[top : top + height, left : left + width][mask > 0] = patch[mask > 0]
