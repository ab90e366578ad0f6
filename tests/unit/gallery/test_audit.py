import contextlib
import sqlite3
from datetime import timedelta

import pytest

from duetface.errors import GalleryError
from gallery.ledger import from_us, to_us
from gallery.records import Actor, Counted, DecisionRecord, FailureCount
from tests.unit.gallery.world import NOON, OPERATOR, SPACE, person

VERIFIER = Actor("hq", "verifier", "gate", "cd" * 32)


def decision(counted: Counted, subject_id: str = "alice", device: str = "door-1") -> DecisionRecord:
    """A decision of one verification."""
    accepted = counted is Counted.SUCCESS
    return DecisionRecord(
        actor=VERIFIER,
        device=device,
        operation="verify",
        outcome="accept" if accepted else "reject",
        reason="match" if accepted else "no_match",
        subject_id=subject_id,
        space_digest=SPACE,
        fmr=1e-4,
        decision_id="d-1",
        counted=counted,
        details={"probe": "00ff"},
    )


def test_every_change_has_its_audit_row(world):
    """Who did what to whom, when, as which revision; a label is personal and stays out."""
    world.enrol("alice", 1)
    world.clock.move(hours=1)
    world.gallery.delete_subject("alice", OPERATOR)
    rows = world.gallery.audit()
    assert [row.action for row in rows] == ["subject_created", "template_added", "subject_deleted"]
    assert [row.revision for row in rows] == [1, 2, 3]
    assert all(row.actor == OPERATOR and row.subject_id == "alice" for row in rows)
    assert rows[-1].at == NOON + timedelta(hours=1)
    assert "label" not in str(rows)


def test_a_refused_change_leaves_no_audit_row(world):
    """Change and row are one transaction: neither exists without the other."""
    world.enrol("alice", 1)
    with pytest.raises(Exception, match="enrolled already"):
        world.enrol("alice", 1)
    assert world.gallery.last_audit_id == 2


def test_a_decision_is_audited_with_what_it_was_taken_on(world):
    """Enough to explain it later; nothing that shows the face."""
    number = world.gallery.record_decision(decision(Counted.FAILURE))
    row = world.gallery.audit()[0]
    assert number == row.audit_id == 1
    assert (row.action, row.outcome, row.reason, row.subject_id) == ("verify", "reject", "no_match", "alice")
    assert row.details == {
        "probe": "00ff",
        "decision_id": "d-1",
        "device": "door-1",
        "fmr": 1e-4,
        "liveness": "off",
        "partition": "",
        "space": SPACE.hex(),
    }


def test_other_events_are_audited_too(world):
    """A refused certificate is neither decision nor change."""
    world.gallery.record_event("certificate_refused", VERIFIER, reason="role", outcome="refused")
    assert world.gallery.audit()[0].action == "certificate_refused"


def test_audit_is_read_in_pages(world):
    """`audit tail` asks for what came after the last row it has."""
    for _ in range(5):
        world.gallery.record_event("tick", OPERATOR)
    assert [row.audit_id for row in world.gallery.audit(after_id=2, limit=2)] == [3, 4]
    assert world.gallery.audit(after_id=5) == []
    assert world.gallery.last_audit_id == 5


def test_an_audit_row_cannot_be_changed_or_deleted_by_mistake(world):
    """The database refuses it before the chain has to show it."""
    world.enrol("alice", 1)
    for statement in ("UPDATE audit SET reason = 'x'", "DELETE FROM audit"):
        with pytest.raises(sqlite3.IntegrityError, match="never changed"):
            world.sqlite(statement)


@pytest.mark.parametrize(
    ("tampering", "message"),
    [
        ("UPDATE audit SET subject_id = 'eve' WHERE audit_id = 2", "audit row 2"),
        ("UPDATE audit SET at_us = at_us + 1 WHERE audit_id = 1", "audit row 1"),
        ("UPDATE audit SET details = '{}' WHERE audit_id = 2", "audit row 2"),
        ("DELETE FROM audit WHERE audit_id = 1", "audit row 1"),
        ("DELETE FROM audit WHERE audit_id = 3", "ends at row 2 but its head says 3"),
        ("UPDATE audit SET own_digest = zeroblob(32) WHERE audit_id = 3", "audit row 3"),
        ("UPDATE audit SET actor_name = 'x', own_digest = zeroblob(32) WHERE audit_id = 2", "audit row 2"),
    ],
)
def test_tampering_with_any_row_shows(world, tampering, message):
    """Each row's digest covers the row and the one before."""
    world.enrol("alice", 1, captures=2)
    assert world.gallery.verify_audit() == 3
    for verb in ("update", "delete"):
        world.sqlite(f"DROP TRIGGER audit_no_{verb}")
    world.sqlite(tampering)
    with pytest.raises(GalleryError, match=message):
        world.gallery.verify_audit()


