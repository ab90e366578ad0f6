"""The way of a face on the device: picture -> detect -> align -> quality -> encode -> probe.

protector = Protector.load(models_root())
outcome = protector.protect(rgb_u8_hwc)     # outcome.probe goes to duetface.client, outcome.face stays here
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from duetface.alignment import Transform, crop_transform, transform_points, warp
from duetface.manifest import ModelCatalogue
from duetface.spec import SplitSpec
from duetface.types import AlignedFace, LivenessLevel, Probe, ProtectedFace, Quality
from edge_agent.detector import Detection, FaceDetector, principal
from edge_agent.landmarks import FaceMesh, Mesh, five_points, hull
from edge_agent.quality import VERIFICATION, Measurement, QualityPolicy, RetryReason, components, measure

Picture = NDArray[np.uint8]


class FaceEncoder(Protocol):
    """One split's device half, such as edge_agent.client_network.Encoder."""

    @property
    def spec(self) -> SplitSpec:
        """The split."""

    def encode(self, face: AlignedFace) -> ProtectedFace:
        """Turn a crop into the codes that may leave the device."""


@dataclass(frozen=True)
class CapturedFace:
    """What the device knows of a face; it never leaves the device.

    mesh, five_points_px (5, 2): in the picture's pixels.  to_crop: from the picture to the crop.
    """

    detection: Detection
    mesh: Mesh
    five_points_px: NDArray[np.float32]
    to_crop: Transform
    aligned: AlignedFace


@dataclass(frozen=True)
class Outcome:
    """Either a probe or the reason why there is none.

    face: the face that was looked at, for a preview; None if there was none.
    measured, quality: None before a face was aligned.
    timings_ms: stage -> milliseconds, in order, for the stages that ran.
    """

    probe: Probe | None
    reason: RetryReason | None
    face: CapturedFace | None
    detection: Detection | None
    measured: Measurement | None
    timings_ms: Mapping[str, float] = field(default_factory=dict)


class Protector:
    """Turns pictures into probes; one instance serves one thread."""

    def __init__(
        self,
        detector: FaceDetector,
        mesh: FaceMesh,
        encoders: Sequence[FaceEncoder],
        policy: QualityPolicy = VERIFICATION,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """encoders: one a split, 1 to 4.  monotonic_ns: the clock of captures, nanoseconds."""
        self._detector = detector
        self._mesh = mesh
        self._encoders = tuple(encoders)
        self._policy = policy
        self._monotonic_ns = monotonic_ns

    @classmethod
    def load(
        cls,
        models_root: Path,
        split_names: Sequence[str] = (),
        policy: QualityPolicy = VERIFICATION,
        threads: int = 1,
    ) -> "Protector":
        """Open detector, mesh and the client network of each split below `models_root`.

        split_names: the default split if empty.
        Raises ModelError, naming file and remedy, if one is missing or altered.
        """
        from edge_agent.client_network import Encoder  # ONNX Runtime takes a while to load

        catalogue = ModelCatalogue(models_root)
        names = split_names or (catalogue.default_split().name,)
        encoders = [Encoder.load(catalogue.split_folder(name), threads) for name in names]
        return cls(FaceDetector.load(models_root, threads), FaceMesh.load(models_root, threads), encoders, policy)

    @property
    def split_digests(self) -> tuple[bytes, ...]:
        """The splits of the probes, 32 bytes each."""
        return tuple(encoder.spec.digest for encoder in self._encoders)

    def protect(self, rgb_u8_hwc: Picture, captured_at_monotonic_ns: int | None = None) -> Outcome:
        """Make a probe of the one face of a picture (H, W, 3) uint8 RGB, or say why there is none.

        captured_at_monotonic_ns: when the picture was taken, by this protector's clock; now if None.
        """
        captured_at = self._monotonic_ns() if captured_at_monotonic_ns is None else captured_at_monotonic_ns
        watch = Stopwatch()
        with watch.stage("detect"):
            detection, reason = self._detect(rgb_u8_hwc)
        if detection is None or reason is not None:
            return Outcome(None, reason, None, detection, None, watch.timings_ms)
        with watch.stage("align"):
            face = self._align(rgb_u8_hwc, detection)
        with watch.stage("quality"):
            measured = measure(face.aligned, face.detection, face.mesh, face.to_crop, rgb_u8_hwc.shape)
            reason = self._policy.refusal(measured)
        if reason is not None:
            return Outcome(None, reason, face, detection, measured, watch.timings_ms)
        with watch.stage("encode"):
            protected = tuple(encoder.encode(face.aligned) for encoder in self._encoders)
        probe = to_probe(protected, components(measured), captured_at)
        return Outcome(probe, None, face, detection, measured, watch.timings_ms)

    def _detect(self, rgb_u8_hwc: Picture) -> tuple[Detection | None, RetryReason | None]:
        detection, rivalled = principal(self._detector.detect(rgb_u8_hwc), rgb_u8_hwc.shape)
        if detection is None:
            return None, RetryReason.NO_FACE
        return detection, RetryReason.SEVERAL_FACES if rivalled else None

    def _align(self, rgb_u8_hwc: Picture, detection: Detection) -> CapturedFace:
        mesh = self._mesh.place(rgb_u8_hwc, detection)
        points_px = five_points(mesh.points_px)
        to_crop = crop_transform(points_px)
        outline = transform_points(to_crop, hull(mesh.points_px))
        return CapturedFace(detection, mesh, points_px, to_crop, AlignedFace(warp(rgb_u8_hwc, to_crop), outline))


def to_probe(faces: tuple[ProtectedFace, ...], quality: Quality, captured_at_monotonic_ns: int) -> Probe:
    """Bind what goes out: no picture, no landmark; liveness is said to be off, as no check exists yet."""
    return Probe(faces, captured_at_monotonic_ns, quality, LivenessLevel.OFF)


class Stopwatch:
    """Milliseconds a stage, in the order in which they ran."""

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what runs inside."""
        started = time.perf_counter()
        yield
        self.timings_ms[name] = (time.perf_counter() - started) * 1e3
