"""Subjects and templates over the wire."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from duetface.errors import ServiceError
from duetface.identity import Role
from duetface.v1 import enrollment_pb2
from gallery.records import Actor
from gallery.records import Consent as StoredConsent
from tests.fakes.network import probe_of
from tests.integration.conftest import Site, Start, consent, enrol
from tests.integration.raw import refusal_of, refused


def test_a_subject_is_listed_with_consent_and_count(site: Site) -> None:
    """What an operator sees of a person."""
    operator = site.client(Role.OPERATOR)
    given = consent()
    operator.create_subject("alice", "Alice A.", given)
    operator.add_template("alice", probe_of(1))
    subject = operator.subject("alice")
    assert (subject.subject_id, subject.label, subject.template_count) == ("alice", "Alice A.", 1)
    assert (subject.consent.purpose, subject.consent.given_at, subject.consent.expires_at) == (
        "tests",
        given.given_at,
        None,
    )
    (template,) = operator.templates("alice")
    assert (template.subject_id, template.device) == ("alice", "operator")
    assert template.quality == pytest.approx(0.9)


def test_pages_hold_everybody_once_in_order(site: Site) -> None:
    """Seven subjects, two a page."""
    operator = site.client(Role.OPERATOR)
    names = [f"subject-{number}" for number in range(7)]
    for name in reversed(names):
        operator.create_subject(name, "", consent())
    assert [subject.subject_id for subject in operator.subjects(page_size=2)] == names
    assert [subject.subject_id for subject in operator.subjects(page_size=7)] == names


def test_templates_are_paged_too(site: Site) -> None:
    """By number, oldest first."""
    operator = site.client(Role.OPERATOR)
    enrol(operator, "alice", person=1, captures=5)
    numbers = [int(template.template_id) for template in operator.templates("alice", page_size=2)]
    assert len(numbers) == 5
    assert numbers == sorted(numbers)


def test_a_token_of_another_list_is_refused(site: Site) -> None:
    """It would skip people silently."""
    caller = site.caller(Role.OPERATOR)
    for name in ("a", "b", "c"):
        site.client(Role.OPERATOR).create_subject(name, "", consent())
    token = caller.enrollment.ListSubjects(enrollment_pb2.ListSubjectsRequest(page_size=1), timeout=5).next_page_token
    foreign = enrollment_pb2.ListSubjectsRequest(page_size=1, page_token=token, partition="scratch")
    answer = refused(lambda: caller.enrollment.ListSubjects(foreign, timeout=5))
    assert (answer.status, answer.reason) == ("INVALID_ARGUMENT", "invalid_field")


@pytest.mark.parametrize(
    ("call", "status", "reason"),
    [
        (lambda client: client.create_subject("alice", "", consent()), "ALREADY_EXISTS", "already_exists"),
        (lambda client: client.create_subject("b", "x" * 129, consent()), "INVALID_ARGUMENT", "invalid_field"),
        (lambda client: client.subject("nobody"), "NOT_FOUND", "not_found"),
        (lambda client: client.delete_subject("nobody"), "NOT_FOUND", "not_found"),
        (lambda client: client.add_template("nobody", probe_of(1)), "NOT_FOUND", "not_found"),
        (lambda client: list(client.templates("nobody")), "NOT_FOUND", "not_found"),
        (lambda client: client.delete_template("99999"), "NOT_FOUND", "not_found"),
        (lambda client: client.delete_template("no number"), "NOT_FOUND", "not_found"),
        (lambda client: client.drop_partition(""), "INVALID_ARGUMENT", "invalid_field"),
        (lambda client: client.drop_partition("never"), "NOT_FOUND", "not_found"),
        (lambda client: client.drop_partition("x" * 65), "INVALID_ARGUMENT", "invalid_field"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(site: Site, call: object, status: str, reason: str) -> None:
    """One clear line each."""
    operator = site.client(Role.OPERATOR)
    operator.create_subject("alice", "", consent())
    with pytest.raises(ServiceError) as error:
        call(operator)  # type: ignore[operator]
    assert (error.value.status, error.value.reason) == (status, reason)
    assert operator.subject("alice").subject_id == "alice"


def test_a_consent_in_the_future_is_refused(site: Site) -> None:
    """Nobody has agreed yet."""
    later = replace(consent(), given_at=consent().given_at + timedelta(hours=1))
    with pytest.raises(ServiceError) as error:
        site.client(Role.OPERATOR).create_subject("alice", "", later)
    assert (error.value.status, error.value.reason) == ("FAILED_PRECONDITION", "no_consent")


def test_the_consent_in_force_is_the_newest_that_holds(site: Site) -> None:
    """The one under which a new template would be stored: a shorter, later one that has ended hides no longer one."""
    operator = site.client(Role.OPERATOR)
    operator.create_subject("alice", "", consent())
    now = datetime.now(UTC)
    actor = Actor("test.example", "operator", "operator", "0" * 64)
    visit = StoredConsent("a visit", "1", now, now + timedelta(hours=1))
    site.gallery.record_consent("alice", visit, actor)
    assert operator.subject("alice").consent.purpose == "a visit"
    site.clock.ahead_s = 3601
    assert operator.subject("alice").consent.purpose == "tests"
    (listed,) = operator.subjects()
    assert listed.consent.purpose == "tests"
    site.gallery.withdraw_consents("alice", actor)
    assert operator.subject("alice").consent.purpose == "a visit"  # none holds: the newest


def test_an_operator_is_warned_of_what_looks_wrong(start: Start) -> None:
    """Another person's picture, a person enrolled twice, a poor picture."""
    site = start(enrolment={"warn_quality": 0.5})
    operator = site.client(Role.OPERATOR)
    enrol(operator, "alice", person=1)
    assert operator.add_template("alice", probe_of(1, capture=3)).warnings == ()
    assert operator.add_template("alice", probe_of(2)).warnings == ("far_from_own",)
    operator.create_subject("alicia", "", consent())
    assert operator.add_template("alicia", probe_of(1, capture=4)).warnings == ("close_to_other",)
    operator.create_subject("bob", "", consent())
    assert operator.add_template("bob", probe_of(5, quality=0.4)).warnings == ("low_quality",)


