"""An erasure is finished in the background, after a crash and beside everything else; nobody waits for it."""

import threading
from dataclasses import replace

from gallery.background import Background
from gallery.fingerprints import Fingerprints
from gallery.gallery import Gallery
from gallery.keys import HeldKeys
from tests.unit.gallery.erasures import a_reader, completed, traces, values_of
from tests.unit.gallery.world import KEYS, OPERATOR, OPTIONS, SPACE, World, person


def test_a_deletion_does_not_wait_for_the_search_of_the_files(world, monkeypatch):
    """A search of a large database takes seconds; the operator's answer, and everybody's writes, must not."""
    world.enrol("alice", 1)
    searchers, search = set(), Fingerprints.found_in_files
    monkeypatch.setattr(
        Fingerprints, "found_in_files", lambda *given: searchers.add(threading.current_thread()) or search(*given)
    )
    with world.gallery._eraser._completing:  # as long as a completion of an earlier deletion takes
        revision = world.gallery.delete_subject("alice", OPERATOR)
        assert world.gallery.verify_similarity("alice", person(1), SPACE) is None
        world.enrol("bob", 2)
    assert completed(world)
    assert searchers and threading.current_thread() not in searchers
    assert world.gallery.maintenance.erasure_receipt(revision).templates == 1


def test_many_deletions_share_one_search(world, monkeypatch):
    """Each by itself would read the whole file: a purge of a thousand would read it a thousand times."""
    for number in range(6):
        world.enrol(f"s{number}", number)
    searched, search = [], Fingerprints.found_in_files
    monkeypatch.setattr(Fingerprints, "found_in_files", lambda *given: searched.append(given) or search(*given))
    with world.gallery._eraser._completing:
        revisions = [world.gallery.delete_subject(f"s{number}", OPERATOR) for number in range(6)]
    assert world.gallery.complete_erasures() == 0
    assert len(searched) <= 2  # the second after a rewriting, if the first has found a stale page
    assert [world.gallery.maintenance.erasure_receipt(revision).templates for revision in revisions] == [1] * 6


def test_erasures_under_an_older_realm_key_are_searched_beside_newer_ones(world):
    """Their fingerprints have another key: one search for each."""
    world.enrol("alice", 1)
    world.enrol("bob", 2)
    with a_reader(world):
        world.gallery.delete_subject("alice", OPERATOR)
        world.reopen(HeldKeys({1: b"r" * 32, 2: b"R" * 32}, {1: b"s" * 32})).maintenance.begin_rotation()
        world.gallery.delete_subject("bob", OPERATOR)
    assert world.gallery.complete_erasures() == 0
    assert completed(world, within_s=0)


def test_an_erasure_that_was_interrupted_is_finished_after_the_next_start(tmp_path):
    """Stopped between the commit and the rewriting: the pending row makes the next start go on, unasked."""
    world = World(tmp_path, options=replace(OPTIONS, busy_timeout_ms=50))
    world.enrol("alice", 1)
    values = values_of(world, "alice")
    with a_reader(world):
        revision = world.gallery.delete_subject("alice", OPERATOR)
        world.gallery.close()
    assert not completed(world, within_s=0)
    world.reopen()
    assert completed(world)
    assert traces(world, values) == 0
    assert world.gallery.maintenance.erasure_receipt(revision).templates == 1
    world.gallery.close()


def test_a_service_takes_up_within_a_minute_what_a_killed_command_left(world):
    """`gallery erase` beside it, killed after its commit: nobody starts anew, and nobody asks for a receipt."""
    world.enrol("alice", 1)
    world.gallery.refresh()
    with Gallery.open(world.url, "hq", KEYS, world.clock, replace(OPTIONS, indexed=False), load=False) as command:
        command._eraser.close()  # whatever it would do from now on, it does not
        revision = command.delete_subject("alice", OPERATOR)
    world.gallery.refresh()
    assert not completed(world, within_s=1.5)  # the command may be at it: not every look at the store takes over
    world.clock.move(seconds=60)
    world.gallery.refresh()
    assert completed(world)
    assert world.gallery.maintenance.erasure_receipt(revision).templates == 1


def test_a_clock_that_was_set_back_does_not_keep_a_service_from_its_upkeep(world):
    """An hour back is an hour in which nothing would be taken up."""
    world.enrol("alice", 1)
    with Gallery.open(world.url, "hq", KEYS, world.clock, replace(OPTIONS, indexed=False), load=False) as command:
        command._eraser.close()
        command.delete_subject("alice", OPERATOR)
    world.clock.move(hours=-1)
    world.gallery.refresh()
    assert completed(world)


def test_a_close_does_not_wait_for_the_end_of_a_search(world, monkeypatch):
    """A million templates take minutes at the slow pace; the next start goes on."""
    monkeypatch.setattr("gallery.background._GATHER_S", 0.0)
    searching, search = threading.Event(), Fingerprints.found_in_files

    def endless(prints, paths, rest):
        while True:
            searching.set()
            rest()

    monkeypatch.setattr(Fingerprints, "found_in_files", endless)
    world.enrol("alice", 1)
    world.gallery.delete_subject("alice", OPERATOR)
    assert searching.wait(10)
    world.gallery.close()
    assert not completed(world, within_s=0)
    monkeypatch.setattr(Fingerprints, "found_in_files", search)
    world.reopen()
    assert completed(world)


def test_a_deletion_that_is_committed_is_answered_whatever_fails_then(world, caplog):
    """An error would make the caller delete again, and be told that nobody is there."""
    world.enrol("alice", 1)
    eraser = world.gallery._eraser
    eraser._background, background = None, eraser._background
    revision = world.gallery.delete_subject("alice", OPERATOR)
    assert "erasure is pending" in caplog.text
    eraser._background = background
    assert world.gallery.maintenance.erasure_receipt(revision).templates == 1


def test_the_background_lives_on_after_a_failure(caplog, monkeypatch):
    """A disk that is full for an hour must not end erasing until the next start; and a close ends it."""
    monkeypatch.setattr("gallery.background._GATHER_S", 0.0)
    monkeypatch.setattr("gallery.background._RETRY_S", 0.01)
    outcomes, done = iter([RuntimeError(), 2, 0]), threading.Event()

    def work():
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        if outcome == 0:
            done.set()
        return outcome

    background = Background("test", work)
    background.wake()
    assert done.wait(10)
    background.close()
    assert [record.message for record in caplog.records] == [
        "background work failed",
        "background work is not finished",
    ]
    background.wake()
    background.close()
