"""The main way: enrol here, verify there, search, and what is written down about it."""

import time

import pytest

from duetface.errors import ServiceError
from duetface.identity import Role
from duetface.types import Outcome
from duetface.v1 import audit_pb2, verification_pb2
from tests.fakes.network import OTHER_SPLIT, TEST_SPLIT, face_of, probe_of
from tests.integration.conftest import Site, Start, consent, enrol
from tests.integration.raw import refused


def test_whom_an_operator_enrols_an_agent_verifies_at_that_revision(site: Site) -> None:
    """Enrol here, verify there: never stale."""
    revision = enrol(site.client(Role.OPERATOR), "alice", person=1)
    door = site.client(Role.AGENT, name="door-1")
    own = door.verify("alice", probe_of(1, capture=9), purpose="door-1", at_least_revision=revision)
    assert (own.outcome, own.reason, own.subject_id) == (Outcome.ACCEPT, "match", "alice")
    assert (own.fmr, own.fpir, own.expires_in_s) == (1e-4, 0.0, 10.0)
    stranger = door.verify("alice", probe_of(2))
    assert (stranger.outcome, stranger.reason, stranger.subject_id) == (Outcome.REJECT, "no_match", "")


def test_a_search_finds_the_enrolled_and_rejects_strangers(site: Site) -> None:
    """Open-set: nobody is given the nearest name."""
    operator = site.client(Role.OPERATOR)
    for number, name in enumerate(("alice", "bob", "carol")):
        enrol(operator, name, person=number)
    found = site.client(Role.VERIFIER).identify(probe_of(1, capture=7))
    assert (found.outcome, found.subject_id) == (Outcome.ACCEPT, "bob")
    assert found.fpir == pytest.approx(6e-4, rel=1e-3)  # six templates at 1e-4
    stranger = site.client(Role.VERIFIER).identify(probe_of(77))
    assert (stranger.outcome, stranger.subject_id, stranger.nearest_subject_id) == (Outcome.REJECT, "", "")


def test_an_unknown_subject_is_answered_like_a_mismatch(site: Site) -> None:
    """Same decision, same audit, same counter: the answer must not tell who is enrolled."""
    enrol(site.client(Role.OPERATOR), "alice", person=1)
    verifier = site.client(Role.VERIFIER)
    mismatch, unknown = verifier.verify("alice", probe_of(2)), verifier.verify("nobody", probe_of(2))
    assert (mismatch.outcome, mismatch.reason) == (unknown.outcome, unknown.reason)
    rows = [row for row in site.gallery.audit(limit=100) if row.action == "verify"]
    assert [(row.outcome, row.reason) for row in rows] == [("reject", "no_match")] * 2
    counts = [site.gallery.lock_out_state(name, "verifier").subject.failures for name in ("alice", "nobody")]
    assert counts == [1, 1]


def test_a_similarity_is_told_to_an_auditor_only(site: Site) -> None:
    """To anybody else it would be an oracle for hill climbing."""
    enrol(site.client(Role.OPERATOR), "alice", person=1)
    for roles in ((Role.OPERATOR,), (Role.VERIFIER,), (Role.AGENT,)):
        decision = site.client(*roles).identify(probe_of(1, capture=5))
        assert decision.cosine_similarity is None
        assert decision.nearest_subject_id == ""
    told = site.client(Role.OPERATOR, Role.AUDITOR).identify(probe_of(40))
    assert told.outcome is Outcome.REJECT
    assert told.cosine_similarity is not None
    assert -1 <= told.cosine_similarity < 0.5
    assert told.nearest_subject_id == "alice"


def test_liveness_off_is_said(site: Site) -> None:
    """Nobody may mistake it for a check passed, whatever the device claims."""
    caller = site.caller(Role.VERIFIER)
    info = caller.verification.GetServiceInfo(verification_pb2.GetServiceInfoRequest())
    assert info.required_liveness == 1  # LIVENESS_LEVEL_OFF
    assert caller.identify(caller.signed(probe_of(1))).liveness == 1


def test_required_liveness_asks_for_another_capture(start: Start) -> None:
    """A claim that no check was made is not enough, and it counts as no failure."""
    site = start(decisions={"liveness": "required"})
    decision = site.client(Role.VERIFIER).verify("alice", probe_of(1))
    assert (decision.outcome, decision.reason) == (Outcome.RETRY, "liveness_required")
    assert site.gallery.lock_out_state("alice", "verifier").subject.failures == 0


def test_low_quality_asks_for_another_capture(start: Start) -> None:
    """A blurred face is no evidence against anybody."""
    site = start(decisions={"min_quality": 0.5})
    decision = site.client(Role.VERIFIER).verify("alice", probe_of(1, quality=0.4))
    assert (decision.outcome, decision.reason) == (Outcome.RETRY, "low_quality")


