"""A gallery moves to another template space while it is served: nobody is lost, and nobody gets in who should not."""

from dataclasses import replace
from datetime import timedelta

import pytest

from duetface.errors import ConfigError
from duetface.identity import Role
from duetface.types import LivenessLevel, Outcome
from recognition_service.config import load_config
from recognition_service.running import RunningService
from tests.fakes.network import OTHER_SPLIT, TEST_SPLIT, fake_network, probe_of, upcoming_network
from tests.integration.conftest import Realm, Site, Start, consent, enrol

BOTH = (TEST_SPLIT, OTHER_SPLIT)
OLD, NEW = fake_network().space_digest, upcoming_network().space_digest


@pytest.fixture
def moving(start: Start) -> Site:
    """A service that moves, with Alice in the old space."""
    site = start(upcoming=upcoming_network())
    enrol(site.client(Role.OPERATOR), "alice", person=1, captures=2)
    return site


def spaces_of_decisions(site: Site) -> list[str]:
    """Which space each 1:1 decision was taken in, oldest first."""
    rows = site.gallery.audit(limit=1000)
    return [{OLD.hex(): "old", NEW.hex(): "new"}[str(r.details["space"])] for r in rows if r.action == "verify"]


def test_an_accepted_capture_becomes_a_template_of_the_new_space(moving: Site) -> None:
    """By the same picture and decision; after as many as the old space has, the new one decides, and takes no more."""
    door = moving.client(Role.AGENT, name="door-1")
    for capture in range(4, 9):
        decision = door.verify("alice", probe_of(1, capture, splits=BOTH))
        assert (decision.outcome, decision.subject_id) == (Outcome.ACCEPT, "alice")
    assert moving.gallery.template_counts("alice") == {OLD: 2, NEW: 2}
    assert spaces_of_decisions(moving) == ["old", "old", "new", "new", "new"]
    added = [row for row in moving.gallery.audit(limit=100) if row.details.get("from_space") == OLD.hex()]
    decided = [row.details["decision_id"] for row in moving.gallery.audit(limit=100) if row.action == "verify"]
    assert [row.details["decision_id"] for row in added] == decided[:2]
    assert {(row.action, row.actor.name, row.details["device"]) for row in added} == {
        ("template_added", "door-1", "door-1")
    }


def test_in_the_new_space_a_stranger_is_a_stranger(moving: Site) -> None:
    """One claim is decided in one space: two looks would double the false match rate that the decision states."""
    door = moving.client(Role.AGENT, name="door-1")
    for capture in (4, 5):
        door.verify("alice", probe_of(1, capture, splits=BOTH))
    assert door.verify("alice", probe_of(2, splits=BOTH)).outcome is Outcome.REJECT
    # Alice's face in the old split beside a stranger's in the new one: the old space would say yes.
    mixed = replace(probe_of(1, 6), faces=(*probe_of(1, 6).faces, *probe_of(2, 6, splits=(OTHER_SPLIT,)).faces))
    assert door.verify("alice", mixed).outcome is Outcome.REJECT
    assert spaces_of_decisions(moving) == ["old", "old", "new", "new"]


def test_a_capture_that_was_rejected_moves_nobody(moving: Site) -> None:
    """Nor does one that is only claimed to be somebody unknown."""
    door = moving.client(Role.AGENT, name="door-1")
    assert door.verify("alice", probe_of(2, splits=BOTH)).outcome is Outcome.REJECT
    assert door.verify("nobody", probe_of(1, splits=BOTH)).outcome is Outcome.REJECT
    assert moving.gallery.template_counts("alice") == {OLD: 2}
    assert moving.gallery.template_counts("nobody") == {}


def test_the_new_space_alone_enrols_nobody(moving: Site) -> None:
    """Otherwise one false accept there would feed itself; a device that knows only the new split has to wait."""
    door = moving.client(Role.AGENT, name="door-1")
    assert door.verify("alice", probe_of(1, 4, splits=(OTHER_SPLIT,))).outcome is Outcome.REJECT
    door.verify("alice", probe_of(1, 5, splits=BOTH))
    assert door.verify("alice", probe_of(1, 6, splits=(OTHER_SPLIT,))).outcome is Outcome.ACCEPT
    assert moving.gallery.template_counts("alice") == {OLD: 2, NEW: 1}


