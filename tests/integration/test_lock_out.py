"""Lock-out after failures: what counts, what does not, and what guesses in parallel come to."""

import concurrent.futures
import time
from pathlib import Path

import pytest

from duetface.client import Client
from duetface.identity import Role
from duetface.types import Decision, Outcome
from duetface.v1 import verification_pb2
from tests.fakes.network import probe_of
from tests.integration.conftest import Site, Start, enrol

ROOT = Path(__file__).resolve().parents[2]


def attempt(client: Client, subject_id: str, person: int, capture: int = 0) -> tuple[Outcome, str]:
    """One verification."""
    decision: Decision = client.verify(subject_id, probe_of(person, capture))
    return decision.outcome, decision.reason


REJECTED, LOCKED = (Outcome.REJECT, "no_match"), (Outcome.REJECT, "locked_out")
ACCEPTED = (Outcome.ACCEPT, "match")


@pytest.mark.parametrize("subject_id", ["alice", "nobody"])
def test_five_failures_lock_a_subject_for_thirty_seconds_known_or_not(site: Site, subject_id: str) -> None:
    """NIST SP 800-63B-4; an unknown subject is locked alike, or the lock would tell who is enrolled."""
    enrol(site.client(Role.OPERATOR), "alice", person=1)
    for number in range(5):  # from five devices, so that it is the subject that is locked
        assert attempt(site.client(Role.AGENT, name=f"door-{number}"), subject_id, person=40 + number) == REJECTED
    fresh = site.client(Role.AGENT, name="door-9")
    computed = sum(site.embedder.batches)
    assert attempt(fresh, subject_id, person=1) == LOCKED
    assert sum(site.embedder.batches) == computed  # nothing was computed for it
    site.clock.ahead_s = 30
    assert attempt(fresh, subject_id, person=1, capture=5) == (ACCEPTED if subject_id == "alice" else REJECTED)


def test_five_failures_lock_a_device_whoever_is_claimed(site: Site) -> None:
    """Guessing through the list of names is guessing."""
    enrol(site.client(Role.OPERATOR), "alice", person=1)
    door = site.client(Role.AGENT, name="door-1")
    for number in range(5):
        assert attempt(door, f"subject-{number}", person=50) == REJECTED
    assert attempt(door, "alice", person=1) == LOCKED
    assert attempt(site.client(Role.AGENT, name="door-2"), "alice", person=1) == ACCEPTED


def test_a_success_sets_the_counters_back(site: Site) -> None:
    """Consecutive failures are meant."""
    enrol(site.client(Role.OPERATOR), "alice", person=1)
    door = site.client(Role.AGENT)
    for _ in range(3):
        for _ in range(4):
            assert attempt(door, "alice", person=50) == REJECTED
        assert attempt(door, "alice", person=1, capture=4) == ACCEPTED


def test_a_lock_outlives_a_restart(start: Start) -> None:
    """The counters live in the gallery."""
    first = start()
    for number in range(5):
        attempt(first.client(Role.AGENT, name=f"door-{number}"), "alice", person=50)
    first.service.__exit__(None, None, None)
    assert attempt(start().client(Role.AGENT, name="door-9"), "alice", person=50) == LOCKED


def test_a_locked_out_attempt_is_audited_but_counts_as_no_failure(site: Site) -> None:
    """An honest client that asks too early must not reach the final stop."""
    verifier = site.client(Role.VERIFIER)
    for _ in range(8):
        attempt(verifier, "alice", person=50)
    assert site.gallery.lock_out_state("alice", "verifier").subject.failures == 5
    reasons = [row.reason for row in site.gallery.audit(limit=100) if row.action == "verify"]
    assert reasons == ["no_match"] * 5 + ["locked_out"] * 3


def test_parallel_guesses_do_not_outrun_the_counter(site: Site) -> None:
    """Twenty at once must not all see four failures."""
    doors = [site.client(Role.AGENT, name=f"door-{number}") for number in range(20)]
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda door: attempt(door, "alice", person=50), doors))
    assert answers.count(REJECTED) == 5
    assert answers.count(LOCKED) == 15


def test_parallel_guesses_of_one_device_at_many_names_do_not_outrun_its_counter(site: Site) -> None:
    """One face against a list of names, all at once."""
    door = site.client(Role.AGENT)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda number: attempt(door, f"name-{number}", person=50), range(20)))
    assert answers.count(REJECTED) == 5
    assert answers.count(LOCKED) == 15


def test_parallel_searches_do_not_outrun_the_counter_where_they_count(start: Start) -> None:
    """The same without a name."""
    site = start(lock_out={"count_searches": True})
    door = site.client(Role.AGENT)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        reasons = list(pool.map(lambda number: door.identify(probe_of(50 + number)).reason, range(20)))
    assert (reasons.count("no_match"), reasons.count("locked_out")) == (5, 15)


def test_a_device_that_guesses_at_many_names_keeps_none_of_them_waiting(start: Start) -> None:
    """Its attempts wait for one another, not with the subjects in their hands."""
    site = start(decisions={"min_quality": 0.5})
    guesser, honest = site.caller(Role.AGENT, name="guesser"), site.client(Role.VERIFIER, timeout_s=3)
    signed = [guesser.signed(probe_of(50, capture)) for capture in range(2)]
    site.embedder.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        guesses = [pool.submit(guesser.verify, signed[0], "bob")]
        time.sleep(0.3)  # before the network, which does not go on
        guesses.append(pool.submit(guesser.verify, signed[1], "alice"))
        time.sleep(0.3)
        blurred = probe_of(1, quality=0.3)  # needs no network, only alice's turn
        try:
            assert honest.verify("alice", blurred).reason == "low_quality"
        finally:
            site.embedder.gate.set()
        assert {guess.result().reason for guess in guesses} == {verification_pb2.DECISION_REASON_NO_MATCH}


def test_an_operator_who_adds_a_template_ends_the_lock(site: Site) -> None:
    """Somebody has just looked at the person."""
    operator = site.client(Role.OPERATOR)
    enrol(operator, "alice", person=1)
    for number in range(5):
        attempt(site.client(Role.AGENT, name=f"door-{number}"), "alice", person=50)
    operator.add_template("alice", probe_of(1, capture=8))
    assert attempt(site.client(Role.VERIFIER), "alice", person=1, capture=9) == ACCEPTED


def test_strangers_who_walk_past_a_camera_lock_nothing(site: Site) -> None:
    """They claimed nothing: a search is no attempt at anybody, unless the site says so."""
    enrol(site.client(Role.OPERATOR), "alice", person=1)
    door = site.client(Role.AGENT)
    for number in range(8):
        assert door.identify(probe_of(50 + number)).reason == "no_match"
    assert door.identify(probe_of(1, 7)).outcome is Outcome.ACCEPT


def test_a_site_may_count_searches_too(start: Start) -> None:
    """For a door where everybody is known."""
    site = start(lock_out={"count_searches": True})
    door = site.client(Role.AGENT)
    reasons = [door.identify(probe_of(50 + number)).reason for number in range(6)]
    assert reasons == ["no_match"] * 5 + ["locked_out"]
