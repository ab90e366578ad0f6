"""The quality gate: what is wrong with a capture, told so that a person can mend it.

Components are named after ISO/IEC 29794-5:2025 (inter-eye distance, pose angles, sharpness, under- and
over-exposure prevention, dynamic range, single face present, cropping, occlusion).  All photometric
measures are taken on the 112 px crop inside the mesh's outline, so hair and background do not count.
"""

from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from duetface.alignment import CROP_PX, Transform
from duetface.types import AlignedFace, Quality
from edge_agent.detector import Detection
from edge_agent.landmarks import Mesh, hull

Floats = NDArray[np.float32]
SATURATED_LUMA = 250
FINE_SIGMA_PX, COARSE_SIGMA_PX = 1.0, 3.0  # bounds of the two octaves that sharpness compares, crop pixels
FULL_SHARPNESS = 0.36  # median fine detail ratio of lfw_raw_dev


class RetryReason(StrEnum):
    """Why a capture was not used; the value is what JSON lines and logs say."""

    NO_FACE = "no_face"
    SEVERAL_FACES = "several_faces"
    FACE_CUT_OFF = "face_cut_off"
    FACE_TOO_SMALL = "face_too_small"
    OCCLUDED = "occluded"
    TURNED_AWAY = "turned_away"
    TOO_DARK = "too_dark"
    TOO_BRIGHT = "too_bright"
    LOW_CONTRAST = "low_contrast"
    BLURRED = "blurred"

    @property
    def advice(self) -> str:
        """One sentence for the person in front of the camera."""
        return _ADVICE[self]


_ADVICE = {
    RetryReason.NO_FACE: "No face found: look at the camera.",
    RetryReason.SEVERAL_FACES: "Several faces of like size: one person at a time.",
    RetryReason.FACE_CUT_OFF: "The face is cut off by the picture's edge: move into the middle.",
    RetryReason.FACE_TOO_SMALL: "The face is too small: come closer.",
    RetryReason.OCCLUDED: "Part of the face is covered: uncover it.",
    RetryReason.TURNED_AWAY: "The face is turned away: look straight at the camera.",
    RetryReason.TOO_DARK: "The face is too dark: more light on the face.",
    RetryReason.TOO_BRIGHT: "The face is overexposed: less light, or a shorter exposure.",
    RetryReason.LOW_CONTRAST: "The face has too little contrast: clean the lens, avoid haze and glare.",
    RetryReason.BLURRED: "The face is blurred: hold still, or focus the camera.",
}


@dataclass(frozen=True)
class Measurement:
    """What was measured of one aligned face.

    crop_side_px: length of the crop's side in the picture, pixels; 3.2 times the distance between the eyes.
    visible_share: part of the mesh's outline that lies inside the picture, in [0, 1].
    presence: the mesh's own probability that this is a face, in [0, 1].
    yaw_deg, pitch_deg: turn to the side, and tilt down (negative) or up, degrees; estimates.
    luma_p5, luma_p95: percentiles of luma (BT.601), 0 to 255.  saturated_share: of luma 250 and more.
    fine_detail_ratio: detail finer than 1 px over detail of 1 to 3 px (standard deviations), of the less
        sharp of the two directions; independent of brightness and contrast.
    """

    crop_side_px: float
    visible_share: float
    presence: float
    yaw_deg: float
    pitch_deg: float
    luma_p5: float
    luma_p95: float
    saturated_share: float
    fine_detail_ratio: float


