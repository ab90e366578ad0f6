"""The sealed snapshot of an index: a start from it answers as one from the store, and nothing foreign is opened."""

import json
import os
from dataclasses import replace

import pytest

from duetface.errors import GalleryError
from gallery import snapshot
from gallery.gallery import Gallery
from gallery.keys import HeldKeys
from tests.unit.gallery.world import OPERATOR, OPTIONS, SPACE, World, answers, consent, person, three_people


@pytest.fixture
def kept(tmp_path):
    """A gallery of three people that writes snapshots."""
    world = World(tmp_path, options=replace(OPTIONS, snapshot_path=tmp_path / "gallery.snapshot"))
    three_people(world)
    yield world
    world.gallery.close()


def loads(world: World) -> list[int]:
    """Open anew; returns how many templates were read from the store, page by page."""
    pages: list[int] = []
    world.gallery.close()
    world.gallery = Gallery.open(world.url, "hq", world.keys, world.clock, world.options, pages.append)
    return pages


def test_a_start_from_a_snapshot_answers_as_one_from_the_store(kept):
    """Only what changed since is read from the store, removals included."""
    before = answers(kept.gallery)
    revision = kept.gallery.maintenance.write_snapshot()
    assert revision == kept.gallery.revision
    assert loads(kept) == []
    assert answers(kept.gallery) == before
    kept.enrol("dora", 4)
    kept.gallery.withdraw_consents("bob", OPERATOR)
    kept.clock.move(seconds=1)
    assert loads(kept) == []
    found = {match.subject_id for match in kept.gallery.identify(person(4), SPACE, k=9)}
    assert found == {"alice", "carl", "dora"}


def test_a_snapshot_is_sealed_and_private(kept):
    """It is the templates: neither a vector nor an id in it is readable."""
    kept.gallery.maintenance.write_snapshot()
    path = kept.options.snapshot_path
    content = path.read_bytes()
    rotated = kept.gallery._realm.vault.rotate(person(1)[None])[0]
    assert rotated.tobytes()[:16] not in content
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.glob("*.partial")) == []


@pytest.mark.parametrize("position", [3, 12, 60, -200, -1])
def test_a_snapshot_with_one_flipped_bit_is_refused_and_rebuilt(kept, caplog, position):
    """Before FAISS or NumPy sees a byte of it; the start only takes longer."""
    before = answers(kept.gallery)
    kept.gallery.maintenance.write_snapshot()
    content = bytearray(kept.options.snapshot_path.read_bytes())
    content[position] ^= 1
    kept.options.snapshot_path.write_bytes(content)
    assert loads(kept) == [6]
    assert answers(kept.gallery) == before
    assert "snapshot refused" in caplog.text


@pytest.mark.parametrize("length", [0, 5, 100, 3000, -1])
def test_a_snapshot_cut_short_is_refused_and_rebuilt(kept, caplog, length):
    """A disk that was full, a copy that broke off."""
    kept.gallery.maintenance.write_snapshot()
    content = kept.options.snapshot_path.read_bytes()
    kept.options.snapshot_path.write_bytes(content[:length])
    assert loads(kept) == [6]
    assert "snapshot refused" in caplog.text


def test_a_snapshot_of_another_history_is_refused(kept, caplog, tmp_path):
    """A database restored from a copy went another way: the same revision numbers mean other people."""
    kept.gallery._realm.store.settle()
    copy = kept.path.read_bytes()
    kept.enrol("dora", 4)
    kept.gallery.maintenance.write_snapshot()
    kept.gallery.close()
    kept.path.write_bytes(copy)
    assert loads(kept) == [6]
    kept.enrol("emil", 5)
    assert loads(kept) == [7]
    assert ["another history" in record.why for record in caplog.records] == [True, True]
    assert kept.gallery.identify(person(4), SPACE)[0].cosine_similarity < 0.5


def test_a_snapshot_of_another_realm_or_key_is_refused(kept, caplog):
    """Put there by mistake, or by somebody."""
    kept.gallery.maintenance.write_snapshot()
    keys = HeldKeys({1: b"R" * 32}, {1: b"S" * 32})
    with Gallery.create(kept.url, "lab", keys, kept.clock, kept.options) as lab:
        assert lab.identify(person(1), SPACE) == []
    assert "snapshot refused" in caplog.text


def test_an_empty_snapshot_that_the_realm_did_not_seal_is_refused(kept, caplog):
    """History is no secret: whoever may write the file could otherwise make everybody a stranger at the next start."""
    before, revision = answers(kept.gallery), kept.gallery.revision
    (history,) = [row.own_digest.hex() for row in kept.gallery.audit() if row.audit_id == revision]
    header = snapshot.Header("hq", 1, revision, history, [], [])
    snapshot.write(kept.options.snapshot_path, lambda: snapshot.Content(os.urandom(32), header, iter(())))
    assert loads(kept) == [6]
    assert "snapshot refused" in caplog.text
    assert answers(kept.gallery) == before


def test_a_snapshot_of_an_empty_gallery_is_one(tmp_path):
    """Nothing is sealed as well as something: the next start believes it."""
    world = World(tmp_path, options=replace(OPTIONS, snapshot_path=tmp_path / "gallery.snapshot"))
    world.gallery.create_subject("alice", "", consent(world.clock), OPERATOR)
    world.gallery.maintenance.write_snapshot()
    _, parts = snapshot.read(world.options.snapshot_path, world.gallery._realm.vault.derive("index snapshots", 1))
    assert (parts, loads(world)) == ([], [])
    world.add("alice", 1, 0)
    assert world.gallery.identify(person(1), SPACE)[0].subject_id == "alice"
    world.gallery.close()


@pytest.mark.parametrize("header", [{"lengths": 5}, {"lengths": ["x"]}, {"lengths": [-1]}, {"realm_key_version": [1]}])
def test_a_snapshot_header_of_other_types_is_refused(kept, caplog, header):
    """It is read before it can be authenticated, to choose the key."""
    fields = {"realm": "hq", "realm_key_version": 1, "revision": 1, "history": "", "names": [""], "lengths": [1]}
    encoded = json.dumps(fields | header).encode()
    kept.options.snapshot_path.write_bytes(b"DFSN0002" + len(encoded).to_bytes(8, "little") + encoded)
    assert loads(kept) == [6]
    assert "snapshot refused" in caplog.text


def test_an_erasure_takes_the_snapshot_along(kept):
    """It holds the erased vector, and sealed bytes cannot be searched."""
    kept.gallery.maintenance.write_snapshot()
    kept.gallery.delete_subject("alice", OPERATOR)
    assert not kept.options.snapshot_path.exists()
    kept.gallery.maintenance.write_snapshot()
    loads(kept)
    assert {match.subject_id for match in kept.gallery.identify(person(1), SPACE, k=9)} == {"bob", "carl"}


def test_a_snapshot_that_cannot_be_written_is_said(kept, monkeypatch):
    """The gallery works without it; the old one stays."""
    kept.gallery.maintenance.write_snapshot()
    content = kept.options.snapshot_path.read_bytes()

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(GalleryError, match=r"gallery\.snapshot cannot be written: No space left"):
        kept.gallery.maintenance.write_snapshot()
    monkeypatch.undo()
    assert kept.options.snapshot_path.read_bytes() == content


def test_without_a_path_there_is_no_snapshot(world):
    """Said, instead of a file in the working folder."""
    with pytest.raises(GalleryError, match="no snapshot path"):
        world.gallery.maintenance.write_snapshot()
