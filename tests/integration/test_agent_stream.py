"""The device's end of the stream against a real service, over mutual TLS."""

import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest

from duetface.authority import Authority
from duetface.errors import ContractError, ServiceError
from duetface.identity import ClientIdentity, Role
from duetface.types import Outcome
from edge_agent.backoff import Backoff
from edge_agent.stream import Decided, DecisionStream, Offline, Online, Refused, Stale, StreamEvent
from tests.fakes.network import TEST_SPLIT, probe_of
from tests.fakes.relay import Relay
from tests.integration.conftest import Site, Start, enrol

Open = Callable[..., DecisionStream]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens streams that the test's end closes."""
    with ExitStack() as stack:

        def open_stream(address: str, identity: ClientIdentity, **settings: object) -> DecisionStream:
            settings = {"split_digests": (TEST_SPLIT.digest,), "backoff": Backoff(0.05, 0.2), **settings}
            stream = DecisionStream(address, identity, **settings)
            stack.callback(stream.close)
            stream.start()
            return stream

        yield open_stream


def next_of(stream: DecisionStream, kind: type[StreamEvent], timeout_s: float = 30.0) -> StreamEvent:
    """The next event of a kind; others are passed over."""
    give_up = time.monotonic() + timeout_s
    while time.monotonic() < give_up:
        event = stream.next_event(0.2)
        if isinstance(event, kind):
            return event
    raise AssertionError(f"no {kind.__name__} within {timeout_s} s")


def decision(stream: DecisionStream, person: int, tag: int, capture: int = 5) -> Decided:
    """Show a person and wait for the decision."""
    stream.submit(probe_of(person, capture), tag)
    event = next_of(stream, Decided)
    assert isinstance(event, Decided)
    return event


def test_faces_are_decided_one_after_another(site: Site, opened: Open) -> None:
    """Nonce of the first answer, rising sequence, the tag comes back with its decision."""
    enrol(site.client(Role.OPERATOR), "alice", person=1)
    stream = opened(site.address, site.realm.identity(Role.AGENT), purpose="door-1")
    next_of(stream, Online)
    first, second = decision(stream, 1, tag=11), decision(stream, 2, tag=12)
    assert (first.decision.outcome, first.decision.subject_id, first.tag) == (Outcome.ACCEPT, "alice", 11)
    assert (second.decision.outcome, second.decision.subject_id, second.tag) == (Outcome.REJECT, "", 12)
    assert (first.decision.sequence, second.decision.sequence) == (0, 1)
    assert first.wire_bytes > 100
    assert first.round_trip_ms > 0


def test_a_subject_may_be_fixed(site: Site, opened: Open) -> None:
    """1:1: somebody else who is enrolled is rejected too."""
    operator = site.client(Role.OPERATOR)
    enrol(operator, "alice", person=1)
    enrol(operator, "bob", person=2)
    stream = opened(site.address, site.realm.identity(Role.AGENT), subject_id="alice")
    assert decision(stream, 1, 1).decision.outcome is Outcome.ACCEPT
    assert decision(stream, 2, 2).decision.outcome is Outcome.REJECT


def test_a_face_before_the_connection_waits_for_it(site: Site, opened: Open) -> None:
    """What is shown while the agent connects is decided as soon as it can be."""
    enrol(site.client(Role.OPERATOR), "alice", person=1)
    stream = opened(site.address, site.realm.identity(Role.AGENT))
    assert decision(stream, 1, tag=1).decision.outcome is Outcome.ACCEPT


def test_the_newer_of_two_waiting_faces_wins(start: Start, opened: Open) -> None:
    """The older one is counted, not sent."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    site = start()
    stream = opened(address, site.realm.identity(Role.AGENT), backoff=Backoff(30.0, 30.0))
    stream.submit(probe_of(1), 1)
    stream.submit(probe_of(1), 2)
    assert stream.superseded == 1


def test_without_a_service_the_agent_says_so_and_keeps_trying(site: Site, opened: Open) -> None:
    """The address that was tried stands in the line."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    stream = opened(address, site.realm.identity(Role.AGENT))
    for _ in range(2):
        event = next_of(stream, Offline)
        assert isinstance(event, Offline)
        assert f"no service answers at {address}" in event.reason
        assert 0 < event.delay_s <= 0.3


