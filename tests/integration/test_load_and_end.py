"""Overload and the end: what is refused, what is kept, what is finished."""

import asyncio
import concurrent.futures
import contextlib
import itertools
import json
import queue
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from duetface.client import Client
from duetface.errors import ConfigError, DuetFaceError
from duetface.identity import Role
from duetface.revocation import revoke
from duetface.types import Outcome
from duetface.v1 import enrollment_pb2, verification_pb2
from recognition_service.clocks import Clocks
from recognition_service.config import load_config
from recognition_service.running import RunningService
from recognition_service.service import running_service
from tests.fakes.network import fake_network, probe_of
from tests.integration.conftest import Realm, Site, Start, enrol
from tests.integration.raw import Caller, refused
from tests.integration.test_lock_out import ACCEPTED, attempt
from tests.integration.test_stream import MATCH, Stream, outcome

ROOT = Path(__file__).resolve().parents[2]


def test_a_certificate_over_its_rate_is_told_to_wait_and_others_are_not(start: Start) -> None:
    """RESOURCE_EXHAUSTED with RetryInfo, by certificate; after the wait it works again."""
    site = start(load={"rate_per_s": 2.0, "burst": 3})
    greedy, modest = site.caller(Role.AGENT, name="greedy"), site.caller(Role.AGENT, name="modest")
    for _ in range(3):
        greedy.nonce()
    answer = refused(greedy.nonce)
    assert (answer.status, answer.reason) == ("RESOURCE_EXHAUSTED", "overloaded")
    assert 0 < answer.retry_after_s <= 0.5
    modest.nonce()
    time.sleep(answer.retry_after_s + 0.05)
    greedy.nonce()
    assert site.refusals() == []  # an overload is no attack


def test_too_many_nonces_of_one_certificate_are_refused(start: Start) -> None:
    """64 in flight, as the contract says."""
    site = start(freshness={"nonces_per_certificate": 4})
    caller = site.caller(Role.AGENT)
    for _ in range(4):
        caller.nonce()
    answer = refused(caller.nonce)
    assert (answer.status, answer.reason) == ("RESOURCE_EXHAUSTED", "overloaded")
    assert 25 < answer.retry_after_s <= 30
    site.clock.ahead_s = 31
    caller.nonce()


def test_a_full_queue_refuses_with_a_delay_and_accepted_work_is_finished(start: Start) -> None:
    """Refusing early keeps the promises already made."""
    site = start(load={"queue_max": 4, "batch_max": 2})
    enrol(site.client(Role.OPERATOR), "alice", person=1, captures=1)
    clients = [site.caller(Role.AGENT, name=f"door-{number}") for number in range(10)]
    signed = [caller.signed(probe_of(1, capture)) for capture, caller in enumerate(clients)]
    site.embedder.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        asked = [pool.submit(caller.identify, probe) for caller, probe in zip(clients, signed, strict=True)]
        done, waiting = concurrent.futures.wait(asked, timeout=2, return_when=concurrent.futures.ALL_COMPLETED)
        site.embedder.gate.set()
        answers = [refused(future.result) for future in done]
        assert len(answers) >= 4  # one batch of two in work, four in the queue
        assert {(answer.status, answer.reason) for answer in answers} == {("RESOURCE_EXHAUSTED", "overloaded")}
        assert min(answer.retry_after_s for answer in answers) >= 0.1
        assert len(waiting) >= 4
        assert {future.result().outcome for future in waiting} == {verification_pb2.OUTCOME_ACCEPT}


def test_a_call_without_a_deadline_gets_the_services(start: Start) -> None:
    """No caller waits for ever, whatever holds the network up; the next request works."""
    site = start(load={"deadline_s": 0.5})
    caller = site.caller(Role.VERIFIER)
    site.embedder.gate.clear()
    for subject_id in ("alice", ""):
        signed = caller.signed(probe_of(1))
        verify = verification_pb2.VerifyRequest(subject_id=subject_id, signed_probe=signed)
        identify = verification_pb2.IdentifyRequest(signed_probe=signed)
        stub = caller.verification
        answer = refused(lambda: stub.Verify(verify) if verify.subject_id else stub.Identify(identify))  # noqa: B023
        assert (answer.status, answer.reason) == ("RESOURCE_EXHAUSTED", "overloaded")
    site.embedder.gate.set()
    assert caller.identify(caller.signed(probe_of(1))).outcome == verification_pb2.OUTCOME_REJECT


