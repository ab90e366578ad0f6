"""The Authenticate stream: order, replay, newest wins, end."""

import queue
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from duetface.identity import Role
from duetface.v1 import face_pb2, verification_pb2
from tests.fakes.network import TEST_SPLIT, probe_of
from tests.integration.conftest import Site, Start, enrol
from tests.integration.raw import Caller, refused

MATCH = (verification_pb2.OUTCOME_ACCEPT, verification_pb2.DECISION_REASON_MATCH)
NO_MATCH = (verification_pb2.OUTCOME_REJECT, verification_pb2.DECISION_REASON_NO_MATCH)


class Stream:
    """One open stream: what is sent is sent at once, answers are read when asked for."""

    def __init__(self, caller: Caller, **configuration: Any) -> None:
        """Opens with a configuration for the test split unless told otherwise."""
        self._caller = caller
        self._outgoing: queue.Queue[verification_pb2.AuthenticateRequest | None] = queue.Queue()
        self.answers = caller.verification.Authenticate(iter(self._outgoing.get, None), timeout=30)
        configuration.setdefault("split_digests", [TEST_SPLIT.digest])
        self.send(configuration=verification_pb2.StreamConfiguration(**configuration))
        self.nonce = b""

    def send(self, **content: Any) -> None:
        """Any message."""
        self._outgoing.put(verification_pb2.AuthenticateRequest(**content))

    def ready(self) -> "Stream":
        """Read the first answer."""
        ready = next(self.answers).ready
        assert len(ready.nonce) == 32
        assert ready.valid_for.seconds > 0
        self.nonce = ready.nonce
        return self

    def signed(self, person: int, sequence: int, **options: Any) -> face_pb2.SignedProbe:
        """A probe signed for this stream."""
        return self._caller.signed(probe_of(person, sequence, **options), nonce=self.nonce, sequence=sequence)

    def show(self, person: int, sequence: int, **options: Any) -> None:
        """Send a face."""
        self.send(signed_probe=self.signed(person, sequence, **options))

    def decision(self) -> verification_pb2.Decision:
        """The next decision."""
        return next(self.answers).decision

    def finish(self) -> list[verification_pb2.Decision]:
        """Send no more; the decisions that are left."""
        self._outgoing.put(None)
        return [answer.decision for answer in self.answers]

    def close(self) -> None:
        """Hang up."""
        self._outgoing.put(None)
        self.answers.cancel()


@pytest.fixture
def door(site: Site) -> Iterator[Caller]:
    """A door, with alice enrolled."""
    enrol(site.client(Role.OPERATOR), "alice", person=1)
    yield site.caller(Role.AGENT, name="door-1")


def outcome(decision: verification_pb2.Decision) -> tuple[Any, Any]:
    """Outcome and reason."""
    return decision.outcome, decision.reason


def test_faces_are_decided_as_they_come_with_gaps_in_their_sequence(site: Site, door: Caller) -> None:
    """A device drops stale frames; the answers say which face they are of."""
    stream = Stream(door, purpose="door-1").ready()
    for sequence, person, expected in ((0, 1, MATCH), (7, 50, NO_MATCH), (1000, 1, MATCH)):
        stream.show(person, sequence)
        decision = stream.decision()
        assert (decision.sequence, outcome(decision)) == (sequence, expected)
    assert stream.finish() == []
    rows = [row for row in site.gallery.audit(limit=100) if row.action == "authenticate"]
    assert [row.outcome for row in rows] == ["accept", "reject", "accept"]
    assert rows[0].details["purpose"] == "door-1"


def test_a_stream_for_one_subject_verifies(door: Caller) -> None:
    """1:1 by stream, e.g. after a card was read."""
    stream = Stream(door, subject_id="alice").ready()
    stream.show(1, 0)
    assert outcome(stream.decision()) == MATCH
    stream.show(2, 1)
    assert outcome(stream.decision()) == NO_MATCH
    stream.close()


def test_a_stream_that_ends_is_answered_to_its_end(door: Caller) -> None:
    """The last face before closing counts."""
    stream = Stream(door).ready()
    stream.show(1, 0)
    assert [outcome(decision) for decision in stream.finish()] == [MATCH]


