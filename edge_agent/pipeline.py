"""The way of a face on the device: picture -> detect -> align -> quality -> encode -> probe.

protector = Protector.load(models_root())
outcome = protector.protect(rgb_u8_hwc)     # outcome.probe goes to duetface.client, outcome.face stays here
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duetface.alignment import Transform, crop_transform, transform_points, warp
from duetface.manifest import ModelCatalogue
from duetface.types import AlignedFace, LivenessLevel, Probe, ProtectedFace, Quality
from edge_agent.detector import Detection, FaceDetector, principal
from edge_agent.encoders import FaceEncoder, InstalledEncoders
from edge_agent.landmarks import FaceMesh, Mesh, five_points, hull
from edge_agent.quality import VERIFICATION, Measurement, QualityPolicy, RetryReason, components, measure

Picture = NDArray[np.uint8]


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
        installed: InstalledEncoders | None = None,
    ) -> None:
        """encoders: one a split, 1 to 4.  monotonic_ns: the clock of captures, nanoseconds.

        installed: what `encode_for` may choose from; None: nothing but the encoders.
        """
        self._detector = detector
        self._mesh = mesh
        self._encoders = tuple(encoders)
        self._installed = installed
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
        """Open detector, mesh and client networks below `models_root`.

        split_names: those that probes may have; if empty, the default split until `encode_for` says otherwise.
        Raises ModelError, naming file and remedy, if one is missing or altered.
        """
        catalogue = ModelCatalogue(models_root)
        installed = InstalledEncoders(catalogue, split_names, threads)
        encoders = installed.of(installed.digests if split_names else (catalogue.default_split().digest,))
        detector, mesh = FaceDetector.load(models_root, threads), FaceMesh.load(models_root, threads)
        return cls(detector, mesh, encoders, policy, installed=installed)

    @property
    def able_digests(self) -> tuple[bytes, ...]:
        """The splits that `encode_for` can choose from, 32 bytes each."""
        return self.split_digests if self._installed is None else self._installed.digests

    def encode_for(self, served: Collection[bytes]) -> None:
        """From now on make a face for each of these splits that is installed; if none is, go on as before.

        served: digests of what a service reads (duetface.client.ServiceInfo.split_digests).  Two while a gallery moves
        from one split to another: then one capture is sent under both.
        """
        if self._installed is not None:
            self._encoders = self._installed.of(served) or self._encoders

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