def test_a_certificate_has_a_limit_of_open_calls(start: Start) -> None:
    """Streams count as well: a device has one camera, not a thousand."""
    site = start(load={"in_flight": 2})
    caller = site.caller(Role.AGENT)
    streams = [Stream(caller).ready() for _ in range(2)]
    answer = refused(caller.nonce)
    assert (answer.status, answer.reason) == ("RESOURCE_EXHAUSTED", "overloaded")
    streams[0].finish()
    time.sleep(0.2)
    caller.nonce()
    streams[1].close()


def test_open_health_watches_of_one_certificate_leave_room_for_the_others(start: Start) -> None:
    """They take places of the whole service as any stream does."""
    site = start(listen={"max_concurrent_rpcs": 20}, load={"in_flight": 4})
    health = health_pb2_grpc.HealthStub(site.caller(Role.PEER).channel)
    watches = [health.Watch(health_pb2.HealthCheckRequest(), timeout=30) for _ in range(40)]
    served = 0
    for watch in watches:
        try:
            served += next(watch).status == health_pb2.HealthCheckResponse.SERVING
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert served == 4
    site.caller(Role.VERIFIER).nonce()
    for watch in watches:
        watch.cancel()


def silent_streams(caller: Caller) -> list[tuple[str, Iterator[object]]]:
    """One stream of each kind, from which nothing more is to come."""
    never: queue.Queue[object] = queue.Queue()
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    reflection = reflection_pb2_grpc.ServerReflectionStub(caller.channel)
    watch = health_pb2_grpc.HealthStub(caller.channel).Watch(health_pb2.HealthCheckRequest(), timeout=30)
    listing = reflection.ServerReflectionInfo(itertools.chain([asked], iter(never.get, None)), timeout=30)
    next(watch)
    next(listing)
    return [("watch", watch), ("reflection", listing), ("faces", Stream(caller).ready().answers)]


def test_silent_streams_of_a_revoked_certificate_end(site: Site) -> None:
    """A stolen device must not keep what it has open; watches of health and reflection are no exception."""
    caller = site.caller(Role.AGENT, Role.OPERATOR, name="stolen")
    streams = silent_streams(caller)
    revoke(site.realm.state / "revoked.json", caller.identity.peer.fingerprint, datetime.now(UTC))
    for kind, stream in streams:
        answer = refused(lambda: next(stream))  # noqa: B023  # called at once
        assert (answer.status, answer.reason) == ("PERMISSION_DENIED", "revoked"), kind


def test_every_stream_has_a_maximum_age(site: Site) -> None:
    """Watches of health and reflection as well."""
    streams = silent_streams(site.caller(Role.AGENT, Role.OPERATOR, name="both"))
    site.clock.ahead_s = 3601
    for kind, stream in streams:
        answer = refused(lambda: next(stream))  # noqa: B023  # called at once
        assert (answer.status, answer.reason) == ("UNAVAILABLE", "draining"), kind


def test_a_stream_over_its_rate_gets_a_retry_and_stays_open(start: Start) -> None:
    """A camera that is too fast loses frames, not its connection."""
    site = start(load={"rate_per_s": 0.1, "burst": 4})
    stream = Stream(site.caller(Role.AGENT)).ready()
    for sequence in range(8):
        stream.show(1, sequence)
    answered = stream.finish()
    assert sorted(decision.sequence for decision in answered) == list(range(8))
    assert verification_pb2.DECISION_REASON_OVERLOADED in {decision.reason for decision in answered}


