"""What passes between stages: the values of one capture on its way from camera to decision."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int8] | NDArray[np.uint8]


@dataclass(frozen=True)
class AlignedFace:
    """One face cut out and turned to the ArcFace template.

    rgb_u8_hwc: (112, 112, 3) uint8, RGB.
    hull_px: (K, 2) float32, the convex hull of the face mesh as x, y in crop pixels; it never leaves the device.
    """

    rgb_u8_hwc: NDArray[np.uint8]
    hull_px: NDArray[np.float32]


@dataclass(frozen=True)
class ProtectedFace:
    """What the device sends of one face: integer codes, one array a plane of the split.

    split_digest: 32 bytes, names the split.
    planes: plane name -> codes of the plane's shape (C, H, W); int8 for signed planes, uint8 for the others.
    """

    split_digest: bytes
    planes: Mapping[str, Codes]


@dataclass(frozen=True)
class Quality:
    """Measured quality of the capture, each component in [0, 1], 1 is best (names after ISO/IEC 29794-5)."""

    unified: float = 0.0
    sharpness: float = 0.0
    illumination: float = 0.0
    pose: float = 0.0
    size: float = 0.0


class LivenessLevel(StrEnum):
    """How presentation attacks were looked for; said in every decision."""

    OFF = "off"
    ADVISORY = "advisory"
    PASSED = "passed"


@dataclass(frozen=True)
class Probe:
    """One capture: one to four protected faces (one a split), its quality and its age.

    captured_at_monotonic_ns: the device's monotonic clock at capture; the age is computed when the probe is sent.
    """

    faces: tuple[ProtectedFace, ...]
    captured_at_monotonic_ns: int
    quality: Quality = field(default_factory=Quality)
    liveness: LivenessLevel = LivenessLevel.OFF


class Outcome(StrEnum):
    """What the service decided."""

    ACCEPT = "accept"
    REJECT = "reject"
    RETRY = "retry"


@dataclass(frozen=True)
class Decision:
    """One decision of the service, as the caller may see it: no similarity.

    reason: the name of a DecisionReason of the contract, in lower case (e.g. "match", "no_match", "locked_out").
    subject_id: set only for an accept.
    fmr: the false match rate at which the threshold was set.
    fpir: for 1:N, the false positive identification rate expected at the present gallery size.
    cosine_similarity, nearest_subject_id: set only for the auditor's role.
    """

    outcome: Outcome
    reason: str
    subject_id: str = ""
    fmr: float = 0.0
    fpir: float = 0.0
    liveness: LivenessLevel = LivenessLevel.OFF
    sequence: int = 0
    decision_id: str = ""
    expires_in_s: float = 0.0
    cosine_similarity: float | None = None
    nearest_subject_id: str = ""