@dataclass(frozen=True)
class QualityPolicy:
    """Limits of one use.  Measured on the 420 pictures of lfw_raw_dev (250 x 250, news photographs);
    "lowest" and "highest" are of those pictures; `python -m benchmarks.capture_quality` repeats it.

    minimum_crop_side_px: at 56 the crop holds half its own resolution (lowest 86).
    minimum_visible_share: of the face's outline (lowest 1.00; a fifth of the face cut away: 0.89).
    minimum_presence: of a face, below it something covers it (lowest 0.99 of uncovered faces).
    maximum_yaw_deg, maximum_pitch_deg: turn from frontal (98 % within 45 and 24; highest 58 and 32).
    minimum_luma_p95: brightest part of the face, so that dark skin in good light passes (lowest 105; at a fifth
        of the light at most 47).
    maximum_saturated_share: lost to over-exposure (highest 0.01; at thrice the light 0.74).
    minimum_luma_range: luma_p95 - luma_p5 (lowest 51).
    minimum_fine_detail_ratio: sharpness (lowest 0.25; blurred with sigma 2 px or 7 px of motion at most 0.24).
    """

    minimum_crop_side_px: float = 56.0
    minimum_visible_share: float = 0.90
    minimum_presence: float = 0.90
    maximum_yaw_deg: float = 55.0
    maximum_pitch_deg: float = 35.0
    minimum_luma_p95: float = 60.0
    maximum_saturated_share: float = 0.20
    minimum_luma_range: float = 25.0
    minimum_fine_detail_ratio: float = 0.245

    def refusal(self, measured: Measurement) -> RetryReason | None:
        """Return the first reason to refuse, the easiest to see for the person first; None if all is well."""
        checks = (
            (measured.presence < 0.5, RetryReason.NO_FACE),
            (measured.visible_share < self.minimum_visible_share, RetryReason.FACE_CUT_OFF),
            (measured.crop_side_px < self.minimum_crop_side_px, RetryReason.FACE_TOO_SMALL),
            (measured.presence < self.minimum_presence, RetryReason.OCCLUDED),
            (abs(measured.yaw_deg) > self.maximum_yaw_deg, RetryReason.TURNED_AWAY),
            (abs(measured.pitch_deg) > self.maximum_pitch_deg, RetryReason.TURNED_AWAY),
            (measured.luma_p95 < self.minimum_luma_p95, RetryReason.TOO_DARK),
            (measured.saturated_share > self.maximum_saturated_share, RetryReason.TOO_BRIGHT),
            (measured.luma_p95 - measured.luma_p5 < self.minimum_luma_range, RetryReason.LOW_CONTRAST),
            (measured.fine_detail_ratio < self.minimum_fine_detail_ratio, RetryReason.BLURRED),
        )
        return next((reason for refused, reason in checks if refused), None)


VERIFICATION = QualityPolicy()
# A template is compared for years: what a door may still try is not good enough to be remembered.
ENROLMENT = QualityPolicy(
    minimum_crop_side_px=72.0,
    minimum_visible_share=0.95,
    maximum_yaw_deg=52.0,
    maximum_pitch_deg=32.0,
    minimum_luma_p95=75.0,
    maximum_saturated_share=0.15,
    minimum_luma_range=35.0,
    minimum_fine_detail_ratio=0.255,
)


def measure(
    face: AlignedFace, detection: Detection, mesh: Mesh, to_crop: Transform, picture_shape: tuple[int, ...]
) -> Measurement:
    """Measure an aligned face.

    detection, mesh: in the picture's pixels.  to_crop: picture to crop.  picture_shape: (H, W, ...).
    """
    luma = cv2.cvtColor(face.rgb_u8_hwc, cv2.COLOR_RGB2GRAY).astype(np.float32)
    inside = outline_mask(face.hull_px)
    skin = luma[inside]
    luma_p5, luma_p95 = np.percentile(skin, [5, 95])
    return Measurement(
        crop_side_px=CROP_PX / float(np.hypot(to_crop[0, 0], to_crop[1, 0])),
        visible_share=visible_share(hull(mesh.points_px), picture_shape),
        presence=mesh.presence,
        yaw_deg=yaw_deg(detection.keypoints_px),
        pitch_deg=pitch_deg(mesh),
        luma_p5=float(luma_p5),
        luma_p95=float(luma_p95),
        saturated_share=float(np.mean(skin >= SATURATED_LUMA)),
        fine_detail_ratio=fine_detail_ratio(luma, inside),
    )


