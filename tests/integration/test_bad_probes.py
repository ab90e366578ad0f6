"""Probes that must be refused: each with its status and reason, audited, and the next request works."""

import math
import zlib
from collections.abc import Callable

import pytest

from duetface.codec import PROBE_LIMIT
from duetface.identity import Role, sign_probe
from duetface.v1 import enrollment_pb2, face_pb2, verification_pb2
from tests.fakes.network import OTHER_SPLIT, face_of, probe_of
from tests.integration.conftest import Site, enrol
from tests.integration.raw import Caller, Refused, refused, serialise

Break = Callable[[face_pb2.Probe], None]


@pytest.fixture
def alice(site: Site) -> Caller:
    """A door, with alice enrolled."""
    enrol(site.client(Role.OPERATOR), "alice", person=1, captures=1)
    return site.caller(Role.AGENT, name="door-1")


def check(site: Site, caller: Caller, answer: Refused, status: str, reason: str) -> None:
    """The refusal is as expected and the caller's next request is served.

    It stands in the audit, unless it is about a plain field: a typing error is no attack.
    """
    assert (answer.status, answer.reason) == (status, reason)
    rows = [(row.reason, row.actor.name) for row in site.gallery.audit(limit=1000) if row.action == "refusal"]
    assert rows == ([] if reason == "invalid_field" else [(reason, caller.identity.peer.name)])
    decision = caller.verify(caller.signed(probe_of(1, capture=6)))
    assert decision.outcome == verification_pb2.OUTCOME_ACCEPT


def test_a_replayed_probe(site: Site, alice: Caller) -> None:
    """Recorded traffic must not open a door."""
    signed = alice.signed(probe_of(1, capture=5))
    assert alice.verify(signed).outcome == verification_pb2.OUTCOME_ACCEPT
    check(site, alice, refused(lambda: alice.verify(signed)), "ABORTED", "nonce")


def test_a_late_nonce(site: Site, alice: Caller) -> None:
    """A signature half a minute old says nothing about now."""
    signed = alice.signed(probe_of(1))
    site.clock.ahead_s = 30.5
    check(site, alice, refused(lambda: alice.verify(signed)), "ABORTED", "nonce")


def test_another_devices_nonce(site: Site, alice: Caller) -> None:
    """Bound to the certificate, so one device cannot speak for another."""
    nonce = site.caller(Role.AGENT, name="door-2").nonce()
    signed = alice.signed(probe_of(1), nonce=nonce)
    check(site, alice, refused(lambda: alice.verify(signed)), "ABORTED", "nonce")


@pytest.mark.parametrize("nonce", [b"", bytes(31), bytes(32), bytes(33)])
def test_a_made_up_nonce(site: Site, alice: Caller, nonce: bytes) -> None:
    """Only what the service handed out, of exactly its length."""
    check(site, alice, refused(lambda: alice.verify(alice.signed(probe_of(1), nonce=nonce))), "ABORTED", "nonce")


def test_an_unsigned_probe(site: Site, alice: Caller) -> None:
    """Nobody vouches for it."""
    signed = alice.signed(probe_of(1))
    signed.signature = b""
    check(site, alice, refused(lambda: alice.verify(signed)), "UNAUTHENTICATED", "signature")


@pytest.mark.parametrize("place", [0, 40, -1])
def test_a_tampered_probe(site: Site, alice: Caller, place: int) -> None:
    """One flipped bit anywhere breaks the device's word; the probe is not even parsed."""
    signed = alice.signed(probe_of(1))
    altered = bytearray(signed.probe)
    altered[place] ^= 1
    signed.probe = bytes(altered)
    check(site, alice, refused(lambda: alice.verify(signed)), "UNAUTHENTICATED", "signature")


def test_a_probe_signed_by_another_certificate(site: Site, alice: Caller) -> None:
    """The signature must be of whoever holds the connection."""
    other = site.realm.identity(Role.AGENT, name="door-2")
    signed = sign_probe(other, alice.nonce(), 0, serialise(probe_of(1)))
    check(site, alice, refused(lambda: alice.verify(signed)), "UNAUTHENTICATED", "signature")


def test_a_probe_that_names_another_device(site: Site, alice: Caller) -> None:
    """On a direct connection the device is who made the connection."""
    signed = alice.signed(probe_of(1))
    signed.device_certificates_der.append(b"somebody else")
    check(site, alice, refused(lambda: alice.verify(signed)), "UNAUTHENTICATED", "signature")


@pytest.mark.parametrize("signature", [b"\x30", bytes(72), bytes(100_000)])
def test_a_signature_that_is_none(site: Site, alice: Caller, signature: bytes) -> None:
    """Garbage in a field of bytes is no crash."""
    signed = alice.signed(probe_of(1))
    signed.signature = signature
    check(site, alice, refused(lambda: alice.verify(signed)), "UNAUTHENTICATED", "signature")


def test_a_stale_capture(site: Site, alice: Caller) -> None:
    """Who was there three seconds ago may have left."""
    signed = alice.signed(probe_of(1, age_s=3.0))
    check(site, alice, refused(lambda: alice.verify(signed)), "ABORTED", "stale")


def test_a_sequence_in_a_single_call(site: Site, alice: Caller) -> None:
    """One probe to one nonce."""
    signed = alice.signed(probe_of(1), sequence=1)
    check(site, alice, refused(lambda: alice.verify(signed)), "INVALID_ARGUMENT", "invalid_field")


def test_a_probe_over_its_limit(site: Site, alice: Caller) -> None:
    """Refused by its length alone."""
    signed = alice.signed(bytes(PROBE_LIMIT + 1))
    check(site, alice, refused(lambda: alice.verify(signed)), "INVALID_ARGUMENT", "malformed_face")


