"""Find faces: BlazeFace by LiteRT, its anchors decoded and its overlapping answers blended.

V. Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs", CVPR
workshops 2019.  The file is MediaPipe's 256 x 256 "back camera" model.  Anchors and decoding
follow MediaPipe's ssd_anchors_calculator.cc and tensors_to_detections_calculator.cc with the
options of face_detection_back (strides 16, 32, 32, 32, two anchors a layer, fixed size).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.litert import LiteRtModel

# (stride in input pixels, anchors a cell): one layer of stride 16 and three of 32, two anchors each.
ANCHOR_LAYERS: Final = ((16, 2), (32, 6))
MINIMUM_SCORE: Final = 0.5  # MediaPipe's min_score_thresh for this model
BLEND_OVERLAP: Final = 0.3  # MediaPipe's min_suppression_threshold
WHOLE_SHARE: Final = 0.9  # of a box inside the picture: who is cut off by its edge is not whom it is about
RIVAL_AREA: Final = 0.5  # a second face counts from half the first one's area on
RIVAL_SCORE: Final = 0.7  # and only as clearly a face as each of the 420 persons of lfw_raw_dev (lowest 0.71)
LOGIT_LIMIT: Final = 80.0  # beyond it the sigmoid overflows float32

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Detection:
    """One face.

    box_xyxy_px: (4,) float32 left, top, right, bottom in picture pixels; may reach outside it.
    score: in (0, 1).
    keypoints_px: (6, 2) float32: eye, eye, nose tip, mouth, ear, ear; the picture's left side first.
    """

    box_xyxy_px: Floats
    score: float
    keypoints_px: Floats

    @property
    def width_px(self) -> float:
        """Width of the box."""
        return float(self.box_xyxy_px[2] - self.box_xyxy_px[0])

    @property
    def height_px(self) -> float:
        """Height of the box."""
        return float(self.box_xyxy_px[3] - self.box_xyxy_px[1])

    @property
    def area_px(self) -> float:
        """Area of the box in square pixels."""
        return self.width_px * self.height_px

    def inside_share(self, picture_shape: tuple[int, ...]) -> float:
        """Share of the box that lies inside a picture (H, W, ...), in [0, 1]."""
        high = np.minimum(self.box_xyxy_px[2:], [picture_shape[1], picture_shape[0]])
        sides = np.clip(high - np.maximum(self.box_xyxy_px[:2], 0.0), 0.0, None)
        return float(sides[0] * sides[1]) / max(self.area_px, 1e-9)

    @property
    def centre_px(self) -> Floats:
        """(2,) float32: x, y of the middle of the box."""
        return (self.box_xyxy_px[:2] + self.box_xyxy_px[2:]) / np.float32(2)


class FaceDetector:
    """BlazeFace; one instance serves one thread."""

    def __init__(self, model: LiteRtModel) -> None:
        self._model = model
        self._anchors = anchors(model.input_width)

    @classmethod
    def load(cls, models_root: Path, threads: int = 1) -> "FaceDetector":
        """Open models/detector's face detector; raises ModelError if it is missing or altered."""
        return cls(LiteRtModel.load(models_root, "face_detector", threads))

    def detect(self, rgb_u8_hwc: NDArray[np.uint8]) -> list[Detection]:
        """Return the faces of a picture (H, W, 3) uint8 RGB of any size, the largest first.

        Raises ValueError if it is not such a picture.
        """
        if rgb_u8_hwc.ndim != 3 or rgb_u8_hwc.shape[2] != 3 or rgb_u8_hwc.dtype != np.uint8:
            raise ValueError(f"expected a uint8 RGB picture, got {rgb_u8_hwc.dtype} {rgb_u8_hwc.shape}")
        canvas, scale, offset_px = letterbox(rgb_u8_hwc, self._model.input_width)
        boxes, logits = self._model.run(canvas[None].astype(np.float32) / 127.5 - 1.0)
        corners, scores = self._decode(boxes[0], logits[0, :, 0])
        found = [_in_picture(points, score, scale, offset_px) for points, score in _blended(corners, scores)]
        return sorted(found, key=lambda face: face.area_px, reverse=True)

    def _decode(self, regressors: Floats, logits: Floats) -> tuple[Floats, Floats]:
        """Return (N, 8, 2) points in input pixels (two corners, six key points) and (N,) scores."""
        scores = 1.0 / (1.0 + np.exp(-np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT)))
        sure = scores >= MINIMUM_SCORE
        points = regressors[sure].reshape(-1, 8, 2)
        centre = points[:, :1] + self._anchors[sure, None]
        half = points[:, 1:2] / 2
        keypoints = points[:, 2:] + self._anchors[sure, None]
        decoded = np.concatenate([centre - half, centre + half, keypoints], axis=1)
        return decoded.astype(np.float32), scores[sure].astype(np.float32)


