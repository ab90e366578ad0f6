import json
from dataclasses import replace
from datetime import timedelta

import pytest

from duetface.errors import ConfigError, GalleryError
from gallery.gallery import Gallery
from gallery.key_files import FileKeys, create_key_files
from gallery.keys import HeldKeys
from gallery.purging import PurgePolicy
from gallery.records import ChangeKind
from gallery.rekeying import Outdated
from tests.unit.gallery.test_erasure import a_reader
from tests.unit.gallery.world import KEYS, OPERATOR, OPTIONS, SPACE, World, answers, consent, person, three_people

BOTH = HeldKeys({1: b"r" * 32, 2: b"R" * 32}, {1: b"s" * 32, 2: b"S" * 32})
NEW = HeldKeys({2: b"R" * 32}, {2: b"S" * 32})


def test_rotating_keys_changes_every_secret_and_no_answer(world):
    """Realm key, subject keys and rotation are new; nobody had to come back for a picture; old files may go."""
    three_people(world)
    before, old = answers(world.gallery), world.sqlite("SELECT sealed_key FROM subject_keys")
    gallery = world.reopen(BOTH)
    assert gallery.maintenance.outdated() == Outdated(0, 0)
    gallery.maintenance.begin_rotation()
    assert gallery.maintenance.outdated() == Outdated(3, 6)
    assert gallery.maintenance.rotate_keys(OPERATOR) == Outdated(0, 0)
    assert answers(gallery) == pytest.approx(before)
    assert gallery.subject("alice").label == "label of alice"
    gallery = world.reopen(NEW)
    assert answers(gallery) == pytest.approx(before)
    content = world.path.read_bytes()
    assert not [key for (key,) in old if key[16:32] in content]
    with pytest.raises(GalleryError, match="whose key file is missing"):
        world.reopen(KEYS)


def test_rotating_keys_may_be_stopped_and_gone_on_with(world):
    """In between, some are under the old secrets and some under the new: all are found, and enrolment goes on."""
    three_people(world)
    before = answers(world.gallery)
    gallery = world.reopen(BOTH)
    done: list[int] = []
    left = gallery.maintenance.rotate_keys(OPERATOR, progress=done.append, stop=lambda: len(done) == 1)
    assert left == Outdated(2, 4)
    assert answers(gallery) == pytest.approx(before)
    assert gallery.verify_similarity("alice", person(1), SPACE) > 0.99
    assert gallery.verify_similarity("carl", person(3), SPACE) > 0.99
    world.add("carl", 3, 7)
    gallery = world.reopen(BOTH)
    assert answers(gallery)["alice"] == pytest.approx(before["alice"])
    assert gallery.maintenance.rotate_keys(OPERATOR) == Outdated(0, 0)
    assert [space.rotation_version for space in gallery.statistics().spaces] == [2]
    assert world.reopen(NEW).statistics().templates == 7


