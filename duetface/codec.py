"""Between the values of a capture and the messages of protos/duetface/v1.

Parsing is defensive: every length is checked against the split's manifest before memory grows,
and nothing is believed about a message that its split does not say.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from duetface.errors import ContractError, MessageError
from duetface.packing import pack, unpack
from duetface.spec import PlaneSpec, SplitSpec
from duetface.types import Codes, Decision, LivenessLevel, Outcome, Probe, ProtectedFace, Quality
from duetface.v1 import face_pb2, verification_pb2

PROBE_LIMIT = 256 * 1024  # bytes of a serialised Probe, as face.proto says
MAX_FACES = 4
RAW_DEFLATE = -15  # zlib's window bits for RFC 1951 without a header
# Only runs of zeros repeat in coefficients: looking for nothing else took 0.11 ms and 4,653 bytes a face of r1,
# the usual search 5.2 ms and 5,173 bytes (33 faces, one thread, 2026-11-24). Any inflater reads both.
DEFLATE_STRATEGY = zlib.Z_RLE
MAX_CHECKS, CHECK_NAME_LIMIT, DIGEST_BYTES = 8, 64, 32

_LIVENESS = {
    LivenessLevel.OFF: face_pb2.LIVENESS_LEVEL_OFF,
    LivenessLevel.ADVISORY: face_pb2.LIVENESS_LEVEL_ADVISORY,
    LivenessLevel.PASSED: face_pb2.LIVENESS_LEVEL_PASSED,
}
_OUTCOME = {
    Outcome.ACCEPT: verification_pb2.OUTCOME_ACCEPT,
    Outcome.REJECT: verification_pb2.OUTCOME_REJECT,
    Outcome.RETRY: verification_pb2.OUTCOME_RETRY,
}


@dataclass(frozen=True)
class ReceivedProbe:
    """What the service reads of one probe: the face under each split that it serves, by the split's digest."""

    faces: Mapping[bytes, ProtectedFace]
    quality: Quality
    liveness: LivenessLevel
    age_us: int


def encode_plane(codes: Codes, plane: PlaneSpec) -> bytes:
    """Pack one plane and, where its manifest says so, deflate it.

    codes: the plane's shape (C, H, W), int8 if signed, else uint8.
    Raises MessageError if shape or dtype differ from the plane's.
    """
    expected = "int8" if plane.signed else "uint8"
    if codes.shape != plane.shape or codes.dtype != expected:
        raise MessageError(f"plane {plane.name}: got {codes.dtype} {codes.shape}, expected {expected} {plane.shape}")
    packed = pack(codes, plane.bits)
    if plane.codec == "stored":
        return packed
    compressor = zlib.compressobj(level=9, wbits=RAW_DEFLATE, strategy=DEFLATE_STRATEGY)
    return compressor.compress(packed) + compressor.flush()


def decode_plane(data: bytes, plane: PlaneSpec) -> Codes:
    """Undo `encode_plane`; inflates at most one byte more than the manifest's length.

    Raises MessageError for any other length, a broken or unfinished deflate stream, or bytes behind it.
    """
    if len(data) > plane.wire_limit:
        raise MessageError(f"plane {plane.name}: got {len(data)} bytes, expected at most {plane.wire_limit}")
    packed = data if plane.codec == "stored" else _inflate(data, plane)
    return unpack(packed, plane.bits, signed=plane.signed, shape=plane.shape)


def _inflate(data: bytes, plane: PlaneSpec) -> bytes:
    length = plane.packed_length
    inflater = zlib.decompressobj(wbits=RAW_DEFLATE)
    try:
        packed = inflater.decompress(data, length + 1)
    except zlib.error as error:
        raise MessageError(f"plane {plane.name}: not a raw deflate stream") from error
    if len(packed) != length or not inflater.eof or inflater.unused_data:
        raise MessageError(f"plane {plane.name}: does not inflate to exactly {length} bytes")
    return packed


