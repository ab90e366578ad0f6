"""Erasure is proven on bytes: in files, log and memory, by the same search that found them before."""

import base64
import contextlib
import json
import random
import sqlite3
import threading
import time
from dataclasses import replace

import pytest

from duetface.errors import GalleryError, NotFoundError
from gallery import enrolment, subjects
from gallery.background import Background
from gallery.erasure import FORMS, forms_of
from gallery.faiss_rabitq import FaissRabitqIndex
from gallery.fingerprints import Fingerprints
from gallery.gallery import Gallery
from gallery.keys import HeldKeys
from gallery.receipt import Receipt
from tests.unit.gallery.world import KEYS, OPERATOR, OPTIONS, SPACE, World, consent, person


def values_of(world: World, subject_id: str) -> list[bytes]:
    """Everything sealed that the file holds of a subject, read behind the gallery's back."""
    (key,) = world.sqlite(f"SELECT subject_key FROM subjects WHERE subject_id = '{subject_id}'")[0]
    found = []
    for table, column in (("templates", "ciphertext"), ("subject_keys", "sealed_key"), ("subjects", "sealed_label")):
        found += [row[0] for row in world.sqlite(f"SELECT {column} FROM {table} WHERE subject_key = {key}")]
    return found


def traces(world: World, values: list[bytes]) -> int:
    """Windows of these values in the database file and its log, counted plainly."""
    content = b"".join(path.read_bytes() for path in world.folder.glob("gallery.db*"))
    return sum(content.count(value[start : start + 16]) for value in values for start in (0, len(value) - 16))


def test_bytes_of_an_erased_subject_are_gone_from_every_file(world):
    """Ciphertext, sealed key and sealed label: found before, so that the search is known to see; not after."""
    world.enrol("alice", 1, captures=2)
    world.enrol("bob", 2)
    alice, bob = values_of(world, "alice"), values_of(world, "bob")
    assert len(alice) == 4
    assert traces(world, alice) >= 8
    world.gallery.delete_subject("alice", OPERATOR)
    assert world.gallery.complete_erasures() == 0
    assert traces(world, alice) == 0
    assert traces(world, bob) >= 6


def test_bytes_of_a_deleted_template_and_of_a_dropped_partition_are_gone(world):
    """Every way of deleting ends the same."""
    added = world.enrol("alice", 1, captures=2)
    world.enrol("x", 3, captures=2, partition="scratch")
    scratch = values_of(world, "x")
    (gone,) = world.sqlite(f"SELECT ciphertext FROM templates WHERE template_id = {added[0].template_id}")[0]
    assert traces(world, [gone]) and traces(world, scratch)
    world.gallery.delete_template(added[0].template_id, OPERATOR)
    world.gallery.drop_partition("scratch", OPERATOR)
    assert world.gallery.complete_erasures() == 0
    assert traces(world, [gone, *scratch]) == 0


def test_a_page_that_was_balanced_keeps_no_stale_copy(world):
    """SQLite moves rows between pages and leaves copies behind: here one of 127 sealed keys, before the rewriting."""
    chance, live, erased = random.Random(0), [], []
    for block in range(3):
        with world.gallery._realm.writing() as writing:
            for number in range(100 * block, 100 * block + 100):
                label = "x" * chance.randint(1, 250)
                enrolment.create_subject(writing, "", f"s{number}", label, consent(world.clock), OPERATOR)
                live.append(number)
                if chance.random() < 0.4:
                    victim = f"s{live.pop(chance.randrange(len(live)))}"
                    place = subjects.require_subject(writing.connection, writing.realm_id, "", victim).place
                    erased += subjects.sealed_values(writing.connection, writing.realm_id, place.subject_key)
                    enrolment.delete_subject(writing, "", victim, OPERATOR)
    world.gallery._realm.store.settle()
    if traces(world, erased) == 0:
        pytest.skip("this release of SQLite left no stale copy")
    world.gallery._eraser.complete()
    assert traces(world, erased) == 0


def test_the_index_holds_nothing_of_an_erased_subject(world):
    """Memory too: no row, no room behind the rows."""
    world.enrol("alice", 1)
    rotated = world.gallery._realm.vault.rotate(person(1)[None])[0]
    forms = Fingerprints.of(bytes(16), forms_of(rotated))
    assert found_in_memory(world, forms) > 0
    world.gallery.delete_subject("alice", OPERATOR)
    world.gallery.complete_erasures()
    assert found_in_memory(world, forms) == 0


def found_in_memory(world, prints):
    """Windows in all that the live indexes hold."""
    return sum(prints.found_in(content) for _, contents in world.gallery._view.contents() for content in contents)