def test_after_a_cut_cable_the_stream_mends_itself(site: Site, opened: Open) -> None:
    """New nonce, sequence from 0 again, no hand needed."""
    enrol(site.client(Role.OPERATOR), "alice", person=1)
    with Relay(site.address) as cable:
        stream = opened(cable.address, site.realm.identity(Role.AGENT))
        assert decision(stream, 1, 1).decision.sequence == 0
        assert decision(stream, 1, 2).decision.sequence == 1
        cable.cut()
        next_of(stream, Offline)
        cable.mend(site.address)
        next_of(stream, Online)
        mended = decision(stream, 1, 3)
        assert (mended.decision.outcome, mended.decision.sequence, mended.tag) == (Outcome.ACCEPT, 0, 3)
        stream.close()


def test_a_restarted_service_is_found_again(start: Start, opened: Open) -> None:
    """It drains, so the stream ends in order; the next one has the same realm."""
    site = start()
    enrol(site.client(Role.OPERATOR), "alice", person=1)
    with Relay(site.address) as cable:
        stream = opened(cable.address, site.realm.identity(Role.AGENT))
        assert decision(stream, 1, 1).decision.outcome is Outcome.ACCEPT
        site.service.__exit__(None, None, None)
        next_of(stream, Offline)
        cable.mend(start().address)
        next_of(stream, Online)
        assert decision(stream, 1, 2).decision.outcome is Outcome.ACCEPT
        stream.close()


def test_a_face_that_waited_too_long_is_not_sent(site: Site, opened: Open) -> None:
    """Whoever stood there when the network went is not who stands there when it is back."""
    stream = opened(site.address, site.realm.identity(Role.AGENT))
    next_of(stream, Online)
    stream.submit(probe_of(1, age_s=3.0), 7)
    assert next_of(stream, Stale) == Stale(tag=7)
    assert decision(stream, 1, tag=8).tag == 8


def test_a_certificate_without_the_role_ends_the_stream(site: Site, opened: Open) -> None:
    """Trying again would not make an auditor an agent."""
    stream = opened(site.address, site.realm.identity(Role.AUDITOR))
    event = next_of(stream, Refused)
    assert isinstance(event, Refused)
    assert isinstance(event.error, ServiceError)
    assert event.error.status == "PERMISSION_DENIED"


def test_a_foreign_certificate_never_gets_on_line(site: Site, opened: Open, tmp_path) -> None:
    """The handshake fails; the agent is told to look at the realm."""
    other = Authority.create(tmp_path / "ca", "other.example", datetime.now(UTC))
    other.issue_client([Role.AGENT], "door-1", tmp_path / "door-1", datetime.now(UTC))
    stream = opened(site.address, ClientIdentity.load(tmp_path / "door-1"))
    event = next_of(stream, Offline)
    assert isinstance(event, Offline)
    assert "is this its realm?" in event.reason


def test_a_split_that_is_not_served_ends_the_stream(site: Site, opened: Open) -> None:
    """Before any face is sent, with what to do."""
    stream = opened(site.address, site.realm.identity(Role.AGENT), split_digests=(bytes(32),))
    event = next_of(stream, Refused)
    assert isinstance(event, Refused)
    assert isinstance(event.error, ContractError)
    assert "install the same release" in str(event.error)


def test_closing_is_quick_at_any_time(site: Site, opened: Open) -> None:
    """On-line and idle, with a question under way, and while waiting to try again."""
    site.embedder.gate.clear()
    online = opened(site.address, site.realm.identity(Role.AGENT))
    next_of(online, Online)
    online.submit(probe_of(1), 1)
    waiting = opened("127.0.0.1:1", site.realm.identity(Role.AGENT), backoff=Backoff(60.0, 60.0))
    next_of(waiting, Offline)
    started = time.monotonic()
    online.close()
    waiting.close()
    assert time.monotonic() - started < 3.0


def test_nothing_about_a_person_is_logged(site: Site, opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    """Not by the device either: no subject, no code, no nonce."""
    enrol(site.client(Role.OPERATOR), "alice", person=1)
    with caplog.at_level(logging.DEBUG, logger="edge_agent"):
        stream = opened(site.address, site.realm.identity(Role.AGENT))
        decision(stream, 1, 1)
        stream.close()
    assert not any("alice" in str(vars(record)) for record in caplog.records if record.name.startswith("edge_agent"))
