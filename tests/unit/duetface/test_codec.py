"""Messages carry faces exactly, and nothing that a split does not allow gets through."""

import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duetface.codec import (
    PROBE_LIMIT,
    by_digest,
    decision_from_message,
    decision_to_message,
    decode_plane,
    encode_plane,
    face_from_message,
    face_to_message,
    probe_from_bytes,
    probe_to_bytes,
)
from duetface.errors import ContractError, MessageError
from duetface.spec import PlaneSpec, SplitSpec
from duetface.types import Codes, Decision, LivenessLevel, Outcome, Probe, ProtectedFace, Quality
from duetface.v1 import face_pb2, verification_pb2
from tests.unit.duetface.strategies import code_range, planes_with_codes

PLANES = (
    PlaneSpec("coefficients", (6, 4, 4), 8, True, "deflate", (0.5,), 0.0),
    PlaneSpec("mask_4", (1, 4, 4), 4, False, "stored", (1 / 15,), 0.0),
    PlaneSpec("signs", (3, 3, 3), 1, False, "stored", (2.0,), -1.0),
)
SPLIT = SplitSpec(
    name="small",
    version=1,
    family="fixed",
    crop=112,
    colour="ycbcr-full-range",
    upsampling=1,
    block=8,
    client_channels=(0, 1),
    server_channels=(2, 3),
    planes=PLANES,
)
QUALITY = Quality(unified=0.5, sharpness=0.25, illumination=1.0, pose=0.75, size=0.5)


def a_face(seed: int = 0, split: SplitSpec = SPLIT) -> ProtectedFace:
    """Random codes of the split's planes."""
    rng = np.random.default_rng(seed)
    planes: dict[str, Codes] = {}
    for plane in split.planes:
        low, high = code_range(plane)
        planes[plane.name] = rng.integers(low, high + 1, plane.shape).astype(np.int8 if plane.signed else np.uint8)
    return ProtectedFace(split.digest, planes)


def a_probe(*faces: ProtectedFace) -> Probe:
    """A capture of one second ago on a clock that stands at two."""
    return Probe(faces=faces, captured_at_monotonic_ns=1_000_000_000, quality=QUALITY)


def serialised(*faces: ProtectedFace) -> bytes:
    """The probe's bytes at two seconds."""
    return probe_to_bytes(a_probe(*faces), by_digest([SPLIT]), 2_000_000_000)


@given(planes_with_codes())
def test_a_plane_comes_back_as_it_was(plane_with_codes: tuple[PlaneSpec, Codes]) -> None:
    """For every shape, number of bits and codec that a manifest may describe."""
    plane, codes = plane_with_codes
    data = encode_plane(codes, plane)
    assert len(data) <= plane.wire_limit
    np.testing.assert_array_equal(decode_plane(data, plane), codes)


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_bytes_are_either_a_face_or_a_message_error(data: bytes) -> None:
    """A peer may send anything; nothing but our own error may come of it."""
    for plane in PLANES:
        try:
            assert decode_plane(data, plane).shape == plane.shape
        except MessageError as error:
            assert plane.name in str(error) or "packed" in str(error) or "fill bit" in str(error)


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_any_bytes_are_either_a_probe_or_a_refusal(data: bytes) -> None:
    """As above, for whole probes."""
    with pytest.raises((MessageError, ContractError)):
        probe_from_bytes(data, by_digest([SPLIT]))


def test_a_probe_comes_back_as_it_was() -> None:
    """All that the service decides on must survive the wire."""
    face = a_face()
    received = probe_from_bytes(serialised(face), by_digest([SPLIT]))
    assert list(received.faces) == [SPLIT.digest]
    assert received.quality == QUALITY
    assert received.liveness is LivenessLevel.OFF
    assert received.age_us == 1_000_000
    for name, codes in face.planes.items():
        np.testing.assert_array_equal(received.faces[SPLIT.digest].planes[name], codes)


def test_of_a_capture_every_served_split_is_read() -> None:
    """This is how a gallery moves to a new split while old and new agents are about."""
    newer = replace(SPLIT, version=2)
    probe = a_probe(a_face(1, newer), a_face(2))
    data = probe_to_bytes(probe, by_digest([SPLIT, newer]), 2_000_000_000)
    assert set(probe_from_bytes(data, by_digest([SPLIT])).faces) == {SPLIT.digest}
    assert set(probe_from_bytes(data, by_digest([SPLIT, newer])).faces) == {SPLIT.digest, newer.digest}


def test_a_split_that_is_not_served_is_a_contract_error() -> None:
    """The remedy is an update, not another picture."""
    data = serialised(a_face())
    with pytest.raises(ContractError, match="no split of the probe is served"):
        probe_from_bytes(data, by_digest([replace(SPLIT, version=2)]))
    with pytest.raises(ContractError, match="serves no split"):
        probe_to_bytes(a_probe(a_face()), {}, 0)