def test_an_old_agent_goes_on_in_the_old_space(moving: Site) -> None:
    """Whoever has moved is still known to a device that was not updated."""
    door = moving.client(Role.AGENT, name="door-1")
    for capture in (4, 5):
        door.verify("alice", probe_of(1, capture, splits=BOTH))
    assert door.verify("alice", probe_of(1, 6)).outcome is Outcome.ACCEPT
    assert door.identify(probe_of(1, 7)).subject_id == "alice"
    assert spaces_of_decisions(moving)[-1] == "old"


def test_a_search_finds_people_of_both_spaces_and_tells_the_rate_of_both(moving: Site) -> None:
    """The FPIR is of all comparisons together; spaces that name different people name nobody."""
    operator = moving.client(Role.OPERATOR)
    operator.create_subject("carol", "", consent())
    operator.add_template("carol", probe_of(3, splits=(OTHER_SPLIT,)))
    door = moving.client(Role.AGENT, name="door-1")
    for person, name in ((1, "alice"), (3, "carol"), (9, "")):
        found = door.identify(probe_of(person, 5, splits=BOTH))
        assert found.subject_id == name
        assert found.fpir == pytest.approx(3e-4 if person == 1 else 4e-4, rel=1e-3)  # alice moves meanwhile
    torn = replace(probe_of(1, 6), faces=(*probe_of(1, 6).faces, *probe_of(3, 6, splits=(OTHER_SPLIT,)).faces))
    assert door.identify(torn).outcome is Outcome.REJECT


def test_a_search_takes_along_only_as_surely_as_a_claim(start: Start) -> None:
    """Among so many templates that the calibration cannot tell the rate of a false one, nobody is taken along."""
    site = start(upcoming=upcoming_network(), models={"next_fmr": 1e-5})
    operator = site.client(Role.OPERATOR)
    enrol(operator, "alice", person=1, captures=1)
    assert operator.identify(probe_of(1, 4, splits=BOTH)).subject_id == "alice"
    assert site.gallery.template_counts("alice") == {OLD: 1, NEW: 1}
    for person in range(2, 12):
        enrol(operator, f"subject-{person}", person, captures=1)
    assert operator.identify(probe_of(2, 4, splits=BOTH)).subject_id == "subject-2"
    assert site.gallery.template_counts("subject-2") == {OLD: 1}
    assert operator.verify("subject-2", probe_of(2, 5, splits=BOTH)).outcome is Outcome.ACCEPT
    assert site.gallery.template_counts("subject-2") == {OLD: 1, NEW: 1}


def test_a_capture_that_could_not_be_enrolled_is_not_taken_along(start: Start) -> None:
    """Quality as for an enrolment; liveness passed, where the realm looks at it at all."""
    site = start(upcoming=upcoming_network(), enrolment={"min_quality": 0.5}, decisions={"liveness": "advisory"})
    enrol(site.client(Role.OPERATOR), "alice", person=1, captures=1)
    door = site.client(Role.AGENT, name="door-1")
    passed = LivenessLevel.PASSED
    for refused in (
        probe_of(1, 4, quality=0.4, splits=BOTH, liveness=passed),
        probe_of(1, 4, splits=BOTH, liveness=LivenessLevel.OFF),
    ):
        assert door.verify("alice", refused).outcome is Outcome.ACCEPT
        assert site.gallery.template_counts("alice") == {OLD: 1}
    door.verify("alice", probe_of(1, 5, splits=BOTH, liveness=passed))
    assert site.gallery.template_counts("alice") == {OLD: 1, NEW: 1}


def test_a_capture_that_resembles_somebody_else_in_the_new_space_is_not_taken_along(moving: Site) -> None:
    """An operator would be warned; here nobody looks."""
    operator = moving.client(Role.OPERATOR)
    operator.create_subject("carol", "", consent())
    operator.add_template("carol", probe_of(1, 3, splits=(OTHER_SPLIT,)))
    assert operator.verify("alice", probe_of(1, 4, splits=BOTH)).outcome is Outcome.ACCEPT
    assert moving.gallery.template_counts("alice") == {OLD: 2}


