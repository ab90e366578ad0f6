"""The victim's side: crops become serialised messages by the production path, and wait on disk for attackers.

Messages of research faces stay in a cache folder that git ignores; they are biometric data like the faces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from duetface.codec import probe_to_bytes
from duetface.errors import ConfigError
from duetface.frequency import block_dct, centred_ycbcr
from duetface.manifest import load_split
from duetface.quantisation import quantise
from duetface.spec import SplitSpec
from duetface.splitting import split
from duetface.types import AlignedFace, ProtectedFace
from edge_agent.client_network import Encoder
from edge_agent.landmarks import FaceMesh
from edge_agent.pipeline import to_probe
from networks.registry import SPLITS, without_masks
from privacy.people import Capture, Crops, capture_crop

PART = 1000  # messages a file: an interrupted run loses less than a minute


class Device(Protocol):
    """Whatever encodes a face for one split."""

    @property
    def spec(self) -> SplitSpec:
        """The split."""
        ...

    def encode(self, face: AlignedFace) -> ProtectedFace:
        """One face as codes."""
        ...


class PlainDevice:
    """A device without a client network: the first plane only, as the fixed splits define it.

    For what is never shipped: the published split, the unprotected twin, ablations without masks.
    """

    def __init__(self, spec: SplitSpec) -> None:
        """Raises ConfigError for a split that needs a network."""
        if len(spec.planes) != 1 or spec.family != "fixed":
            raise ConfigError(f"split {spec.name} needs its client network: train and export it first")
        self.spec = spec

    def encode(self, face: AlignedFace) -> ProtectedFace:
        """Transform, split, quantise."""
        plane = self.spec.planes[0]
        return ProtectedFace(self.spec.digest, {plane.name: quantise(self._values(face.rgb_u8_hwc), plane)})

    def _values(self, rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
        if self.spec.colour == "rgb":
            return rgb.transpose(2, 0, 1) / 127.5 - 1
        channels = block_dct(centred_ycbcr(rgb), self.spec.upsampling)
        return split(channels, self.spec.client_channels, self.spec.server_channels)[1]


def device_for(name: str, models_root: Path) -> Device:
    """The device of a split: shipped in models/splits, or one that needs no network.

    Raises ConfigError listing the known splits.
    """
    folder = models_root / "splits" / name
    if (folder / "split.json").exists():
        return Encoder.load(folder) if load_split(folder).client_network_sha256 else PlainDevice(load_split(folder))
    plain = {known: without_masks(spec) for known, spec in SPLITS.items() if spec.family == "fixed"}
    if name in plain:
        return PlainDevice(plain[name])
    shipped = sorted(path.parent.name for path in models_root.glob("splits/*/split.json"))
    raise ConfigError(f"no device for split {name!r}: shipped are {shipped}, without a network {sorted(plain)}")


def message_of(capture: Capture, device: Device) -> bytes:
    """One serialised duetface.v1.Probe, quality included, as the agent sends it."""
    probe = to_probe((device.encode(capture.aligned),), capture.quality, captured_at_monotonic_ns=0)
    return probe_to_bytes(probe, {device.spec.digest: device.spec}, now_monotonic_ns=0)


def write_messages(
    crops: Crops, device: Device, models_root: Path, folder: Path, progress: Callable[[int, int], None]
) -> list[bytes]:
    """Messages of all crops, one file a thousand; files that are there already are read, so a run resumes.

    folder: belongs to one split and one choice of crops.  progress: (done, all).
    """
    folder.mkdir(parents=True, exist_ok=True)
    mesh = FaceMesh.load(models_root)
    messages: list[bytes] = []
    for start in range(0, len(crops), PART):
        path = folder / f"{start:06d}.npz"
        if not path.exists():
            part = crops.rgb[start : start + PART]
            _save(path, (message_of(capture_crop(np.asarray(rgb), mesh), device) for rgb in part))
        messages += _load(path)
        progress(len(messages), len(crops))
    return messages


def read_messages(folder: Path) -> list[bytes]:
    """The messages that write_messages left.  Raises ConfigError with the command that makes them."""
    parts = sorted(folder.glob("*.npz"))
    if not parts:
        raise ConfigError(f"{folder} holds no messages: run `python -m privacy observe` first")
    return [message for path in parts for message in _load(path)]


def message_folder(cache: Path, spec: SplitSpec, group: str) -> Path:
    """Where the messages of one split and one group of people lie; another split of that name lies elsewhere."""
    return cache / f"{spec.name}-{spec.digest.hex()[:8]}" / group


def _save(path: Path, messages: Iterable[bytes]) -> None:
    kept = list(messages)
    joined = np.frombuffer(b"".join(kept), np.uint8)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as stream:
        np.savez(stream, joined=joined, lengths=np.array([len(message) for message in kept], np.int64))
    partial.rename(path)  # an interrupted run leaves no half file under the real name


def _load(path: Path) -> list[bytes]:
    with np.load(path) as stored:
        joined, lengths = stored["joined"].tobytes(), stored["lengths"]
    ends = np.cumsum(lengths)
    return [joined[end - length : end] for end, length in zip(ends, lengths, strict=True)]