def test_a_bomb_is_refused_before_it_grows() -> None:
    """A hundred bytes that inflate to megabytes must cost a hundred bytes."""
    plane = replace(PLANES[0], shape=(162, 14, 14))
    compressor = zlib.compressobj(9, wbits=-15)
    bomb = compressor.compress(bytes(20_000_000)) + compressor.flush()
    assert len(bomb) < plane.wire_limit
    with pytest.raises(MessageError, match="does not inflate to exactly 31752 bytes"):
        decode_plane(bomb, plane)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], "does not inflate"),
        (lambda data: data + b"\0", "does not inflate"),
        (lambda data: b"\xff" + data[1:], "not a raw deflate stream|does not inflate"),
        (lambda data: b"", "does not inflate"),
        (lambda data: data + bytes(2000), "at most"),
    ],
)
def test_a_damaged_deflated_plane_is_refused(damage: Callable[[bytes], bytes], message: str) -> None:
    """Cut short, too long, or not deflate at all."""
    data = encode_plane(a_face().planes["coefficients"], PLANES[0])
    with pytest.raises(MessageError, match=message):
        decode_plane(damage(data), PLANES[0])


def test_planes_must_be_exactly_the_splits() -> None:
    """Missing, repeated and unknown planes are all refused, on both ends."""
    message = face_to_message(a_face(), SPLIT)
    del message.planes[0]
    with pytest.raises(MessageError, match="got 2 planes, expected 3"):
        face_from_message(message, SPLIT)
    message.planes.add().CopyFrom(message.planes[0])
    with pytest.raises(MessageError, match="coefficients is missing"):
        face_from_message(message, SPLIT)
    with pytest.raises(MessageError, match="expected those of split small"):
        face_to_message(ProtectedFace(SPLIT.digest, {}), SPLIT)
    with pytest.raises(MessageError, match="expected uint8"):
        encode_plane(np.zeros((1, 4, 4), np.int8), PLANES[1])


def test_more_than_four_faces_or_repeated_splits_are_refused() -> None:
    """A probe is one capture under at most four splits."""
    face = face_to_message(a_face(), SPLIT)
    with pytest.raises(MessageError, match="got 5 faces"):
        probe_from_bytes(face_pb2.Probe(faces=[face] * 5).SerializeToString(), by_digest([SPLIT]))
    with pytest.raises(MessageError, match="differ from one another"):
        probe_from_bytes(face_pb2.Probe(faces=[face] * 2).SerializeToString(), by_digest([SPLIT]))
    with pytest.raises(MessageError, match="got 0 faces"):
        probe_from_bytes(b"", by_digest([SPLIT]))
    with pytest.raises(MessageError, match="at most"):
        probe_from_bytes(bytes(PROBE_LIMIT + 1), by_digest([SPLIT]))


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.5, float("inf")])
def test_an_impossible_quality_is_refused(value: float) -> None:
    """NaN compares false with every limit, so it would pass each quality policy."""
    message = face_pb2.Probe(faces=[face_to_message(a_face(), SPLIT)], quality=face_pb2.Quality(unified=value))
    with pytest.raises(MessageError, match="quality"):
        probe_from_bytes(message.SerializeToString(), by_digest([SPLIT]))


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (face_pb2.LivenessCheck(name="", live_probability=0.5), "name"),
        (face_pb2.LivenessCheck(name="x" * 65, live_probability=0.5), "name"),
        (face_pb2.LivenessCheck(name="blink", model_sha256=b"short"), "digest"),
        (face_pb2.LivenessCheck(name="blink", live_probability=float("nan")), "probability"),
    ],
)
def test_an_impossible_liveness_check_is_refused(check: face_pb2.LivenessCheck, message: str) -> None:
    """Evidence goes into the audit; what cannot be must not get there."""
    probe = face_pb2.Probe.FromString(serialised(a_face()))
    probe.liveness.checks.append(check)
    with pytest.raises(MessageError, match=message):
        probe_from_bytes(probe.SerializeToString(), by_digest([SPLIT]))


@pytest.mark.parametrize("similarity", [None, 0.5])
def test_a_decision_comes_back_as_it_was(similarity: float | None) -> None:
    """And its similarity is there only if it was put there."""
    decision = Decision(
        outcome=Outcome.ACCEPT,
        reason="match",
        subject_id="alice",
        fmr=1e-4,
        fpir=1e-2,
        sequence=7,
        decision_id="d",
        expires_in_s=5.0,
        cosine_similarity=similarity,
    )
    message = decision_to_message(decision)
    assert message.HasField("cosine_similarity") == (similarity is not None)
    assert decision_from_message(message) == decision


def test_an_unknown_outcome_never_passes_for_an_accept() -> None:
    """A client that is older than its service must not open a door on a guess."""
    with pytest.raises(MessageError, match="update it"):
        decision_from_message(verification_pb2.Decision())