def test_a_killed_rotation_leaves_every_subject_whole(world, monkeypatch):
    """One subject is one transaction."""
    three_people(world)
    before = answers(world.gallery)
    gallery = world.reopen(BOTH)
    seals = iter(range(100))
    seal_label = gallery._realm.vault.seal_label

    def fail_at_the_second(*arguments):
        if next(seals) == 1:
            raise KeyboardInterrupt
        return seal_label(*arguments)

    monkeypatch.setattr(gallery._realm.vault, "seal_label", fail_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        gallery.maintenance.rotate_keys(OPERATOR)
    gallery = world.reopen(BOTH)
    assert answers(gallery) == pytest.approx(before)
    assert gallery.maintenance.outdated() == Outdated(2, 4)


def test_a_replica_follows_a_rotation(world):
    """It has both key files while the rotation runs."""
    three_people(world)
    before = answers(world.gallery)
    gallery = world.reopen(BOTH)
    with Gallery.open(world.url, "hq", BOTH, world.clock, OPTIONS) as replica:
        gallery.maintenance.rotate_keys(OPERATOR)
        replica.refresh()
        assert answers(replica) == pytest.approx(before)
        assert [space.rotation_version for space in replica.statistics().spaces] == [2]


def test_every_reissued_template_is_in_the_feed_and_every_rekeyed_subject_in_the_audit(world):
    """Somebody answers for a rotation, as for any change."""
    three_people(world)
    first = world.gallery.revision
    gallery = world.reopen(BOTH)
    gallery.maintenance.rotate_keys(OPERATOR)
    assert [change.kind for change in gallery.changes(first)] == [ChangeKind.TEMPLATE_REISSUED] * 6
    assert [row.action for row in gallery.audit(first)].count("subject_rekeyed") == 3
    assert gallery.audit(gallery.last_audit_id - 1)[0].action == "keys_rotated"
    assert gallery.verify_audit() == first + 10


def test_a_stolen_old_database_does_not_open_with_the_new_keys_alone(world, tmp_path):
    """Revocation: what was copied before the rotation is worth nothing without the old keys."""
    three_people(world)
    world.gallery._realm.store.settle()
    (tmp_path / "stolen.db").write_bytes(world.path.read_bytes())
    with pytest.raises((GalleryError, ConfigError), match="key"):
        Gallery.open(str(tmp_path / "stolen.db"), "hq", NEW, world.clock, OPTIONS)


def test_a_purge_tells_first_and_then_erases_the_same(world):
    """`--dry-run` is a promise: ended consents, templates over age; never somebody under a legal hold."""
    world.gallery.create_subject("ended", "", consent(world.clock, days=1), OPERATOR)
    world.add("ended", 1, 0)
    world.gallery.create_subject("held", "", consent(world.clock, days=1), OPERATOR)
    world.gallery.set_hold("held", held=True, actor=OPERATOR)
    old = world.enrol("old", 2)[0]
    world.clock.move(days=10)
    world.add("old", 2, 1)
    policy = PurgePolicy(template_max_age=timedelta(days=5))
    due = world.gallery.maintenance.purge(policy, OPERATOR, dry_run=True)
    assert (due.subjects, due.templates, due.held) == (("ended",), (old.template_id,), ("held",))
    assert world.gallery.size == 3
    assert world.gallery.maintenance.purge(policy, OPERATOR, dry_run=False) == due
    assert [record.subject_id for record in world.gallery.list_subjects()] == ["held", "old"]
    assert len(world.gallery.list_templates("old")) == 1
    assert world.gallery.maintenance.purge(policy, OPERATOR, dry_run=True).subjects == ()


def test_templates_under_an_ended_consent_go_when_a_newer_one_keeps_the_subject(world):
    """Each template lives by the consent it was made under."""
    world.gallery.create_subject("alice", "", consent(world.clock, days=1), OPERATOR)
    first = world.add("alice", 1, 0)
    world.clock.move(hours=1)
    world.gallery.record_consent("alice", consent(world.clock), OPERATOR)
    world.add("alice", 1, 1)
    world.clock.move(days=2)
    report = world.gallery.maintenance.purge(PurgePolicy(), OPERATOR, dry_run=False)
    assert (report.subjects, report.templates) == ((), (first.template_id,))
    assert world.gallery.verify_similarity("alice", person(1, 1), SPACE) > 0.99


def test_a_person_gets_everything_held_about_them(world):
    """Record, consents, templates as held, and what was done; and the export itself is on record."""
    added = world.enrol("alice", 1)[0]
    export = world.gallery.maintenance.export("alice", OPERATOR)
    text = json.dumps(export, default=str)
    assert "label of alice" in text and "door access" in text and "subject_exported" in text
    assert list(export["embeddings"]) == [added.template_id]
    assert world.gallery.audit()[-1].action == "subject_exported"


@pytest.fixture
def filed(tmp_path):
    """A gallery whose keys are files, and another process's view of it that searches, as a service does."""
    create_key_files(tmp_path / "keys")
    world = World(tmp_path, keys=FileKeys(tmp_path / "keys"))
    three_people(world)
    with Gallery.open(world.url, "hq", FileKeys(tmp_path / "keys"), world.clock, OPTIONS) as service:
        yield world, service
    world.gallery.close()


def test_a_running_service_answers_all_through_a_rotation_that_another_process_does(filed):
    """It meets rows under a key that it has never seen, before it has looked at the feed, and finds the file."""
    world, service = filed
    before, done = answers(service), list[int]()
    operator = world.gallery.maintenance
    assert operator.add_key_versions(["realm", "rotation"]) == {"realm": 2, "rotation": 2}
    operator.rotate_keys(OPERATOR, progress=done.append, stop=lambda: len(done) == 2)
    for number, name in enumerate(("alice", "bob", "carl"), start=1):
        assert service.verify_similarity(name, person(number), SPACE) > 0.99
    assert answers(service) == pytest.approx(before)
    service.refresh()
    assert answers(service) == pytest.approx(before)
    assert operator.rotate_keys(OPERATOR) == Outdated(0, 0)
    service.refresh()
    assert service.maintenance.key_versions() == {"realm": 2, "rotation": 2}
    assert [space.rotation_version for space in service.statistics().spaces] == [2]
    service.create_subject("dora", "", consent(world.clock), OPERATOR)
    service.add_template("dora", SPACE, person(4), 0.5, "d", OPERATOR)
    assert operator.outdated() == Outdated(0, 0)
    (world.folder / "keys" / "realm.key").unlink()
    (world.folder / "keys" / "rotation.key").unlink()
    assert answers(world.reopen(FileKeys(world.folder / "keys"))) == pytest.approx(before)


def test_a_version_that_merely_lies_there_is_used_by_nobody_before_the_rotation_begins(filed):
    """It is copied to every machine first: whoever sealed under it at once would lock out those that lack it."""
    world, service = filed
    operator = world.gallery.maintenance
    operator.add_key_versions(["realm", "rotation"])
    assert operator.rotation_is_due()
    service.refresh()
    with Gallery.open(world.url, "hq", FileKeys(world.folder / "keys"), world.clock, OPTIONS) as restarted:
        for gallery in (service, restarted, world.gallery):
            assert gallery.maintenance.key_versions() == {"realm": 1, "rotation": 1}
        restarted.create_subject("dora", "", consent(world.clock), OPERATOR)
        restarted.add_template("dora", SPACE, person(4), 0.5, "d", OPERATOR)
    assert world.sqlite("SELECT max(realm_key_version) FROM subject_keys") == [(1,)]
    operator.begin_rotation()
    service.refresh()
    assert service.maintenance.key_versions() == {"realm": 2, "rotation": 2}
    assert operator.rotate_keys(OPERATOR) == Outdated(0, 0)
    assert not operator.rotation_is_due()


def test_an_empty_realm_may_begin_anew_with_other_secrets(world):
    """Nothing is sealed under the first ones: they need not be kept for the sake of their number."""
    gallery = world.reopen(NEW)
    assert gallery.maintenance.key_versions() == {"realm": 2, "rotation": 2}
    three_people(world)
    assert set(answers(gallery)) == {"alice", "bob", "carl"}


def test_an_enrolment_in_the_middle_of_a_rotation_is_found_after_it(filed):
    """The service may still turn by the old rotation: what it stores says so, and the next round moves it."""
    world, service = filed
    operator = world.gallery.maintenance
    operator.add_key_versions(["rotation"])
    operator.rotate_keys(OPERATOR)
    service.add_template("alice", SPACE, person(1, 7), 0.5, "d", OPERATOR)
    assert operator.outdated() == Outdated(1, 1)
    assert service.verify_similarity("alice", person(1, 7), SPACE) > 0.99
    assert operator.rotate_keys(OPERATOR) == Outdated(0, 0)
    assert service.verify_similarity("alice", person(1, 7), SPACE) > 0.99


def test_a_wrong_new_key_on_a_replica_is_refused_and_nothing_is_sealed_under_it(filed, tmp_path):
    """Somebody made a second version by hand instead of copying it: two realms in one store would be the end."""
    world, _ = filed
    (tmp_path / "other").mkdir()
    for path in (world.folder / "keys").iterdir():
        (tmp_path / "other" / path.name).write_bytes(path.read_bytes())
        (tmp_path / "other" / path.name).chmod(0o600)
    with Gallery.open(world.url, "hq", FileKeys(tmp_path / "other"), world.clock, OPTIONS) as replica:
        world.gallery.maintenance.add_key_versions(["realm", "rotation"])
        for kind in ("realm", "rotation"):
            FileKeys(tmp_path / "other").add_version(kind, 2)
        replica.refresh()
        world.gallery.maintenance.begin_rotation()
        with pytest.raises(GalleryError, match=r"was made with another realm key \(version 2\)"):
            replica.refresh()
        replica.create_subject("eve", "", consent(world.clock), OPERATOR)
        assert replica.maintenance.key_versions() == {"realm": 1, "rotation": 1}
        world.gallery.maintenance.rotate_keys(OPERATOR)
        with pytest.raises(GalleryError, match="another realm key"):
            replica.verify_similarity("alice", person(1), SPACE)


def test_a_rotation_ends_by_destroying_old_bytes_even_if_it_was_stopped_just_before(world, monkeypatch):
    """The last subject is done, the process dies: the next call finds nobody left, and cleans all the same."""
    three_people(world)
    old = [key for (key,) in world.sqlite("SELECT sealed_key FROM subject_keys")]
    gallery = world.reopen(BOTH)
    monkeypatch.setattr(type(gallery.maintenance), "_destroy_old_bytes", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        gallery.maintenance.rotate_keys(OPERATOR)
    monkeypatch.undo()
    rewritten = list[int]()
    rewrite = gallery._realm.store.rewrite
    monkeypatch.setattr(gallery._realm.store, "rewrite", lambda: rewritten.append(1) or rewrite())
    for _ in range(2):
        assert gallery.maintenance.rotate_keys(OPERATOR) == Outdated(0, 0)
    assert rewritten == [1]
    content = b"".join(path.read_bytes() for path in world.folder.glob("gallery.db*"))
    assert not [key for key in old if key[16:32] in content]
    assert gallery.audit(gallery.last_audit_id - 1)[0].details == {"realm": 2, "rotation": 2}


def test_a_long_reader_keeps_a_rotation_from_calling_itself_done(tmp_path):
    """It may still read pages with the old sealed keys."""
    world = World(tmp_path, options=replace(OPTIONS, busy_timeout_ms=50))
    three_people(world)
    gallery = world.reopen(BOTH)
    with a_reader(world), pytest.raises(GalleryError, match="a long reader keeps old bytes: run this again"):
        gallery.maintenance.rotate_keys(OPERATOR)
    assert gallery.maintenance.rotate_keys(OPERATOR) == Outdated(0, 0)
    gallery.close()