def face_to_message(face: ProtectedFace, split: SplitSpec) -> face_pb2.ProtectedFace:
    """Write one face.  Raises MessageError if its planes are not exactly the split's."""
    if set(face.planes) != {plane.name for plane in split.planes}:
        raise MessageError(f"got planes {sorted(face.planes)}, expected those of split {split.name}")
    return face_pb2.ProtectedFace(
        split_digest=face.split_digest,
        planes=[
            face_pb2.Plane(name=plane.name, data=encode_plane(face.planes[plane.name], plane)) for plane in split.planes
        ],
    )


def face_from_message(message: face_pb2.ProtectedFace, split: SplitSpec) -> ProtectedFace:
    """Read one face of this split.  Raises MessageError if a plane is missing, repeated, unknown or damaged."""
    if len(message.planes) != len(split.planes):
        raise MessageError(f"got {len(message.planes)} planes, expected {len(split.planes)}")
    data = {plane.name: plane.data for plane in message.planes}
    missing = [plane.name for plane in split.planes if plane.name not in data]
    if missing:
        raise MessageError(f"plane {missing[0]} is missing: expected the planes of split {split.name}")
    planes = {plane.name: decode_plane(data[plane.name], plane) for plane in split.planes}
    return ProtectedFace(split_digest=message.split_digest, planes=planes)


def probe_to_bytes(probe: Probe, splits: Mapping[bytes, SplitSpec], now_monotonic_ns: int) -> bytes:
    """Serialise a probe at the moment of signing.

    splits: the splits that the service serves, by digest; faces of other splits are left out.
    now_monotonic_ns: the same clock as the probe's capture time.
    Raises ContractError if no face is left.
    """
    served = [face for face in probe.faces if face.split_digest in splits]
    if not served:
        raise ContractError("the service serves no split of this probe: update the agent, or the service")
    message = face_pb2.Probe(
        faces=[face_to_message(face, splits[face.split_digest]) for face in served],
        quality=face_pb2.Quality(
            unified=probe.quality.unified,
            sharpness=probe.quality.sharpness,
            illumination=probe.quality.illumination,
            pose=probe.quality.pose,
            size=probe.quality.size,
        ),
        liveness=face_pb2.LivenessEvidence(level=_LIVENESS[probe.liveness]),
        age_us=max(0, now_monotonic_ns - probe.captured_at_monotonic_ns) // 1000,
    )
    return message.SerializeToString(deterministic=True)


def probe_from_bytes(data: bytes, splits: Mapping[bytes, SplitSpec]) -> ReceivedProbe:
    """Parse and check a probe; call it only after nonce and signature were checked.

    splits: the served splits by digest.
    Raises MessageError if malformed, ContractError if no split of it is served.
    """
    message = _parse_probe(data)
    served = [face for face in message.faces if face.split_digest in splits]
    if not served:
        raise ContractError("no split of the probe is served here: update the agent, or ask for the served splits")
    if not message.HasField("quality"):
        raise MessageError("the probe has no quality: measure it on the device")
    return ReceivedProbe(
        faces={face.split_digest: face_from_message(face, splits[face.split_digest]) for face in served},
        quality=_quality_from_message(message.quality),
        liveness=_liveness_from_message(message.liveness),
        age_us=message.age_us,
    )


def _parse_probe(data: bytes) -> face_pb2.Probe:
    if len(data) > PROBE_LIMIT:
        raise MessageError(f"got a probe of {len(data)} bytes, expected at most {PROBE_LIMIT}")
    try:
        message = face_pb2.Probe.FromString(data)
    except DecodeError as error:
        raise MessageError("the probe is not a duetface.v1.Probe") from error
    if not 1 <= len(message.faces) <= MAX_FACES:
        raise MessageError(f"got {len(message.faces)} faces, expected 1 to {MAX_FACES}, one a split")
    digests = [face.split_digest for face in message.faces]
    if len(set(digests)) != len(digests) or any(len(digest) != DIGEST_BYTES for digest in digests):
        raise MessageError("split digests must be 32 bytes each and differ from one another")
    return message


