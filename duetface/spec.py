"""The split specification: all that agent, service and weights must agree on about one message of a face.

It is frozen, versioned and named on the wire by its digest, so two ends that differ in anything
(a channel, a step, the client network) find out at the first message instead of by wrong decisions.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from duetface.errors import ModelError
from duetface.splitting import CHANNELS

CODECS = ("stored", "deflate")
COLOURS = ("ycbcr-full-range", "rgb")
FAMILIES = ("fixed", "learned")

T = TypeVar("T")


@dataclass(frozen=True)
class PlaneSpec:
    """One array of the message: shape, bits and codec on the wire, and what its codes mean.

    name: also the name of the server network's input that it feeds.
    shape: (C, H, W).  bits: 1 to 8 a value.  signed: two's complement codes, else unsigned.
    codec: "stored" (packed bits) or "deflate" (the same, raw deflate without header).
    scale: one number, or one a channel; offset: one number.  value = code * scale + offset.
    """

    name: str
    shape: tuple[int, int, int]
    bits: int
    signed: bool
    codec: str
    scale: tuple[float, ...]
    offset: float = 0.0

    def __post_init__(self) -> None:
        """Raises ModelError for a plane that no message could hold."""
        _require(len(self.shape) == 3 and min(self.shape) > 0, f"plane {self.name}: shape {self.shape}")
        _require(1 <= self.bits <= 8, f"plane {self.name}: {self.bits} bits a value, expected 1 to 8")
        _require(self.codec in CODECS, f"plane {self.name}: codec {self.codec!r}, expected one of {CODECS}")
        _require(
            len(self.scale) in (1, self.shape[0]) and all(math.isfinite(s) and s > 0 for s in self.scale),
            f"plane {self.name}: {len(self.scale)} scales, expected 1 or {self.shape[0]}, all above zero",
        )
        _require(math.isfinite(self.offset), f"plane {self.name}: offset {self.offset}")

    @property
    def count(self) -> int:
        """How many values the plane holds."""
        return math.prod(self.shape)

    @property
    def packed_length(self) -> int:
        """Bytes after packing, before any deflating: known beforehand, checked before inflating."""
        return -(-self.count * self.bits // 8)

    @property
    def wire_limit(self) -> int:
        """Most bytes that are accepted on the wire; deflate may grow what it cannot shrink by a little."""
        if self.codec == "stored":
            return self.packed_length
        return self.packed_length + self.packed_length // 1000 + 64


@dataclass(frozen=True)
class SplitSpec:
    """Which part of a face stays on the device and how the rest is sent.

    crop: pixels a side.  upsampling: the r of docs/method.md 1.1.  block: pixels a side of a DCT block.
    client_channels, server_channels: indices 8 * u + v of each colour plane, in wire order, disjoint.
        A learned split sends no channel: server_channels is empty, and the client network reads client_channels.
    planes: the arrays of the message, in wire order.
    client_network_sha256: hex digest of client.onnx, which makes the masks or codes; empty if there is none.
    """

    name: str
    version: int
    family: str
    crop: int
    colour: str
    upsampling: int
    block: int
    client_channels: tuple[int, ...]
    server_channels: tuple[int, ...]
    planes: tuple[PlaneSpec, ...]
    client_network_sha256: str = ""

    def __post_init__(self) -> None:
        """Raises ModelError for a split that cannot be."""
        _require(self.family in FAMILIES, f"split {self.name}: family {self.family!r}, expected one of {FAMILIES}")
        _require(self.colour in COLOURS, f"split {self.name}: colour {self.colour!r}, expected one of {COLOURS}")
        both = self.client_channels + self.server_channels
        _require(len(set(both)) == len(both), f"split {self.name}: a channel is listed twice")
        _require(all(0 <= c < CHANNELS for c in both), f"split {self.name}: channels lie in 0..{CHANNELS - 1}")
        names = [plane.name for plane in self.planes]
        _require(len(set(names)) == len(names), f"split {self.name}: a plane is listed twice")

    def plane(self, name: str) -> PlaneSpec:
        """The plane of that name; ModelError if the split has none."""
        for plane in self.planes:
            if plane.name == name:
                return plane
        raise ModelError(f"split {self.name} has no plane {name!r}, only {[p.name for p in self.planes]}")

    @property
    def digest(self) -> bytes:
        """32 bytes that name this split: SHA-256 of the canonical JSON of every field."""
        return canonical_digest(self.to_dict())

    @property
    def interpolated(self) -> bool:
        """Whether the crop is upsampled before the DCT.

        Then what is sent is solved for the picture (docs/method.md 4.1, docs/adr/0042): for comparison only.
        """
        return self.upsampling > 1

    @property
    def blocks(self) -> int:
        """DCT blocks a side: the height and width of the coefficients."""
        return self.crop * self.upsampling // self.block

    @property
    def mask_grids(self) -> dict[str, int]:
        """Mask plane -> cells a side, in wire order: the stages at which the client's attention enters."""
        return {plane.name: plane.shape[1] for plane in self.planes if plane.name.startswith("mask_")}

    @property
    def made_planes(self) -> tuple[str, ...]:
        """The planes that the client network makes, in wire order: masks, or the codes of a learned split."""
        return tuple(plane.name for plane in self.planes if plane.name == "codes" or plane.name in self.mask_grids)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, every field."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> SplitSpec:
        """The inverse of to_dict. Raises ModelError for an unknown, missing or impossible field."""
        planes = tuple(build_strictly(PlaneSpec, plane, f"plane {i}") for i, plane in enumerate(raw.get("planes", ())))
        return build_strictly(SplitSpec, {**raw, "planes": planes}, "split")


def canonical_digest(plain: Mapping[str, Any]) -> bytes:
    """SHA-256 of JSON with sorted keys, no spaces, shortest round-trip floats."""
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).digest()


def build_strictly(kind: type[T], raw: Mapping[str, Any], what: str) -> T:
    """A dataclass from a mapping with exactly its keys, lists becoming tuples; else ModelError."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # only dataclasses come here
    unknown = sorted(set(raw) - known)
    _require(not unknown, f"{what}: unknown keys {unknown}; this version knows {sorted(known)}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise ModelError(f"{what}: {error}") from error


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ModelError(message)