def test_who_waits_for_a_revision_keeps_nobody_else_waiting(site: Site) -> None:
    """A revision that never comes must not close a subject to everybody."""
    enrol(site.client(Role.OPERATOR), "alice", person=1)
    waiting, honest = site.caller(Role.VERIFIER, name="waiting"), site.client(Role.VERIFIER, timeout_s=2)
    request = verification_pb2.VerifyRequest(
        subject_id="alice", signed_probe=waiting.signed(probe_of(1)), at_least_revision=1000
    )
    waits = waiting.verification.Verify.future(request, timeout=30)
    time.sleep(0.3)
    assert attempt(honest, "alice", person=1, capture=6) == ACCEPTED
    waits.cancel()


@pytest.mark.parametrize(
    ("revision", "status", "reason"),
    [(2**62, "UNAVAILABLE", "revision_not_reached"), (2**63, "INVALID_ARGUMENT", "invalid_field")],
)
def test_a_revision_that_cannot_come_is_refused_at_once(site: Site, revision: int, status: str, reason: str) -> None:
    """Waiting for it would only hold a place."""
    caller = site.caller(Role.VERIFIER)
    request = verification_pb2.VerifyRequest(
        subject_id="alice", signed_probe=caller.signed(probe_of(1)), at_least_revision=revision
    )
    started = time.monotonic()
    answer = refused(lambda: caller.verification.Verify(request, timeout=20))
    assert (answer.status, answer.reason) == (status, reason)
    assert time.monotonic() - started < 2


