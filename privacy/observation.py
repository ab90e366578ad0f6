"""The only door through which an attacker sees: serialised `duetface.v1.Probe` messages into arrays.

Whatever is not in a message or a public model file does not pass. Nothing here knows a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from duetface.codec import face_from_message
from duetface.errors import ContractError, MessageError
from duetface.quantisation import decode
from duetface.spec import SplitSpec
from duetface.types import Codes, ProtectedFace
from duetface.v1 import face_pb2


@dataclass(frozen=True)
class Observed:
    """What N messages of one split say.

    codes: plane name -> (N, C, H, W) int8 or uint8.  quality: (N, 5) float32 in [0, 1], as sent.
    wire_bytes: (N,) int64, the length of each message.
    """

    split: SplitSpec
    codes: Mapping[str, Codes]
    quality: NDArray[np.float32]
    wire_bytes: NDArray[np.int64]

    def __len__(self) -> int:
        """How many messages."""
        return len(self.wire_bytes)

    def values(self, plane: str, rows: slice | NDArray[np.int64] = slice(None)) -> NDArray[np.float32]:
        """Decoded values of one plane, (n, C, H, W) float32, as the server network reads them."""
        described = self.split.plane(plane)
        return np.stack([decode(codes, described) for codes in self.codes[plane][rows]])

    def face(self, row: int) -> ProtectedFace:
        """One face as the service's embedder takes it."""
        return ProtectedFace(self.split.digest, {name: codes[row] for name, codes in self.codes.items()})


def observe(messages: Sequence[bytes], split: SplitSpec) -> Observed:
    """Read messages of one split.

    A spy has no size limit, so messages too large for the service are read as well (the published split's are).
    Raises ContractError for a message of another split, MessageError for a malformed one.
    """
    if not messages:
        raise MessageError("no messages: an attack needs at least one")
    probes = [_parse(message) for message in messages]
    faces = [_face(probe, split) for probe in probes]
    codes = {plane.name: _stack([face.planes[plane.name] for face in faces]) for plane in split.planes}
    lengths = np.array([len(message) for message in messages], np.int64)
    return Observed(split, codes, np.stack([_quality(probe) for probe in probes]), lengths)


def _stack(codes: Sequence[Codes]) -> Codes:
    stacked: Codes = np.stack(codes)  # type: ignore[assignment]  # numpy forgets that all have one type
    return stacked


def _parse(message: bytes) -> face_pb2.Probe:
    try:
        return face_pb2.Probe.FromString(message)
    except DecodeError as error:
        raise MessageError(f"{len(message)} bytes are not a duetface.v1.Probe") from error


def _face(probe: face_pb2.Probe, split: SplitSpec) -> ProtectedFace:
    for face in probe.faces:
        if face.split_digest == split.digest:
            return face_from_message(face, split)
    found = [face.split_digest.hex()[:8] for face in probe.faces]
    raise ContractError(
        f"the message holds splits {found}, not {split.name} ({split.digest.hex()[:8]}): observe again for this split"
    )


def _quality(probe: face_pb2.Probe) -> NDArray[np.float32]:
    sent = probe.quality
    return np.array([sent.unified, sent.sharpness, sent.illumination, sent.pose, sent.size], np.float32)
