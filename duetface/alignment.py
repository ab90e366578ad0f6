"""Cut a face out and turn it to the ArcFace template; the only module of `duetface` with OpenCV.

The template's five points are those of InsightFace's `arcface_dst` (J. Deng et al., "ArcFace",
CVPR 2019): every crop that the networks saw in training was turned to them.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

CROP_PX: Final = 112

# x, y in crop pixels: eye, eye, nose tip, mouth corner, mouth corner; the picture's left side first.
TEMPLATE_PX: Final[NDArray[np.float64]] = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)

Transform = NDArray[np.float64]
"""(2, 3) float64: takes x, y, 1 of the picture to x, y of the crop (pixel centres at whole numbers)."""


def similarity(source_px: NDArray[np.floating], target_px: NDArray[np.floating]) -> Transform:
    """Return the rotation, scale and shift that brings source nearest to target, least squares.

    source_px, target_px: (N, 2), N >= 2.  S. Umeyama, "Least-squares estimation of transformation
    parameters between two point patterns", PAMI 1991, eq. 40-42, in its closed form for the plane,
    where a reflection cannot arise.
    Raises ValueError if the points are not finite or all fall on one spot.
    """
    source, target = np.asarray(source_px, np.float64), np.asarray(target_px, np.float64)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    (x, y), (u, v) = (source - source_mean).T, (target - target_mean).T
    spread = float(x @ x + y @ y)
    if not np.isfinite(source).all() or spread < 1e-12:
        raise ValueError("a similarity needs finite points that do not all coincide")
    cosine, sine = float(x @ u + y @ v) / spread, float(x @ v - y @ u) / spread
    turn = np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([turn, target_mean - turn @ source_mean])


def transform_points(transform: Transform, points_px: NDArray[np.floating]) -> NDArray[np.float32]:
    """Apply a (2, 3) transform to (N, 2) points; returns (N, 2) float32."""
    return (points_px @ transform[:, :2].T + transform[:, 2]).astype(np.float32)


def crop_transform(five_points_px: NDArray[np.floating]) -> Transform:
    """Return the transform from picture to crop for five points (5, 2) in template order."""
    return similarity(five_points_px, TEMPLATE_PX)


def warp(
    rgb_u8_hwc: NDArray[np.uint8], transform: Transform, side_px: int = CROP_PX, *, border: str = "black"
) -> NDArray[np.uint8]:
    """Return the (side, side, 3) uint8 picture that `transform` maps `rgb_u8_hwc` to.

    border: "black" (as in the training crops) or "edge" (repeats the outermost pixels).
    Faces larger than twice the crop are averaged down first: bilinear sampling alone would fold
    detail finer than the crop's pixels back into the high frequencies that the service sees.
    """
    mode = {"black": cv2.BORDER_CONSTANT, "edge": cv2.BORDER_REPLICATE}[border]
    picture, transform = _shrunk(rgb_u8_hwc, np.asarray(transform, np.float64), side_px)
    warped = cv2.warpAffine(picture, transform, (side_px, side_px), flags=cv2.INTER_LINEAR, borderMode=mode)
    return np.asarray(warped, dtype=np.uint8)


def _shrunk(rgb_u8_hwc: NDArray[np.uint8], transform: Transform, side_px: int) -> tuple[NDArray[np.uint8], Transform]:
    """Average whole blocks of pixels where the transform shrinks by two or more."""
    factor = int(1.0 / max(float(np.hypot(transform[0, 0], transform[1, 0])), 1e-6))
    height, width = rgb_u8_hwc.shape[:2]
    if factor < 2:
        return rgb_u8_hwc, transform
    left, top, right, bottom = _source_box(transform, side_px, margin_px=2 * factor, limits=(width, height))
    columns, rows = (right - left) // factor, (bottom - top) // factor
    if columns < 1 or rows < 1:
        return rgb_u8_hwc, transform
    cut = rgb_u8_hwc[top : top + rows * factor, left : left + columns * factor]
    small = cv2.resize(cut, (columns, rows), interpolation=cv2.INTER_AREA)
    # A pixel p of the small picture is centred on (p + 1/2) * factor - 1/2 of the cut.
    centre = np.array([left, top]) + (factor - 1) / 2.0
    moved = np.column_stack([transform[:, :2] * factor, transform[:, :2] @ centre + transform[:, 2]])
    return np.asarray(small, dtype=np.uint8), moved


def _source_box(
    transform: Transform, side_px: int, margin_px: int, limits: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of the picture's part that the crop is drawn from."""
    inverse = np.asarray(cv2.invertAffineTransform(transform), dtype=np.float64)
    square = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float64) * side_px
    corners = transform_points(inverse, square)
    low = np.clip(np.floor(corners.min(axis=0)) - margin_px, 0, limits)
    high = np.clip(np.ceil(corners.max(axis=0)) + margin_px, 0, limits)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])