def principal(faces: list[Detection], picture_shape: tuple[int, ...]) -> tuple[Detection | None, bool]:
    """Return the face that a picture (H, W, ...) is about, and whether another one rivals it.

    faces: largest first.  The largest that is whole comes first; None if there is no face.
    """
    whole = [face for face in faces if face.inside_share(picture_shape) >= WHOLE_SHARE]
    if not whole:
        return (faces[0] if faces else None), False
    first, others = whole[0], whole[1:]
    rivalled = any(o.area_px >= RIVAL_AREA * first.area_px and o.score >= RIVAL_SCORE for o in others)
    return first, rivalled


def anchors(input_px: int) -> Floats:
    """Return (896, 2) float32 anchor centres x, y in input pixels, in the network's output order."""
    centres = []
    for stride, anchors_a_cell in ANCHOR_LAYERS:
        middles = (np.arange(input_px // stride) + 0.5) * stride
        grid = np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2)  # rows of x, y
        centres.append(np.repeat(grid, anchors_a_cell, axis=0))
    return np.concatenate(centres).astype(np.float32)


def letterbox(rgb_u8_hwc: NDArray[np.uint8], side_px: int) -> tuple[NDArray[np.uint8], float, Floats]:
    """Fit a picture into a black square; returns it, the scale, and the (2,) x, y of its corner."""
    height, width = rgb_u8_hwc.shape[:2]
    scale = side_px / max(height, width)
    fitted = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    left, top = (side_px - fitted[0]) // 2, (side_px - fitted[1]) // 2
    canvas = np.zeros((side_px, side_px, 3), np.uint8)
    canvas[top : top + fitted[1], left : left + fitted[0]] = cv2.resize(rgb_u8_hwc, fitted, interpolation=method)
    return canvas, scale, np.array([left, top], np.float32)


def overlaps(box: Floats, boxes: Floats) -> Floats:
    """Return (N,) intersection over union of one box (4,) with boxes (N, 4), corners x, y, x, y."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    area = np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - shared
    return np.asarray(shared / np.maximum(area, 1e-9), dtype=np.float32)


def _blended(points: Floats, scores: Floats) -> list[tuple[Floats, float]]:
    """Merge overlapping answers by their score (the paper's section 3.3), the surest first."""
    merged = []
    waiting = np.argsort(-scores)
    boxes = points[:, :2].reshape(-1, 4)
    while waiting.size:
        best = waiting[0]
        same = overlaps(boxes[best], boxes[waiting]) > BLEND_OVERLAP
        same[0] = True  # a box of no area does not overlap even itself
        weights = scores[waiting[same]]
        blend = np.average(points[waiting[same]], axis=0, weights=weights)
        merged.append((blend.astype(np.float32), float(scores[best])))
        waiting = waiting[~same]
    return merged


def _in_picture(points: Floats, score: float, scale: float, offset_px: Floats) -> Detection:
    """Take (8, 2) input points back to the picture; pixel centres lie at whole numbers."""
    placed = ((points - offset_px) / scale - 0.5).astype(np.float32)
    return Detection(placed[:2].reshape(4), score, placed[2:])