def test_a_message_over_the_transports_limit(site: Site, alice: Caller) -> None:
    """gRPC itself stops it before it is in memory, so there is no reason and no row; the next request works."""
    signed = face_pb2.SignedProbe(probe=bytes(2_000_000), nonce=alice.nonce())
    assert refused(lambda: alice.verify(signed)).status == "RESOURCE_EXHAUSTED"
    assert alice.verify(alice.signed(probe_of(1, capture=6))).outcome == verification_pb2.OUTCOME_ACCEPT


def test_bytes_that_are_no_probe(site: Site, alice: Caller) -> None:
    """Signed garbage is garbage."""
    signed = alice.signed(b"\xff\xff\xff not a probe")
    check(site, alice, refused(lambda: alice.verify(signed)), "INVALID_ARGUMENT", "malformed_face")


def test_a_request_that_is_no_message(site: Site, alice: Caller) -> None:
    """Another contract, another version, or a port scanner with a certificate."""
    verify = alice.channel.unary_unary("/duetface.v1.VerificationService/Verify", None, None)
    check(site, alice, refused(lambda: verify(b"\xff\xff\xff", timeout=5)), "INVALID_ARGUMENT", "invalid_field")


def _truncate_stored(probe: face_pb2.Probe) -> None:
    probe.faces[0].planes[1].data = probe.faces[0].planes[1].data[:-1]


def _truncate_deflated(probe: face_pb2.Probe) -> None:
    probe.faces[0].planes[0].data = probe.faces[0].planes[0].data[:-3]


def _bomb(probe: face_pb2.Probe) -> None:
    squeezed = zlib.compressobj(9, wbits=-15)
    probe.faces[0].planes[0].data = squeezed.compress(bytes(100_000)) + squeezed.flush()  # 100 kB in 120 bytes


def _no_deflate(probe: face_pb2.Probe) -> None:
    probe.faces[0].planes[0].data = b"\xff" * 100


def _drop_plane(probe: face_pb2.Probe) -> None:
    del probe.faces[0].planes[1]


def _twice_the_same_plane(probe: face_pb2.Probe) -> None:
    probe.faces[0].planes[1].CopyFrom(probe.faces[0].planes[0])


def _unknown_plane(probe: face_pb2.Probe) -> None:
    probe.faces[0].planes[1].name = "picture"


def _short_digest(probe: face_pb2.Probe) -> None:
    probe.faces[0].split_digest = b"short"


def _no_face(probe: face_pb2.Probe) -> None:
    del probe.faces[:]


def _five_faces(probe: face_pb2.Probe) -> None:
    for number in range(4):
        probe.faces.add(split_digest=bytes([number]) * 32)


def _no_quality(probe: face_pb2.Probe) -> None:
    probe.ClearField("quality")


def _nan_quality(probe: face_pb2.Probe) -> None:
    probe.quality.unified = math.nan


def _quality_over_one(probe: face_pb2.Probe) -> None:
    probe.quality.sharpness = 1.5


def _nine_checks(probe: face_pb2.Probe) -> None:
    for _ in range(9):
        probe.liveness.checks.add(name="blink", live_probability=1.0)


@pytest.mark.parametrize(
    "broken",
    [
        _truncate_stored, _truncate_deflated, _bomb, _no_deflate, _drop_plane, _twice_the_same_plane, _unknown_plane,
        _short_digest, _no_face, _five_faces, _no_quality, _nan_quality, _quality_over_one, _nine_checks,
    ],
)  # fmt: skip
def test_a_signed_but_malformed_face(site: Site, alice: Caller, broken: Break) -> None:
    """The device's word does not make a message right; each is refused before memory grows."""
    probe = face_pb2.Probe.FromString(serialise(probe_of(1)))
    broken(probe)
    signed = alice.signed(probe.SerializeToString())
    check(site, alice, refused(lambda: alice.verify(signed)), "INVALID_ARGUMENT", "malformed_face")


def test_a_face_of_a_split_that_is_not_served(site: Site, alice: Caller) -> None:
    """The agent was updated first, or is another product's."""
    other = probe_of(1)
    other = type(other)((face_of(1, 0, OTHER_SPLIT),), other.captured_at_monotonic_ns, other.quality)
    check(site, alice, refused(lambda: alice.verify(alice.signed(other))), "FAILED_PRECONDITION", "unknown_split")


@pytest.mark.parametrize("subject_id", ["", " alice", "x" * 129, "a\nb"])
def test_a_malformed_subject_id(site: Site, alice: Caller, subject_id: str) -> None:
    """Refused before the nonce is spent, so nothing is lost."""
    signed = alice.signed(probe_of(1))
    check(site, alice, refused(lambda: alice.verify(signed, subject_id)), "INVALID_ARGUMENT", "invalid_field")


def test_the_same_holds_for_enrolment(site: Site) -> None:
    """A poisoned gallery lasts longer than an opened door."""
    operator = site.caller(Role.OPERATOR)
    enrol(site.client(Role.OPERATOR), "alice", person=1, captures=1)
    signed = operator.signed(probe_of(1))
    request = enrollment_pb2.AddTemplateRequest(subject_id="alice", signed_probe=signed)
    operator.enrollment.AddTemplate(request, timeout=10)
    answer = refused(lambda: operator.enrollment.AddTemplate(request, timeout=10))
    assert (answer.status, answer.reason) == ("ABORTED", "nonce")
    request.signed_probe.CopyFrom(operator.signed(probe_of(1, age_s=5)))
    answer = refused(lambda: operator.enrollment.AddTemplate(request, timeout=10))
    assert (answer.status, answer.reason) == ("ABORTED", "stale")
    assert site.gallery.subject("alice").template_count == 2