def test_the_first_served_split_of_several_is_used(site: Site) -> None:
    """This is how a gallery moves to a new split without losing anybody."""
    enrol(site.client(Role.OPERATOR), "alice", person=1)
    caller, probe = site.caller(Role.AGENT), probe_of(1, capture=4)
    both = type(probe)((face_of(1, 4, OTHER_SPLIT), *probe.faces), probe.captured_at_monotonic_ns, probe.quality)
    assert caller.verify(caller.signed(both)).outcome == verification_pb2.OUTCOME_ACCEPT
    only_other = type(probe)((face_of(1, 4, OTHER_SPLIT),), time.monotonic_ns(), probe.quality)
    answer = refused(lambda: caller.verify(caller.signed(only_other)))
    assert (answer.status, answer.reason) == ("FAILED_PRECONDITION", "unknown_split")


def test_what_is_served_is_told_with_manifests_that_have_their_digests(site: Site) -> None:
    """A client in any language packs planes from this answer alone."""
    info = site.client(Role.AUDITOR).info()  # checks each manifest against its digest
    assert (info.realm, info.splits, info.fmr) == ("test.example", (TEST_SPLIT,), 1e-4)
    assert info.space_digest == bytes(range(32))
    assert abs(info.clock_offset_s) < 5


def test_a_revision_that_does_not_come_is_unavailable(site: Site) -> None:
    """Better no answer than one from an old gallery."""
    enrol(site.client(Role.OPERATOR), "alice", person=1)
    client = site.client(Role.VERIFIER, timeout_s=1.0)
    with pytest.raises(ServiceError) as error:
        client.verify("alice", probe_of(1), at_least_revision=10_000)
    assert error.value.status in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


def test_every_decision_and_change_has_its_row_and_the_chain_holds(site: Site) -> None:
    """Who did what to whom, by which certificate, under which rate."""
    operator = site.client(Role.OPERATOR)
    enrol(operator, "alice", person=1, captures=1)
    decision = site.client(Role.AGENT, name="door-1").verify("alice", probe_of(1, 3), purpose="front door")
    operator.delete_subject("alice")
    rows = site.client(Role.AUDITOR).audit()
    assert [row.event for row in rows] == ["subject_created", "template_added", "verify", "subject_deleted"]
    verified = rows[2]
    assert (verified.actor, verified.subject_id, verified.outcome) == ("agent/door-1", "alice", "accept")
    assert verified.detail["decision_id"] == decision.decision_id
    assert (verified.detail["purpose"], verified.detail["fmr"], verified.detail["liveness"]) == (
        "front door",
        1e-4,
        "off",
    )
    assert site.gallery.verify_audit() == 4
    assert [row.event for row in site.client(Role.AUDITOR).audit(newest=True, limit=1)] == ["subject_deleted"]


def test_an_audit_number_that_no_store_can_hold_is_refused(site: Site) -> None:
    """An error of SQL would be INTERNAL and look like a broken gallery."""
    caller = site.caller(Role.AUDITOR)
    request = audit_pb2.ListAuditRecordsRequest(after_id=2**63)
    answer = refused(lambda: caller.audit.ListAuditRecords(request, timeout=5))
    assert (answer.status, answer.reason) == ("INVALID_ARGUMENT", "invalid_field")


def test_a_deleted_subject_no_longer_matches(site: Site) -> None:
    """Erasure is at once."""
    operator = site.client(Role.OPERATOR)
    enrol(operator, "alice", person=1)
    revision = operator.delete_subject("alice")
    assert operator.verify("alice", probe_of(1, 9), at_least_revision=revision).outcome is Outcome.REJECT
    assert operator.identify(probe_of(1, 9), at_least_revision=revision).outcome is Outcome.REJECT


def test_a_restarted_service_knows_everybody(start: Start) -> None:
    """The index is a view; the store is the truth."""
    first = start()
    enrol(first.client(Role.OPERATOR), "alice", person=1)
    first.service.__exit__(None, None, None)
    assert start().client(Role.VERIFIER).identify(probe_of(1, 8)).subject_id == "alice"


def test_eight_clients_at_once_get_what_they_would_get_alone(start: Start) -> None:
    """Batches must not mix people up."""
    import concurrent.futures

    site = start()
    operator = site.client(Role.OPERATOR)
    for number in range(4):
        enrol(operator, f"subject-{number}", person=number, captures=1)
    doors = [site.client(Role.AGENT, name=f"door-{number}") for number in range(8)]

    def ask(number: int) -> list[str]:
        return [doors[number].identify(probe_of(number, capture)).subject_id for capture in range(5, 10)]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(ask, range(8)))
    assert together == [[f"subject-{number}"] * 5 if number < 4 else [""] * 5 for number in range(8)]
    assert max(site.embedder.batches) > 1


def test_consent_must_be_valid_to_add_a_template(site: Site) -> None:
    """No template without consent, and the picture is not even compared."""
    from dataclasses import replace

    operator = site.client(Role.OPERATOR)
    ends = site.clock.clocks.now().replace(microsecond=0)
    from datetime import timedelta

    operator.create_subject("alice", "", replace(consent(), expires_at=ends + timedelta(seconds=30)))
    site.clock.ahead_s = 60
    with pytest.raises(ServiceError) as error:
        operator.add_template("alice", probe_of(1))
    assert (error.value.status, error.value.reason) == ("FAILED_PRECONDITION", "no_consent")