def ended(site: Site, stream: Stream, status: str, reason: str, *, audited: bool = True) -> None:
    """The stream ends with this refusal, and a new one works."""
    answer = refused(lambda: [None for _ in stream.answers])
    assert (answer.status, answer.reason) == (status, reason)
    if audited:
        assert site.refusals()[-1] == reason
    again = Stream(stream._caller).ready()
    again.show(1, 0)
    assert outcome(again.decision()) == MATCH
    again.close()


def test_a_face_before_the_configuration_is_refused(site: Site, door: Caller) -> None:
    """The service would not know what is asked."""
    stream = Stream.__new__(Stream)
    stream._caller, stream._outgoing = door, queue.Queue()
    stream.answers = door.verification.Authenticate(iter(stream._outgoing.get, None), timeout=10)
    stream.send(signed_probe=door.signed(probe_of(1)))
    ended(site, stream, "INVALID_ARGUMENT", "stream_order")


def test_a_second_configuration_is_refused(site: Site, door: Caller) -> None:
    """Once."""
    stream = Stream(door).ready()
    stream.send(configuration=verification_pb2.StreamConfiguration(split_digests=[TEST_SPLIT.digest]))
    ended(site, stream, "INVALID_ARGUMENT", "stream_order")


def test_an_empty_message_is_refused(site: Site, door: Caller) -> None:
    """Neither configuration nor face."""
    stream = Stream(door).ready()
    stream.send()
    ended(site, stream, "INVALID_ARGUMENT", "stream_order")


@pytest.mark.parametrize(
    ("configuration", "status", "reason"),
    [
        ({"split_digests": []}, "INVALID_ARGUMENT", "invalid_field"),
        ({"split_digests": [b"short"]}, "INVALID_ARGUMENT", "invalid_field"),
        ({"split_digests": [TEST_SPLIT.digest] * 5}, "INVALID_ARGUMENT", "invalid_field"),
        ({"split_digests": [bytes(32)]}, "FAILED_PRECONDITION", "unknown_split"),
        ({"purpose": "x" * 65}, "INVALID_ARGUMENT", "invalid_field"),
        ({"subject_id": "x" * 129}, "INVALID_ARGUMENT", "invalid_field"),
        ({"at_least_revision": 2**63}, "INVALID_ARGUMENT", "invalid_field"),
    ],
)
def test_a_configuration_that_cannot_be_served_is_refused(
    site: Site, door: Caller, configuration: dict[str, Any], status: str, reason: str
) -> None:
    """Before the first face is sent for nothing."""
    ended(site, Stream(door, **configuration), status, reason, audited=reason != "invalid_field")


def test_a_repeated_sequence_is_refused(site: Site, door: Caller) -> None:
    """The same frame twice is a replay."""
    stream = Stream(door).ready()
    stream.show(1, 5)
    stream.decision()
    stream.show(1, 5)
    ended(site, stream, "ABORTED", "replay")


def test_a_frame_of_another_stream_is_refused(site: Site, door: Caller) -> None:
    """Each stream has its own nonce."""
    first, second = Stream(door).ready(), Stream(door).ready()
    second.send(signed_probe=first.signed(1, 0))
    ended(site, second, "ABORTED", "nonce")
    first.close()


def test_a_tampered_frame_is_refused(site: Site, door: Caller) -> None:
    """Every frame is signed."""
    stream = Stream(door).ready()
    signed = stream.signed(1, 0)
    signed.sequence = 1
    stream.send(signed_probe=signed)
    ended(site, stream, "UNAUTHENTICATED", "signature")


def test_a_malformed_frame_is_refused(site: Site, door: Caller) -> None:
    """Signed garbage ends the stream, not the service."""
    stream = Stream(door).ready()
    stream.send(signed_probe=door.signed(b"\xff\xff", nonce=stream.nonce, sequence=0))
    ended(site, stream, "INVALID_ARGUMENT", "malformed_face")


def test_a_stale_frame_is_retried_and_the_stream_goes_on(door: Caller) -> None:
    """A slow network must not cost the stream."""
    stream = Stream(door).ready()
    stream.show(1, 0, age_s=3.0)
    assert outcome(stream.decision()) == (
        verification_pb2.OUTCOME_RETRY,
        verification_pb2.DECISION_REASON_STALE,
    )
    stream.show(1, 1)
    assert outcome(stream.decision()) == MATCH
    stream.close()