def test_failures_are_counted_by_subject_and_by_device_and_reset_by_success(world):
    """NIST SP 800-63B-4 counts consecutive failures; unknown subjects count alike, so that they do not stand out."""
    for _ in range(2):
        world.gallery.record_decision(decision(Counted.FAILURE))
        world.clock.move(minutes=1)
    world.gallery.record_decision(decision(Counted.FAILURE, subject_id="unknown"))
    state = world.gallery.lock_out_state("alice", "door-1")
    assert state.subject == FailureCount(2, NOON, NOON + timedelta(minutes=1))
    assert state.device == FailureCount(3, NOON, NOON + timedelta(minutes=2))
    assert world.gallery.lock_out_state("unknown", "door-2").subject.failures == 1
    world.gallery.record_decision(decision(Counted.SUCCESS))
    assert world.gallery.lock_out_state("alice", "door-1") == world.gallery.lock_out_state("new", "door-9")
    assert world.gallery.lock_out_state("unknown", "door-1").subject.failures == 1


def test_a_subject_and_a_device_of_one_name_are_counted_apart(world):
    """Names are chosen by operators."""
    world.gallery.record_decision(decision(Counted.FAILURE, subject_id="gate", device="door-1"))
    assert world.gallery.lock_out_state("nobody", "gate").device.failures == 0


def test_a_decision_that_is_not_counted_moves_no_counter(world):
    """Retries, and `evaluate`, must lock nobody out."""
    world.gallery.record_decision(decision(Counted.NOT))
    assert world.gallery.lock_out_state("alice", "door-1").device.failures == 0


def test_an_operator_unlocks_and_it_is_audited(world):
    """Somebody answers for it."""
    world.gallery.record_decision(decision(Counted.FAILURE))
    world.gallery.unlock(OPERATOR, subject_id="alice")
    state = world.gallery.lock_out_state("alice", "door-1")
    assert (state.subject.failures, state.device.failures) == (0, 1)
    world.gallery.unlock(OPERATOR, device="door-1")
    assert world.gallery.lock_out_state("alice", "door-1").device.failures == 0
    assert [row.action for row in world.gallery.audit(after_id=1)] == ["unlock", "unlock"]


def test_counters_survive_a_restart_and_go_with_their_subject(world):
    """Restarting the service must not be a way around the lock; erasing a person erases the count."""
    world.enrol("alice", 1)
    world.gallery.record_decision(decision(Counted.FAILURE))
    assert world.reopen().lock_out_state("alice", "door-1").subject.failures == 1
    world.gallery.delete_subject("alice", OPERATOR)
    assert world.gallery.lock_out_state("alice", "door-1").subject.failures == 0


@pytest.mark.parametrize(
    ("changed_column", "value"),
    [
        ("created_at_us", "consent_expires_at_us"),
        ("created_at_us", "consent_given_at_us - 1"),
        ("consent_expires_at_us", "consent_expires_at_us - 1"),
        ("consent_id", "99"),
        ("subject_key", "3"),
        ("key_version", "2"),
        ("quality", "1.5"),
    ],
)
def test_the_schema_itself_refuses_a_template_without_a_valid_consent(world, changed_column, value):
    """Whatever program writes the database: outside of the term, another subject's or an invented consent, no key."""
    world.enrol("alice", 1)
    world.enrol("bob", 2)
    columns = [row[1] for row in world.sqlite("PRAGMA table_info(templates)")]
    values = ["77" if name == "template_id" else value if name == changed_column else name for name in columns]
    with contextlib.closing(sqlite3.connect(world.path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = ON")
        with pytest.raises(sqlite3.IntegrityError, match="constraint failed"):
            connection.execute(f"INSERT INTO templates SELECT {', '.join(values)} FROM templates WHERE template_id = 2")


def test_times_are_exact_to_the_microsecond():
    """The audit digest covers the time: what is read back must be what was written."""
    moment = NOON + timedelta(microseconds=123457)
    assert from_us(to_us(moment)) == moment


def test_no_biometric_value_or_secret_is_logged(world, caplog):
    """Whatever is logged at any level during the whole life of a template."""
    with caplog.at_level(1):
        world.enrol("alice", 1)
        world.gallery.identify(person(1), SPACE)
        world.gallery.verify_similarity("alice", person(1), SPACE)
        world.gallery.delete_subject("alice", OPERATOR)
    ours = [record for record in caplog.records if record.name.startswith(("gallery", "sqlalchemy"))]
    assert ours == []