def test_drain_finishes_what_was_accepted_and_takes_nothing_new(start: Start) -> None:
    """Health says NOT_SERVING first; then streams end, calls finish, the port closes."""
    site = start()
    enrol(site.client(Role.OPERATOR), "alice", person=1)
    caller, door, late = (site.caller(Role.AGENT, name=f"door-{number}") for number in range(3))
    watch = health_pb2_grpc.HealthStub(caller.channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    stream = Stream(door).ready()
    single, last = caller.signed(probe_of(1, 3)), late.signed(probe_of(1, 5))
    site.embedder.gate.clear()
    stream.show(1, 0)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(caller.identify, single)
        time.sleep(0.3)  # both are accepted
        site.service.begin_stop()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        answer = refused(lambda: late.identify(last))
        assert (answer.status, answer.reason) == ("UNAVAILABLE", "draining")
        site.embedder.gate.set()
        assert running.result(timeout=10).outcome == verification_pb2.OUTCOME_ACCEPT
    assert outcome(stream.decision()) == MATCH
    ended = refused(lambda: [None for _ in stream.answers])
    assert (ended.status, ended.reason) == ("UNAVAILABLE", "draining")


def test_drain_does_not_wait_for_a_stream_without_configuration(start: Start) -> None:
    """It has promised nothing to anybody."""
    site = start(listen={"drain_grace_s": 8.0})
    caller = site.caller(Role.AGENT)
    never: queue.Queue[None] = queue.Queue()
    silent = caller.verification.Authenticate(iter(never.get, "never"), timeout=30)
    time.sleep(0.5)
    started = time.monotonic()
    site.service.begin_stop()
    assert refused(lambda: next(silent)).status == "UNAVAILABLE"
    assert time.monotonic() - started < 4


def test_the_grace_is_kept_when_work_does_not_end(start: Start) -> None:
    """A supervisor kills what does not go."""
    site = start(listen={"drain_grace_s": 0.5})
    caller = site.caller(Role.AGENT)
    signed = caller.signed(probe_of(1))
    site.embedder.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        stuck = pool.submit(caller.identify, signed)
        time.sleep(0.2)
        threading.Timer(3.0, site.embedder.gate.set).start()  # the network itself cannot be interrupted
        started = time.monotonic()
        site.service.begin_stop()
        with pytest.raises(grpc.RpcError):
            stuck.result(timeout=10)
        assert time.monotonic() - started < 2.5


SERVE = """
import asyncio, sys
from pathlib import Path
from recognition_service.clocks import Clocks
from recognition_service.config import load_config
from recognition_service.logs import configure_logging
from recognition_service.server import serve_network
from tests.fakes.network import ProjectionEmbedder, fake_network
import logging
logging.getLogger().setLevel(logging.INFO)
configure_logging()
config = load_config(Path(sys.argv[1]), {"listen": {"address": "127.0.0.1:0"}})
asyncio.run(serve_network(config, fake_network(ProjectionEmbedder(delay_s=1.0))))
"""


def test_sigterm_drains_the_real_process(realm: Realm) -> None:
    """What a supervisor does: accepted work is answered, the exit status is 0, the log says so in JSON."""
    command = [sys.executable, "-c", SERVE, str(realm.state)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        serving = json.loads(process.stderr.readline())
        assert (serving["event"], serving["egress"], serving["transport"]) == ("serving", "none", "mutual TLS only")
        assert (serving["fmr"], serving["fmr_interval_95"]) == (1e-4, [5e-5, 2e-4])
        with Client.connect(serving["address"], realm.identity(Role.AGENT)) as client:
            client.info()
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                running = pool.submit(client.identify, probe_of(1))
                time.sleep(0.5)
                process.send_signal(signal.SIGTERM)
                assert running.result(timeout=10).outcome is Outcome.REJECT
        events = [json.loads(line)["event"] for line in process.stderr]
        assert process.wait(timeout=10) == 0
    assert events[:2] == ["model terms", "liveness is off"]
    assert "draining" in events


def test_a_locked_database_acknowledges_nothing_and_the_next_request_works(start: Start) -> None:
    """A decision that cannot be audited is not given; the caller learns no path of ours."""
    site = start(storage={"busy_timeout_ms": 200})
    enrol(site.client(Role.OPERATOR), "alice", person=1, captures=1)
    caller = site.caller(Role.OPERATOR)
    signed = [caller.signed(probe_of(1, capture)) for capture in (3, 4, 5)]
    with contextlib.closing(sqlite3.connect(site.realm.state / "gallery.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        request = enrollment_pb2.AddTemplateRequest(subject_id="alice", signed_probe=signed[0])
        for call in (lambda: caller.verify(signed[1]), lambda: caller.enrollment.AddTemplate(request, timeout=10)):
            answer = refused(call)
            assert (answer.status, answer.reason) == ("INTERNAL", "gallery")
            assert answer.message == "internal error: see the service's log"
        other.rollback()
    assert caller.verify(signed[2]).outcome == verification_pb2.OUTCOME_ACCEPT
    assert site.gallery.subject("alice").template_count == 1
    assert [row.action for row in site.gallery.audit(limit=10)] == ["subject_created", "template_added", "verify"]


def test_a_port_that_is_taken_is_refused_with_its_address(site: Site) -> None:
    """Two services on one port would each get half of the devices."""
    config = load_config(site.realm.state, {"listen": {"address": site.service.address}})

    async def start_second() -> None:
        async with running_service(config, fake_network(), Clocks()):
            raise AssertionError("two services on one port")

    with pytest.raises(ConfigError, match=f"cannot listen on {site.service.address}"):
        asyncio.run(start_second())


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("keys/realm.key", "realm.key"),
        ("keys/rotation.key", "rotation.key"),
        ("server/server.key", "server.key"),
        ("server/ca.crt", "ca.crt"),
        ("gallery.db", "gallery.db"),
        ("config.toml", "config.toml"),
    ],
)
def test_a_missing_file_of_the_state_folder_keeps_the_service_from_starting(
    realm: Realm, path: str, message: str
) -> None:
    """It names the file and the remedy, and starts nothing."""
    (realm.state / path).unlink()
    with pytest.raises(DuetFaceError, match=message):
        RunningService(load_config(realm.state), fake_network()).__enter__()


def test_an_fmr_that_the_calibration_does_not_reach_keeps_the_service_from_starting(realm: Realm) -> None:
    """A threshold beyond the sample would be a made-up number."""
    with pytest.raises(ConfigError, match="the calibration reaches"):
        RunningService(load_config(realm.state, {"decisions": {"target_fmr": 1e-9}}), fake_network()).__enter__()