def components(measured: Measurement) -> Quality:
    """Map a measurement to the contract's components in [0, 1]; `unified` is the weakest of them."""
    sharpness = measured.fine_detail_ratio / FULL_SHARPNESS
    contrast = (measured.luma_p95 - measured.luma_p5) / 100.0  # 100 is about lfw_raw_dev's lower quartile
    illumination = min(contrast, measured.luma_p95 / 128.0) * (1.0 - measured.saturated_share)
    pose = float(np.cos(np.radians(measured.yaw_deg)) * np.cos(np.radians(measured.pitch_deg)))
    size = measured.crop_side_px / CROP_PX
    sharpness, illumination, pose, size = (
        float(np.clip(value, 0.0, 1.0)) for value in (sharpness, illumination, pose, size)
    )
    unified = min(sharpness, illumination, pose, size)
    return Quality(unified=unified, sharpness=sharpness, illumination=illumination, pose=pose, size=size)


def yaw_deg(keypoints_px: Floats) -> float:
    """Return the turn to the side in degrees, 0 from the front, from the detector's six key points.

    The nose stands out of the line between the eyes by about half their distance, so it moves off the
    middle by the tangent of the turn.  The mesh's depth tells the same (correlation 0.98 on lfw_raw_dev)
    but falls back towards the front beyond 50 degrees, where the detector's points still hold.
    """
    first_eye, second_eye, nose = keypoints_px[:3].astype(np.float64)
    across = second_eye - first_eye
    length = max(float(np.hypot(*across)), 1e-6)
    aside = float((nose - (first_eye + second_eye) / 2) @ across) / length
    return float(np.degrees(np.arctan2(aside, length / 2)))


def pitch_deg(mesh: Mesh) -> float:
    """Return the tilt in degrees, negative downwards, from the depth of forehead and chin (vertices 10, 152)."""
    upward = mesh.points_px[10] - mesh.points_px[152]
    depth = float(mesh.depth_px[10] - mesh.depth_px[152])
    return float(np.degrees(np.arctan2(depth, float(np.hypot(*upward)))))


def visible_share(outline_px: Floats, picture_shape: tuple[int, ...]) -> float:
    """Return the share of a convex outline (K, 2) that lies inside the picture (H, W, ...), in [0, 1]."""
    height, width = picture_shape[:2]
    frame = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    area = cv2.contourArea(outline_px)
    if area <= 0:
        return 0.0
    shared, _ = cv2.intersectConvexConvex(outline_px, frame)
    return float(np.clip(shared / area, 0.0, 1.0))


def outline_mask(hull_px: Floats) -> NDArray[np.bool_]:
    """Return (112, 112) bool, true inside the outline less a 2 px rim; all true if nothing would be left."""
    mask = np.zeros((CROP_PX, CROP_PX), np.uint8)
    cv2.fillConvexPoly(mask, np.rint(hull_px).astype(np.int32), (1,))
    inner = cv2.erode(mask, np.ones((5, 5), np.uint8)) > 0
    return inner if inner.any() else np.ones_like(inner)


def fine_detail_ratio(luma: Floats, inside: NDArray[np.bool_]) -> float:
    """Return the share of the finest octave, of the less sharp direction; see `Measurement`."""
    return min(_ratio_along(luma, inside), _ratio_along(luma.T, inside.T))


def _ratio_along(luma: Floats, inside: NDArray[np.bool_]) -> float:
    """As `fine_detail_ratio`, along the rows only: motion blurs one direction and leaves the other."""
    rows = np.ascontiguousarray(luma)
    smooth = cv2.GaussianBlur(rows, (0, 1), sigmaX=FINE_SIGMA_PX, sigmaY=1e-3)
    smoother = cv2.GaussianBlur(rows, (0, 1), sigmaX=COARSE_SIGMA_PX, sigmaY=1e-3)
    fine = float(np.mean((rows - smooth)[inside] ** 2))
    coarse = float(np.mean((smooth - smoother)[inside] ** 2))
    return float(np.sqrt(fine / (coarse + 0.5)))  # 0.5: a quantisation step's worth, so that flat is not sharp