def test_policy_refuses_poor_pictures_and_too_many_templates(start: Start) -> None:
    """A gallery is only as good as its templates."""
    site = start(enrolment={"min_quality": 0.5, "max_templates": 2})
    operator = site.client(Role.OPERATOR)
    enrol(operator, "alice", person=1, captures=2)
    with pytest.raises(ServiceError, match="2 templates in this space, the most allowed") as error:
        operator.add_template("alice", probe_of(1, capture=3))
    assert (error.value.status, error.value.reason) == ("RESOURCE_EXHAUSTED", "template_limit")
    operator.create_subject("bob", "", consent())
    with pytest.raises(ServiceError, match=r"quality is 0\.40, expected 0\.50") as error:
        operator.add_template("bob", probe_of(2, quality=0.4))
    assert (error.value.status, error.value.reason) == ("FAILED_PRECONDITION", "low_quality")
    assert site.refusals() == []  # neither is an attack


def test_the_limit_of_templates_holds_for_additions_at_once(start: Start) -> None:
    """Each of twelve must not see room for itself."""
    site = start(enrolment={"max_templates": 2})
    site.client(Role.OPERATOR).create_subject("bob", "", consent())
    caller = site.caller(Role.OPERATOR)

    def add(capture: int) -> str:
        request = enrollment_pb2.AddTemplateRequest(subject_id="bob", signed_probe=caller.signed(probe_of(3, capture)))
        try:
            caller.enrollment.AddTemplate(request, timeout=10)
        except grpc.RpcError as error:
            refusal = refusal_of(error)
            return f"{refusal.status} {refusal.reason}"
        return "added"

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(add, range(12)))
    assert (answers.count("added"), answers.count("RESOURCE_EXHAUSTED template_limit")) == (2, 10)
    assert site.refusals() == []  # a full subject is no attack


def test_a_deleted_template_no_longer_matches(site: Site) -> None:
    """The index follows."""
    operator = site.client(Role.OPERATOR)
    enrol(operator, "alice", person=1, captures=1)
    (template,) = operator.templates("alice")
    revision = operator.delete_template(template.template_id)
    assert operator.identify(probe_of(1, 5), at_least_revision=revision).reason == "no_match"


def test_a_scratch_partition_is_apart_audited_and_dropped_whole(start: Start) -> None:
    """`duetface evaluate` leaves nothing behind but its rows, and touches no counter."""
    site = start(lock_out={"count_searches": True})
    both = site.client(Role.OPERATOR, Role.AUDITOR, name="evaluator")
    enrol(both, "alice", person=1, partition="trial")
    for _ in range(8):  # more rejections than a lock-out takes
        assert both.identify(probe_of(50), partition="trial").reason == "no_match"
    assert site.gallery.lock_out_state("", "evaluator").device.failures == 0
    found = both.identify(probe_of(1, 5), partition="trial")
    assert (found.subject_id, found.nearest_subject_id) == ("alice", "alice")
    assert found.fpir == pytest.approx(2e-4, rel=1e-3)
    assert both.identify(probe_of(1, 5)).subject_id == ""  # not in the realm's gallery
    both.drop_partition("trial")
    assert both.identify(probe_of(1, 5), partition="trial").subject_id == ""
    rows = both.audit(limit=100)
    assert {row.event for row in rows} >= {"subject_created", "template_added", "identify", "partition_dropped"}
    assert sum(row.event == "identify" and row.detail["partition"] == "trial" for row in rows) == 10


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.VERIFIER, Role.AGENT])
def test_a_search_in_a_partition_needs_operator_and_auditor_in_one_certificate(site: Site, role: Role) -> None:
    """It shows similarities' company: an uncounted oracle for anybody else."""
    with pytest.raises(ServiceError, match="operator and auditor") as error:
        site.client(role).identify(probe_of(1), partition="trial")
    assert (error.value.status, error.value.reason) == ("PERMISSION_DENIED", "role")
    assert site.refusals() == ["role"]