def test_a_scratch_partition_moves_nobody(moving: Site) -> None:
    """What `duetface evaluate` does must leave no trace in the gallery, nor in itself."""
    both = moving.client(Role.OPERATOR, Role.AUDITOR)
    enrol(both, "alice", person=1, captures=1, partition="scratch")
    assert both.identify(probe_of(1, 5, splits=BOTH), partition="scratch").subject_id == "alice"
    assert moving.gallery.template_counts("alice", "scratch") == {OLD: 1}
    assert moving.gallery.template_counts("alice") == {OLD: 2}


def test_nobody_is_taken_past_their_consent(moving: Site) -> None:
    """The consent of the old template counts: a later one for another purpose is no leave to go on with this."""
    operator = moving.client(Role.OPERATOR)
    now = moving.clock.clocks.now()
    ending = replace(consent(), expires_at=now + timedelta(seconds=60))
    operator.create_subject("bob", "", ending)
    operator.add_template("bob", probe_of(2))
    operator.add_consent("bob", replace(consent(), purpose="parking"))
    assert operator.verify("bob", probe_of(2, 4, splits=BOTH)).outcome is Outcome.ACCEPT
    new = moving.gallery.list_templates("bob")[-1]
    first = moving.gallery.subject("bob").consents[0].consent_id
    assert (new.space_digest, new.consent_id) == (NEW, first)
    moving.clock.ahead_s = 120
    assert operator.verify("bob", probe_of(2, 5, splits=BOTH)).outcome is Outcome.REJECT


def test_an_enrolment_while_the_gallery_moves_is_in_both_spaces(moving: Site) -> None:
    """Whoever comes new need not move; both spaces are told, and both splits."""
    operator = moving.client(Role.OPERATOR)
    info = operator.info()
    assert (info.splits, info.space_digest, info.upcoming_space_digest) == (BOTH, OLD, NEW)
    operator.create_subject("carol", "", consent())
    added = operator.add_template("carol", probe_of(3, splits=BOTH))
    assert moving.gallery.template_counts("carol") == {OLD: 1, NEW: 1}
    ids = {template.template_id for template in operator.templates("carol")}
    assert ids == {added.template_id, *added.further_template_ids}
    assert added.revision == moving.gallery.revision


def test_when_the_old_space_has_gone_the_new_one_decides_alone(start: Start) -> None:
    """The end of a move: same people, another network, no new picture."""
    site = start(upcoming=upcoming_network())
    operator = site.client(Role.OPERATOR)
    enrol(operator, "alice", person=1, captures=1)
    operator.verify("alice", probe_of(1, 4, splits=BOTH))
    assert site.gallery.maintenance.finish_upgrade(NEW, [], site.gallery.audit()[0].actor) == 1
    assert operator.verify("alice", probe_of(1, 5, splits=BOTH)).outcome is Outcome.ACCEPT
    site.service.__exit__(None, None, None)
    config = load_config(site.realm.state)
    with RunningService(config, upcoming_network()) as after:
        site.service = after
        door = site.client(Role.AGENT, name="door-1")
        assert door.info().splits == (OTHER_SPLIT,)
        assert door.verify("alice", probe_of(1, 6, splits=BOTH)).outcome is Outcome.ACCEPT
        assert door.identify(probe_of(1, 7, splits=BOTH)).subject_id == "alice"


@pytest.mark.parametrize(
    ("upcoming", "models", "said"),
    [
        (fake_network(), {}, "next_space is the space that is served already"),
        (upcoming_network(), {"next_fmr": 1e-7}, r"models\.next_fmr: an FMR of 1e-07 was asked for"),
    ],
)
def test_a_move_that_could_take_nobody_along_is_refused_at_the_start(
    realm: Realm, upcoming: object, models: dict[str, float], said: str
) -> None:
    """Told with the key to change, before anybody waits for weeks."""
    config = load_config(realm.state, {"models": models})
    with pytest.raises(ConfigError, match=said):
        RunningService(config, fake_network(), None, upcoming).__enter__()  # type: ignore[arg-type]