def test_when_the_client_is_faster_the_newest_face_wins(site: Site, door: Caller) -> None:
    """A decision on an old frame opens the door for whoever stood there before."""
    stream = Stream(door).ready()
    site.embedder.gate.clear()
    for sequence in range(6):
        stream.show(1, sequence)
    threading.Timer(0.5, site.embedder.gate.set).start()
    decisions = {decision.sequence: decision for decision in stream.finish()}
    assert sorted(decisions) == list(range(6))  # each face is answered once
    assert outcome(decisions[0]) == MATCH  # was in work already
    assert outcome(decisions[5]) == MATCH
    superseded = (verification_pb2.OUTCOME_RETRY, verification_pb2.DECISION_REASON_SUPERSEDED)
    assert [outcome(decisions[sequence]) for sequence in range(1, 5)] == [superseded] * 4


def test_a_stream_has_a_maximum_age(start: Start) -> None:
    """Long streams would keep old certificates and old balances."""
    site = start(listen={"stream_max_age_s": 1.0})
    stream = Stream(site.caller(Role.AGENT)).ready()
    answer = refused(lambda: [None for _ in stream.answers])
    assert (answer.status, answer.reason) == ("UNAVAILABLE", "draining")


def test_a_stream_without_configuration_is_ended_soon(start: Start) -> None:
    """It takes a place and says nothing."""
    site = start(load={"deadline_s": 0.5})
    silent = site.caller(Role.AGENT).verification.Authenticate(iter(queue.Queue().get, None), timeout=20)
    answer = refused(lambda: next(silent))
    assert (answer.status, answer.reason) == ("UNAVAILABLE", "draining")
    assert "configuration" in answer.message


def test_an_unforeseen_error_while_reading_ends_the_stream(site: Site, door: Caller) -> None:
    """A defect of ours must not leave a camera waiting for ever: INTERNAL, and a line in the log."""
    stream = Stream(door).ready()
    path = site.realm.state / "revoked.json"
    held = path.read_bytes()
    path.write_bytes(b"[" * 200_000)  # deeper than any parser follows: RecursionError
    stream.show(1, 0)
    answer = refused(lambda: [None for _ in stream.answers])
    assert (answer.status, answer.reason) == ("INTERNAL", "")
    path.write_bytes(held)
    again = Stream(door).ready()
    again.show(1, 0)
    assert outcome(again.decision()) == MATCH
    again.close()


def test_a_certificate_revoked_during_a_stream_ends_it(site: Site, door: Caller) -> None:
    """A stolen device must not live on by never hanging up."""
    from datetime import UTC, datetime

    from duetface.revocation import revoke

    stream = Stream(door).ready()
    stream.show(1, 0)
    assert outcome(stream.decision()) == MATCH
    revoke(site.realm.state / "revoked.json", door.identity.peer.fingerprint, datetime.now(UTC))
    stream.show(1, 1)
    answer = refused(lambda: [None for _ in stream.answers])
    assert (answer.status, answer.reason) == ("PERMISSION_DENIED", "revoked")


def test_eight_streams_at_once_decide_as_one_after_another(site: Site, door: Caller) -> None:
    """Batches run over all streams and must not mix them up."""
    people = [1, 50, 51, 1, 52, 1, 53, 54]
    callers = [site.caller(Role.AGENT, name=f"door-{number}") for number in range(8)]
    streams = [Stream(caller).ready() for caller in callers]
    for sequence in range(5):
        for stream, person in zip(streams, people, strict=True):
            stream.show(person, sequence)
        for stream, person in zip(streams, people, strict=True):
            decision = stream.decision()
            assert decision.sequence == sequence
            assert outcome(decision) == (MATCH if person == 1 else NO_MATCH)
            assert decision.subject_id == ("alice" if person == 1 else "")
    for stream in streams:
        stream.close()
    assert max(site.embedder.batches) > 1


def test_a_client_that_hangs_up_in_the_middle_harms_nobody(site: Site, door: Caller) -> None:
    """Its place is given up, its neighbours are served."""
    stream = Stream(door).ready()
    site.embedder.gate.clear()
    stream.show(1, 0)
    stream.close()
    site.embedder.gate.set()
    other = Stream(site.caller(Role.AGENT, name="door-2")).ready()
    other.show(1, 0)
    assert outcome(other.decision()) == MATCH
    other.close()


def test_only_agents_stream(site: Site) -> None:
    """A verifier asks; it has no camera."""
    stream = Stream(site.caller(Role.VERIFIER))
    with pytest.raises(grpc.RpcError) as error:
        next(stream.answers)
    assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