def test_a_receipt_is_signed_and_proves_again_at_any_time(world, tmp_path):
    """What a privacy officer keeps: whose, when, how much, and a search that can be repeated on any file."""
    world.enrol("alice", 1, captures=2)
    (tmp_path / "backup").mkdir()
    with (
        contextlib.closing(sqlite3.connect(tmp_path / "backup" / "old.db")) as copy,
        contextlib.closing(sqlite3.connect(world.path)) as source,
    ):
        source.backup(copy)
    revision = world.gallery.delete_subject("alice", OPERATOR)
    receipt = Receipt.from_json(world.gallery.maintenance.erasure_receipt(revision).to_json())
    receipt.verify()
    assert (receipt.subject_id, receipt.templates, receipt.revision) == ("alice", 2, revision)
    searched = world.gallery.maintenance.prove_erased(receipt)
    assert str(world.path) in searched
    with pytest.raises(GalleryError, match=r"remain in .*old\.db"):
        world.gallery.maintenance.prove_erased(receipt, [tmp_path / "backup" / "old.db"])


def test_the_same_search_finds_every_form_before_the_erasure(world, tmp_path):
    """A proof by a search that could not have found anything would be empty."""
    world.enrol("alice", 1)
    values = values_of(world, "alice")
    rotated = world.gallery._realm.vault.rotate(person(1)[None])[0]
    revision = world.gallery.delete_subject("alice", OPERATOR)
    receipt = world.gallery.maintenance.erasure_receipt(revision)
    forms = dict(zip(FORMS, [values[0], *forms_of(rotated), *values[1:]], strict=True))
    for name, value in forms.items():
        dump = tmp_path / name.replace(" ", "-")
        dump.write_bytes(b"core dump" + value + b"end")
        with pytest.raises(GalleryError, match="erased bytes remain"):
            world.gallery.maintenance.prove_erased(receipt, [dump])


def test_a_receipt_tells_nothing_of_what_was_erased(world):
    """Whoever finds it has a name and numbers; its fingerprints are sealed."""
    world.enrol("alice", 1)
    values = values_of(world, "alice")
    receipt = world.gallery.maintenance.erasure_receipt(world.gallery.delete_subject("alice", OPERATOR))
    text = receipt.to_json()
    assert "label of" not in text
    rotated = world.gallery._realm.vault.rotate(person(1)[None])[0]
    sealed = base64.b64decode(receipt.sealed_fingerprints)
    assert Fingerprints.of(bytes(16), [*values, *forms_of(rotated)]).found_in(sealed) == 0


def test_a_changed_or_foreign_receipt_is_refused(world, tmp_path):
    """A receipt for somebody else, or for another day, is forged."""
    world.enrol("alice", 1)
    receipt = world.gallery.maintenance.erasure_receipt(world.gallery.delete_subject("alice", OPERATOR))
    for changed in (
        replace(receipt, subject_id="bob"),
        replace(receipt, templates=9),
        replace(receipt, signature=""),
        replace(receipt, public_key="AAAA"),
    ):
        with pytest.raises(GalleryError, match="signature does not verify"):
            world.gallery.maintenance.prove_erased(changed)
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other", keys=HeldKeys({1: b"R" * 32}, {1: b"S" * 32}))
    with pytest.raises(GalleryError, match="not of this realm"):
        other.gallery.maintenance.prove_erased(receipt)
    other.gallery.close()
    with pytest.raises(GalleryError, match="no erasure receipt"):
        Receipt.from_json("{}")
    with pytest.raises(GalleryError, match="format 9"):
        Receipt.from_json(json.dumps({**json.loads(receipt.to_json()), "format": 9}))


def test_only_an_erasure_has_a_receipt(world):
    """Asked for another change's revision."""
    world.enrol("alice", 1)
    with pytest.raises(NotFoundError, match="revision 1 is no erasure"):
        world.gallery.maintenance.erasure_receipt(1)


def test_a_copy_beside_the_database_must_go_before_the_receipt(world):
    """The copy made before a migration holds everybody; the receipt does not pretend it does not."""
    world.enrol("alice", 1)
    copy = world.path.with_name("gallery.db.schema-0001.bak")
    world.gallery._realm.store.settle()
    copy.write_bytes(world.path.read_bytes())
    revision = world.gallery.delete_subject("alice", OPERATOR)
    with pytest.raises(GalleryError, match=r"schema-0001\.bak: delete these copies"):
        world.gallery.maintenance.erasure_receipt(revision)
    copy.unlink()
    assert world.gallery.maintenance.erasure_receipt(revision).subject_id == "alice"


def test_a_receipt_waits_for_replicas_that_are_alive(tmp_path):
    """A replica that has not followed still holds the vector in memory; a stopped one holds nothing."""
    world = World(tmp_path)
    world.enrol("alice", 1)
    replica = Gallery.open(world.url, "hq", KEYS, world.clock, replace(OPTIONS, follower="replica-2"))
    revision = world.gallery.delete_subject("alice", OPERATOR)
    with pytest.raises(GalleryError, match=f"replicas replica-2 have not followed to revision {revision}"):
        world.gallery.maintenance.erasure_receipt(revision, timeout_s=0)
    replica.refresh()
    assert world.gallery.maintenance.erasure_receipt(revision, timeout_s=0).followers == ["replica-2"]
    world.enrol("bob", 2)
    revision = world.gallery.delete_subject("bob", OPERATOR)
    replica.close()
    assert world.gallery.maintenance.erasure_receipt(revision, timeout_s=0).followers == []
    world.gallery.close()


