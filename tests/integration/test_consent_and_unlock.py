"""What operators do for people who are enrolled: consents, and the way out of a lock-out; by RPC and by command."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from cli.main import main
from duetface.errors import ServiceError
from duetface.identity import Role
from duetface.types import Outcome
from duetface.v1 import enrollment_pb2
from tests.fakes.network import probe_of
from tests.integration.conftest import Site, consent, enrol
from tests.integration.raw import refused

Said = pytest.CaptureFixture[str]


def duetface(site: Site, *arguments: str) -> int:
    """Run a command against the service, as the operator."""
    return main([*arguments, "--state", str(site.realm.state), "--service", site.address])


def test_a_device_that_is_locked_is_unlocked_by_an_operator_and_the_audit_says_who(site: Site, capsys: Said) -> None:
    """A camera that looked at a poster all night must not wait for a thousand half minutes."""
    enrol(site.client(Role.OPERATOR), "alice", person=1)
    door = site.client(Role.AGENT, name="door-1")
    for number in range(5):
        door.verify(f"subject-{number}", probe_of(50))
    assert door.verify("alice", probe_of(1, 4)).reason == "locked_out"
    assert duetface(site, "unlock", "--device", "door-1") == 0
    assert capsys.readouterr().out == "door-1: 5 failure(s) forgotten\n"
    assert door.verify("alice", probe_of(1, 5)).outcome is Outcome.ACCEPT
    (row,) = [row for row in site.gallery.audit(limit=100) if row.action == "unlock"]
    assert (row.actor.role, row.details["device"], row.subject_id) == ("operator", "door-1", "")


def test_a_subject_that_is_locked_is_unlocked_enrolled_or_not(site: Site, capsys: Said) -> None:
    """Counters are of what was claimed; unlocking must not tell who is enrolled."""
    operator = site.client(Role.OPERATOR)
    for number in range(5):
        site.client(Role.AGENT, name=f"door-{number}").verify("nobody", probe_of(50))
    assert site.client(Role.AGENT, name="door-9").verify("nobody", probe_of(50)).reason == "locked_out"
    assert duetface(site, "unlock", "--subject", "nobody", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"failures_before": {"nobody": 5}}
    assert site.client(Role.AGENT, name="door-9").verify("nobody", probe_of(50)).reason == "no_match"
    unlocked = operator.unlock("nobody", "door-9")
    assert (unlocked.subject_failures, unlocked.device_failures) == (1, 1)


def test_unlocking_nothing_is_refused(site: Site, capsys: Said) -> None:
    """By the command before it asks, and by the service."""
    assert duetface(site, "unlock") == 2
    assert "unlock whom? Give --device NAME, --subject ID, or both" in capsys.readouterr().err
    caller = site.caller(Role.OPERATOR)
    answer = refused(lambda: caller.enrollment.Unlock(enrollment_pb2.UnlockRequest(), timeout=5))
    assert (answer.status, answer.reason) == ("INVALID_ARGUMENT", "invalid_field")
    long = enrollment_pb2.UnlockRequest(device="d" * 129)
    assert refused(lambda: caller.enrollment.Unlock(long, timeout=5)).reason == "invalid_field"


def test_a_consent_is_added_renewed_listed_and_withdrawn(site: Site, capsys: Said) -> None:
    """Without enrolling anybody anew; after the withdrawal the person is a stranger at once."""
    operator = site.client(Role.OPERATOR)
    enrol(operator, "alice", person=1)
    end = datetime.now(UTC) + timedelta(days=400)
    day = f"{end:%Y-%m-%d}"
    assert duetface(site, "consent", "add", "alice", "--consent", "2027-01", "--purpose", "parking") == 0
    assert duetface(site, "consent", "renew", "alice", "--expires", day) == 0
    capsys.readouterr()
    assert duetface(site, "consent", "list", "alice", "--json") == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["purpose"], first["expires_at"]) == ("tests", "never")
    assert (second["purpose"], second["text_version"], second["expires_at"][:10]) == ("parking", "2027-01", day)
    assert operator.verify("alice", probe_of(1, 5)).outcome is Outcome.ACCEPT
    assert duetface(site, "consent", "withdraw", "alice") == 2
    assert "needs --yes where nobody can be asked" in capsys.readouterr().err
    assert duetface(site, "consent", "withdraw", "alice", "--yes") == 0
    assert operator.verify("alice", probe_of(1, 6)).outcome is Outcome.REJECT
    assert operator.identify(probe_of(1, 7)).outcome is Outcome.REJECT
    assert all(record.withdrawn_at is not None for record in operator.consents("alice"))
    whats = [row.details["what"] for row in site.gallery.audit(limit=100) if row.action == "subject_changed"]
    assert whats == ["consent recorded", "consent renewed", "consent withdrawn"]


def test_a_person_without_a_consent_gets_one_and_can_be_enrolled_again(site: Site) -> None:
    """The way back after a consent has ended, without losing the subject's record."""
    operator = site.client(Role.OPERATOR)
    enrol(operator, "alice", person=1, captures=1)
    operator.withdraw_consents("alice")
    with pytest.raises(ServiceError, match="duetface consent add SUBJECT") as error:
        operator.add_template("alice", probe_of(1, 2))
    assert error.value.reason == "no_consent"
    operator.add_consent("alice", consent())
    operator.add_template("alice", probe_of(1, 3))
    assert operator.verify("alice", probe_of(1, 5)).outcome is Outcome.ACCEPT


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("renew", "alice", "--expires", "2020-01-01"), 4, "must lie in the future"),
        (("renew", "alice", "--expires", "soon"), 2, "--expires soon: expected a day such as 2028-01-31"),
        (("renew", "nobody"), 4, "there is no such subject"),
        (("withdraw", "nobody", "--yes"), 4, "there is no such subject"),
        (("list", "nobody"), 4, "there is no such subject"),
        (("add", "nobody", "--consent", "1"), 4, "there is no such subject"),
        (("add", "alice", "--consent", "v" * 65), 4, "consent.text_version has 65 characters"),
        (("add", "alice", "--consent", "1", "--expires", "2020-01-01"), 4, "must lie in the future"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    site: Site, capsys: Said, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """Got, expected, and what to do."""
    enrol(site.client(Role.OPERATOR), "alice", person=1, captures=1)
    assert duetface(site, "consent", *arguments) == code
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_a_consent_without_a_text_is_refused(site: Site) -> None:
    """There is no consent to nothing."""
    caller = site.caller(Role.OPERATOR)
    answer = refused(lambda: caller.enrollment.AddConsent(enrollment_pb2.AddConsentRequest(subject_id="a"), timeout=5))
    assert (answer.status, answer.reason) == ("INVALID_ARGUMENT", "invalid_field")
    assert "consent is missing" in answer.message
