"""Erasure is proven on bytes: in files, log and memory, by the same search that found them before."""

import base64
import contextlib
import json
import random
import sqlite3
from dataclasses import replace

import pytest

from duetface.errors import GalleryError, NotFoundError
from gallery import enrolment, subjects
from gallery.erasure import FORMS, forms_of
from gallery.faiss_rabitq import FaissRabitqIndex
from gallery.fingerprints import Fingerprints
from gallery.gallery import Gallery
from gallery.keys import HeldKeys
from gallery.receipt import Receipt
from tests.unit.gallery.erasures import a_reader, traces, values_of
from tests.unit.gallery.world import KEYS, OPERATOR, OPTIONS, SPACE, World, consent, person


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