def _quality_from_message(message: face_pb2.Quality) -> Quality:
    quality = Quality(
        unified=message.unified,
        sharpness=message.sharpness,
        illumination=message.illumination,
        pose=message.pose,
        size=message.size,
    )
    if not all(0.0 <= value <= 1.0 for value in vars(quality).values()):  # also refuses NaN
        raise MessageError("a quality component is outside [0, 1]")
    return quality


def _liveness_from_message(message: face_pb2.LivenessEvidence) -> LivenessLevel:
    if len(message.checks) > MAX_CHECKS:
        raise MessageError(f"got {len(message.checks)} liveness checks, expected at most {MAX_CHECKS}")
    for check in message.checks:
        if not (check.name.isascii() and 1 <= len(check.name) <= CHECK_NAME_LIMIT):
            raise MessageError(f"a liveness check's name must have 1 to {CHECK_NAME_LIMIT} ASCII characters")
        if len(check.model_sha256) not in (0, DIGEST_BYTES) or not 0.0 <= check.live_probability <= 1.0:
            raise MessageError("a liveness check has a digest or a probability that cannot be")
    return liveness_from_wire(message.level)


def liveness_to_wire(level: LivenessLevel) -> "face_pb2.LivenessLevel.ValueType":
    """The wire's value of a liveness level."""
    return _LIVENESS[level]


def liveness_from_wire(level: "face_pb2.LivenessLevel.ValueType") -> LivenessLevel:
    """Read a liveness level; unspecified and unknown values count as off."""
    return next((ours for ours, wire in _LIVENESS.items() if wire == level), LivenessLevel.OFF)


def decision_to_message(decision: Decision) -> verification_pb2.Decision:
    """Write one decision; similarity only if the decision carries it."""
    message = verification_pb2.Decision(
        outcome=_OUTCOME[decision.outcome],
        reason=verification_pb2.DecisionReason.Value(f"DECISION_REASON_{decision.reason.upper()}"),
        subject_id=decision.subject_id,
        sequence=decision.sequence,
        fmr=decision.fmr,
        fpir=decision.fpir,
        liveness=_LIVENESS[decision.liveness],
        decision_id=decision.decision_id,
        nearest_subject_id=decision.nearest_subject_id,
    )
    message.valid_for.FromMilliseconds(round(decision.expires_in_s * 1000))
    if decision.cosine_similarity is not None:
        message.cosine_similarity = decision.cosine_similarity
    return message


def decision_from_message(message: verification_pb2.Decision) -> Decision:
    """Read one decision.  Raises MessageError for an outcome of no known meaning: it must never pass for an accept."""
    outcomes = {wire: ours for ours, wire in _OUTCOME.items()}
    if message.outcome not in outcomes:
        raise MessageError(f"got outcome {message.outcome}, which this client does not know: update it")
    reasons = verification_pb2.DecisionReason.DESCRIPTOR.values_by_number
    reason = reasons[message.reason].name if message.reason in reasons else str(message.reason)
    similarity = message.cosine_similarity if message.HasField("cosine_similarity") else None
    return Decision(
        outcome=outcomes[message.outcome],
        reason=reason.removeprefix("DECISION_REASON_").lower(),
        subject_id=message.subject_id,
        fmr=message.fmr,
        fpir=message.fpir,
        liveness=liveness_from_wire(message.liveness),
        sequence=message.sequence,
        decision_id=message.decision_id,
        expires_in_s=message.valid_for.ToMilliseconds() / 1000,
        cosine_similarity=similarity,
        nearest_subject_id=message.nearest_subject_id,
    )


def by_digest(splits: Sequence[SplitSpec]) -> dict[bytes, SplitSpec]:
    """Index splits by their digest."""
    return {split.digest: split for split in splits}
