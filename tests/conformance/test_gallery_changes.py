"""Revisions, replicas, concurrent use and maintenance of the gallery, on every kind of database."""

import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest

from duetface.errors import (
    ConsentError,
    ContractError,
    ExistsError,
    OverloadedError,
    TemplateLimitError,
)
from gallery import subjects, templates
from gallery.erasure import fingerprint
from gallery.fingerprints import Fingerprints
from gallery.gallery import Gallery
from gallery.keys import HeldKeys
from gallery.purging import PurgePolicy
from gallery.records import ChangeKind, Consent, Upgrade
from gallery.rekeying import Outdated
from tests.servers import postgres_server
from tests.unit.gallery.world import OPERATOR, OPTIONS, OTHER_SPACE, SPACE, World, consent, person


def test_revisions_have_no_gap_whatever_fails_in_between(world):
    """Followers rely on it: the next change is always the next number."""
    world.enrol("alice", 1, captures=2)
    with pytest.raises(ExistsError):
        world.enrol("alice", 1)
    world.gallery.set_hold("alice", held=True, actor=OPERATOR)
    with pytest.raises(ConsentError):
        world.gallery.delete_subject("alice", OPERATOR)
    world.gallery.set_hold("alice", held=False, actor=OPERATOR)
    world.gallery.delete_subject("alice", OPERATOR)
    changes = world.gallery.changes()
    assert [change.revision for change in changes] == list(range(1, 7))
    assert changes[-1].kind is ChangeKind.SUBJECT_DELETED
    assert world.gallery.revision == 6