@contextlib.contextmanager
def a_reader(world):
    """Somebody else who still looks at the database as it was before."""
    with contextlib.closing(sqlite3.connect(world.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM templates").fetchone()
        yield


def completed(world, within_s=20):
    """Whether the background marks every erasure as complete before the time is over."""
    deadline = time.monotonic() + within_s
    while world.sqlite("SELECT 1 FROM erasures WHERE completed_at_us IS NULL"):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


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


def test_dropping_what_is_not_there_changes_nothing(world):
    """A misspelt name is told, as errors.proto promises; the audit does not speak of a partition that never was."""
    world.enrol("x", 1, partition="scratch")
    world.gallery.drop_partition("scratch", OPERATOR)
    revision, rows = world.gallery.revision, world.gallery.last_audit_id
    for name in ("scratch", "never"):
        with pytest.raises(NotFoundError, match="no such partition"):
            world.gallery.drop_partition(name, OPERATOR)
    assert (world.gallery.revision, world.gallery.last_audit_id) == (revision, rows)


def test_a_long_reader_delays_the_receipt_and_not_the_deletion(tmp_path):
    """Its old state of the pages lives in the log until it ends; nothing is claimed before."""
    world = World(tmp_path, options=replace(OPTIONS, busy_timeout_ms=50))
    world.enrol("alice", 1)
    with a_reader(world):
        revision = world.gallery.delete_subject("alice", OPERATOR)
        assert world.gallery.verify_similarity("alice", person(1), SPACE) is None
        with pytest.raises(GalleryError, match="long reader"):
            world.gallery.maintenance.erasure_receipt(revision, timeout_s=0)
    assert world.gallery.maintenance.erasure_receipt(revision, timeout_s=0).subject_id == "alice"
    world.gallery.close()


def test_a_path_that_names_nothing_proves_nothing(world, tmp_path):
    """A slip in a path must not read as "nothing found"."""
    world.enrol("alice", 1)
    receipt = world.gallery.maintenance.erasure_receipt(world.gallery.delete_subject("alice", OPERATOR))
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "mistyped.db", tmp_path / "empty"):
        with pytest.raises(GalleryError, match="is no file, and no folder with files"):
            world.gallery.maintenance.search_erased(receipt, [path])


def test_a_receipt_needs_a_replica_where_only_one_can_clean_the_index(world):
    """Milvus is cleaned by the service; without one running, nobody knows what lies there."""
    world.enrol("alice", 1)
    revision = world.gallery.delete_subject("alice", OPERATOR)
    with pytest.raises(GalleryError, match="a running service cleans: start it"):
        world.gallery.maintenance.erasure_receipt(revision, by_replica=True)
    with Gallery.open(world.url, "hq", KEYS, world.clock, replace(OPTIONS, follower="replica-2")) as replica:
        replica.refresh()
        receipt = world.gallery.maintenance.erasure_receipt(revision, by_replica=True)
    assert receipt.followers == ["replica-2"]


def test_a_replica_that_has_followed_holds_nothing_in_memory(world):
    """Its word is in the receipt: it compacts before it says that it has followed.  Its search is audited."""
    world.enrol("alice", 1, captures=2)
    options = replace(OPTIONS, follower="replica-2", index_factory=lambda dimension, _: FaissRabitqIndex(dimension))
    with Gallery.open(world.url, "hq", KEYS, world.clock, options) as replica:
        rotated = world.gallery._realm.vault.rotate(person(1)[None])[0]
        prints = Fingerprints.of(bytes(16), forms_of(rotated))
        assert any(prints.found_in(content) for _, held in replica._view.contents() for content in held)
        revision = world.gallery.delete_subject("alice", OPERATOR)
        replica.refresh()
        receipt = world.gallery.maintenance.erasure_receipt(revision, timeout_s=0)
        assert not any(prints.found_in(content) for _, held in replica._view.contents() for content in held)
        assert replica.maintenance.search_erased_in_memory(receipt, OPERATOR).found == {}
    last = world.gallery.audit(world.gallery.last_audit_id - 1)[0]
    assert (last.action, last.subject_id, last.outcome) == ("erasure_searched", "alice", "clean")


def test_a_gallery_without_an_index_erases_and_never_searches(world):
    """An operator's process beside a service: it must not load a million templates to delete one."""
    world.enrol("alice", 1)
    options = replace(OPTIONS, indexed=False)
    with Gallery.open(world.url, "hq", KEYS, world.clock, options, load=False) as operator:
        revision = operator.delete_subject("alice", OPERATOR)
        assert operator.maintenance.erasure_receipt(revision).templates == 1
        assert operator.statistics().spaces == ()
        with pytest.raises(GalleryError, match="without an index: ask the service"):
            operator.identify(person(1), SPACE)
        assert operator.verify_similarity("alice", person(1), SPACE) is None
    world.gallery.refresh()
    assert world.gallery.identify(person(1), SPACE) == []