def test_revisions_have_no_gap_under_concurrent_writers(world):
    """Numbers are given in commit order, by whichever thread commits."""

    def enrol(start: int) -> None:
        for number in range(start, start + 4):
            world.enrol(f"s{number}", number)

    threads = [threading.Thread(target=enrol, args=(10 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [change.revision for change in world.gallery.changes()] == list(range(1, 33))
    assert world.gallery.size == 16
    assert world.gallery.identify(person(32), SPACE)[0].subject_id == "s32"
    assert world.gallery.verify_audit() == 32


def test_two_services_that_write_at_once_share_one_sequence(world):
    """Two processes know nothing of each other's locks: the realm's row puts them in line, on every database."""
    with Gallery.open(world.url, "hq", world.keys, world.clock, OPTIONS) as other:

        def enrol(gallery: Gallery, start: int) -> None:
            for number in range(start, start + 4):
                gallery.create_subject(f"s{number}", "", consent(world.clock), OPERATOR)
                gallery.add_template(f"s{number}", SPACE, person(number), 0.5, "d", OPERATOR)

        threads = [
            threading.Thread(target=enrol, args=(gallery, 10 * place))
            for place, gallery in enumerate((world.gallery, other, world.gallery, other))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [change.revision for change in other.changes()] == list(range(1, 33))
        assert world.gallery.verify_audit() == 32
        for gallery in (world.gallery, other):
            gallery.refresh()
            assert gallery.statistics().templates == 16
            assert gallery.identify(person(33), SPACE)[0].subject_id == "s33"


def test_two_realms_in_one_database_do_not_see_each_other(world):
    """Templates, ids, revisions, counters and audit are a realm's own, on every database."""
    world.enrol("alice", 1)
    keys = HeldKeys({1: b"R" * 32}, {1: b"S" * 32})
    with Gallery.create(world.url, "lab", keys, world.clock, OPTIONS) as lab:
        assert lab.identify(person(1), SPACE) == []
        lab.create_subject("alice", "", consent(world.clock), OPERATOR)
        lab.add_template("alice", SPACE, person(2), 0.5, "d", OPERATOR)
        assert lab.verify_similarity("alice", person(1), SPACE) < 0.5
        assert (lab.revision, lab.size, lab.verify_audit()) == (2, 1, 2)
        lab.delete_subject("alice", OPERATOR)
    world.gallery.refresh()
    assert world.gallery.identify(person(1), SPACE)[0].subject_id == "alice"
    assert (world.gallery.revision, world.gallery.verify_audit()) == (2, 2)


def test_a_change_is_seen_by_the_reader_who_asks_for_its_revision(world):
    """Enrol here, verify there: a replica that has not looked yet follows before it answers."""
    with Gallery.open(world.url, "hq", world.keys, world.clock, OPTIONS) as replica:
        added = world.enrol("alice", 1)[0]
        assert replica.identify(person(1), SPACE) == []
        found = replica.identify(person(1), SPACE, at_least_revision=added.revision)
        assert found[0].subject_id == "alice"
        with pytest.raises(OverloadedError, match="revision 99") as refusal:
            replica.identify(person(1), SPACE, at_least_revision=99)
        assert refusal.value.retry_after_s > 0
        with pytest.raises(OverloadedError, match="revision 99") as refusal:
            replica.verify_similarity("alice", person(1), SPACE, at_least_revision=99)
        assert refusal.value.retry_after_s > 0


def test_a_replica_follows_by_polling(world):
    """Every kind of change reaches a process that only looks at the feed now and then."""
    with Gallery.open(world.url, "hq", world.keys, world.clock, OPTIONS) as replica:
        world.enrol("alice", 1, captures=2)
        world.enrol("bob", 2)
        first = world.enrol("carl", 3, captures=2)[0]
        world.enrol("x", 4, partition="scratch")
        replica.refresh()
        assert replica.statistics().templates == 5
        world.gallery.delete_subject("alice", OPERATOR)
        world.gallery.delete_template(first.template_id, OPERATOR)
        world.gallery.drop_partition("scratch", OPERATOR)
        world.gallery.withdraw_consents("bob", OPERATOR)
        world.clock.move(seconds=1)
        assert replica.refresh() == world.gallery.revision
        assert [match.subject_id for match in replica.identify(person(1), SPACE, k=9)] == ["carl"]
        assert replica.identify(person(4), SPACE, partition="scratch") == []
        assert replica.statistics().templates == world.gallery.statistics().templates == 2


def test_a_follower_is_woken_by_another_process_commit(world):
    """Polling guarantees, a hint is faster; a decision changes no index and wakes nobody needlessly."""
    with Gallery.open(world.url, "hq", world.keys, world.clock, OPTIONS) as replica:
        wakeup = replica.wakeup()
        assert not wakeup.wait(0.1)
        world.enrol("alice", 1)
        assert wakeup.wait(10)
        replica.refresh()
        assert replica.identify(person(1), SPACE)[0].subject_id == "alice"
        waiting = threading.Thread(target=wakeup.wait, args=(60,))
        waiting.start()
        wakeup.close()
        waiting.join(10)
        assert not waiting.is_alive()
        assert not wakeup.wait(10)


@pytest.mark.parametrize("error", [MemoryError, RuntimeError])
def test_an_index_that_fails_after_the_commit_heals_before_the_next_search(world, caplog, error):
    """Committed is committed, whatever fails then: the caller gets its revision; no search answers from before it."""
    view = world.gallery._view
    follow, view._follow = view._follow, lambda *_: (_ for _ in ()).throw(error())
    world.enrol("alice", 1)
    assert "index is behind the store" in caplog.text
    with pytest.raises(error):
        world.gallery.identify(person(1), SPACE)
    view._follow = follow
    assert world.gallery.identify(person(1), SPACE)[0].subject_id == "alice"


def test_searches_run_while_others_write(world):
    """Readers take no lock: each answer is the state before or after a write, never half of one."""
    world.enrol("anchor", 1)
    stop, wrong = threading.Event(), []

    def search() -> None:
        while not stop.is_set():
            match = world.gallery.identify(person(1), SPACE)[0]
            if match.subject_id != "anchor" or match.cosine_similarity < 0.999:
                wrong.append(match)

    readers = [threading.Thread(target=search) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(2, 12):
        world.enrol(f"s{number}", number, captures=2)
        if number % 3 == 0:
            world.gallery.delete_subject(f"s{number}", OPERATOR)
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []


def test_statistics_count_what_is_searchable(world):
    """Readiness compares the two revisions; capacity sheets use the memory."""
    world.enrol("alice", 1, captures=2)
    statistics = world.gallery.statistics()
    assert (statistics.subjects, statistics.templates) == (1, 2)
    assert statistics.revision == statistics.applied_revision == 3
    assert statistics.spaces[0].exact and statistics.spaces[0].memory_bytes >= 2 * 512


def test_what_an_identification_is_compared_with_is_counted_without_the_store(world):
    """Every identification states its false positive rate; a count of all subjects each time would cost more than it.

    Each partition and space for itself.
    """
    world.enrol("alice", 1, captures=2)
    world.gallery.delete_template(world.enrol("bob", 2, captures=2)[0].template_id, OPERATOR)
    with replaced_engine(world.gallery):
        assert world.gallery.searched("", SPACE) == 3
        assert world.gallery.searched("", OTHER_SPACE) == world.gallery.searched("scratch", SPACE) == 0


@contextmanager
def replaced_engine(gallery):
    """No statement reaches the store inside the block."""
    store, engine = gallery._realm.store, gallery._realm.store.engine
    store.engine = None
    yield
    store.engine = engine


def test_a_rotation_of_keys_and_a_purge_work(world):
    """Operator's work on the rows themselves, whatever the database."""
    world.enrol("alice", 1, captures=2)
    world.gallery.create_subject("ended", "", consent(world.clock, days=1), OPERATOR)
    keys = HeldKeys({1: b"r" * 32, 2: b"R" * 32}, {1: b"s" * 32, 2: b"S" * 32})
    assert world.reopen(keys).maintenance.rotate_keys(OPERATOR) == Outdated(0, 0)
    world.clock.move(days=2)
    assert world.gallery.maintenance.purge(PurgePolicy(), OPERATOR, dry_run=False).subjects == ("ended",)
    world.reopen(HeldKeys({2: b"R" * 32}, {2: b"S" * 32}))
    assert [match.subject_id for match in world.gallery.identify(person(1), SPACE, k=5)] == ["alice"]


def test_a_move_to_another_space_loses_nobody(world):
    """Both spaces answer side by side; the old one goes only when everybody is in the new one."""
    world.enrol("alice", 1, captures=2)
    world.enrol("bob", 2)
    world.clock.move(days=1)
    maintenance = world.gallery.maintenance

    def move(name: str, number: int) -> None:
        world.gallery.add_template(name, OTHER_SPACE, person(number), 0.5, "d", OPERATOR)

    move("alice", 1)
    new, old = maintenance.coverage()
    assert (new.space_digest, new.subjects, new.templates, new.only_here) == (OTHER_SPACE, 1, 1, 0)
    assert (old.space_digest, old.subjects, old.templates, old.only_here) == (SPACE, 2, 3, 1)
    assert maintenance.left_behind(OTHER_SPACE, world.clock.now) == ["bob"]
    with pytest.raises(ContractError, match="1 subjects have no template in the space that stays"):
        maintenance.finish_upgrade(OTHER_SPACE, [], OPERATOR)
    assert world.gallery.verify_similarity("bob", person(2), SPACE) > 0.99
    move("bob", 2)
    assert maintenance.finish_upgrade(OTHER_SPACE, [], OPERATOR) == 3
    assert [space.space_digest for space in maintenance.coverage()] == [OTHER_SPACE]
    assert world.gallery.identify(person(2), SPACE) == []
    assert world.gallery.identify(person(2), OTHER_SPACE)[0].subject_id == "bob"


def test_whom_an_operator_gives_up_is_lost_and_nobody_else(world):
    """By name: somebody enrolled in the old space since the count was taken stays."""
    for number, name in enumerate(("alice", "bob", "held"), start=1):
        world.enrol(name, number)
    world.gallery.set_hold("held", held=True, actor=OPERATOR)
    assert world.gallery.maintenance.finish_upgrade(OTHER_SPACE, ["alice", "bob", "held"], OPERATOR) == 2
    assert world.gallery.template_counts("alice") == world.gallery.template_counts("bob") == {}
    assert world.gallery.template_counts("held") == {SPACE: 1}
    world.enrol("late", 4)
    with pytest.raises(ContractError, match="1 subjects have no template"):
        world.gallery.maintenance.finish_upgrade(OTHER_SPACE, ["held"], OPERATOR)
    assert world.gallery.template_counts("late") == {SPACE: 1}


def test_whose_consent_ends_need_not_move(world):
    """The old space may go on the day on which nobody who is left would be recognised in it anyway."""
    world.gallery.create_subject("alice", "", consent(world.clock, days=10), OPERATOR)
    world.add("alice", 1, 0)
    left_on = [
        world.gallery.maintenance.left_behind(OTHER_SPACE, world.clock.now + timedelta(days=days)) for days in (0, 11)
    ]
    assert left_on == [["alice"], []]
    world.clock.move(days=11)
    assert world.gallery.maintenance.finish_upgrade(OTHER_SPACE, [], OPERATOR) == 1


def test_a_template_of_an_accepted_capture_is_bound_to_its_decision_consent_and_number(world):
    """No operator looks at it: it says where it came from, and never outlives or outnumbers what it came from."""
    world.enrol("alice", 1)
    (old,) = world.gallery.list_templates("alice")
    world.gallery.record_consent("alice", Consent("parking", "2", world.clock.now), OPERATOR)
    upgrade = Upgrade(SPACE, "decision-1", most=1)

    def take_along(capture: int) -> None:
        world.gallery.add_template("alice", OTHER_SPACE, person(1, capture), 0.5, "d", OPERATOR, upgrade=upgrade)

    take_along(3)
    new = world.gallery.list_templates("alice")[-1]
    assert (new.space_digest, new.consent_id) == (OTHER_SPACE, old.consent_id)
    last = world.gallery.audit(world.gallery.last_audit_id - 1)[0]
    assert (last.action, last.details["decision_id"], last.details["from_space"]) == (
        "template_added",
        "decision-1",
        SPACE.hex(),
    )
    with pytest.raises(TemplateLimitError):
        take_along(4)
    world.gallery.delete_template(new.template_id, OPERATOR)
    world.gallery.withdraw_consents("alice", OPERATOR)
    world.clock.move(seconds=1)
    world.gallery.record_consent("alice", Consent("parking", "3", world.clock.now), OPERATOR)
    with pytest.raises(ConsentError):
        take_along(5)


def test_a_renewed_consent_keeps_its_templates_answering(world):
    """Prolonging takes no new picture; what has ended cannot be prolonged."""
    world.gallery.create_subject("alice", "", consent(world.clock, days=10), OPERATOR)
    world.add("alice", 1, 0)
    world.gallery.renew_consent("alice", world.clock.now + timedelta(days=30), OPERATOR)
    last = world.gallery.audit(world.gallery.last_audit_id - 1)[0]
    assert last.details["what"] == "consent renewed"
    assert last.details["after_us"] - last.details["before_us"] == 20 * 86_400 * 10**6
    world.clock.move(days=20)
    assert world.gallery.verify_similarity("alice", person(1), SPACE) > 0.99
    assert world.gallery.identify(person(1), SPACE)[0].subject_id == "alice"
    with pytest.raises(ConsentError, match="must lie in the future"):
        world.gallery.renew_consent("alice", world.clock.now, OPERATOR)
    world.clock.move(days=11)
    assert world.gallery.identify(person(1), SPACE) == []
    with pytest.raises(ConsentError, match="no consent that holds"):
        world.gallery.renew_consent("alice", None, OPERATOR)


def test_a_receipt_proves_that_no_file_of_the_database_holds_a_byte(world):
    """SQLite's file and log, or the server's files and log; found there before."""
    world.enrol("alice", 1, captures=2)
    world.enrol("bob", 2)
    folders = [world.folder]
    if not world.path.exists():
        data = postgres_server().data_directory
        with world.gallery._realm.store.reading() as connection:
            query = "SELECT oid FROM pg_database WHERE datname = current_database()"
            folders = [data / f"base/{connection.exec_driver_sql(query).scalar_one()}", data / "pg_wal"]
    held = everything_held_of(world, "alice")
    if not world.path.exists():
        postgres_server().run("CHECKPOINT")
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert sum(held.found_in_files(files).values()) > 0
    receipt = world.gallery.maintenance.erasure_receipt(world.gallery.delete_subject("alice", OPERATOR))
    assert receipt.templates == 2
    searched = world.gallery.maintenance.prove_erased(receipt, folders)
    assert all(any(str(folder) in name for name in searched) for folder in folders)
    assert world.gallery.identify(person(2), SPACE)[0].subject_id == "bob"


def everything_held_of(world: World, subject_id: str) -> Fingerprints:
    """Fingerprints of a subject's stored values, taken as a deletion takes them."""
    realm = world.gallery._realm
    with realm.store.reading() as connection:
        place = subjects.require_subject(connection, realm.realm_id, "", subject_id).place
        mine = templates.templates.c.subject_key == place.subject_key
        stored = list(templates.read_templates(connection, realm.realm_id, mine))
        return fingerprint(realm.vault, stored, subjects.sealed_values(connection, realm.realm_id, place.subject_key))
