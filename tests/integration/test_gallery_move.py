"""Moving a realm from SQLite to a real PostgreSQL while it is used."""

import itertools
import threading
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import text

from duetface.errors import GalleryError, NotFoundError, OverloadedError
from gallery import rekeying
from gallery.brute_force import BruteForceIndex
from gallery.gallery import Gallery
from gallery.indexes import IndexKind, IndexSettings, index_factory
from gallery.moving import move
from gallery.records import Counted
from gallery.view import changing
from tests.integration.moving import ANCHORS, decide, everything, lively_world, moved_to
from tests.unit.gallery.world import KEYS, OPERATOR, OPTIONS, SPACE, World, consent, person


@pytest.fixture
def world(tmp_path):
    """A realm with a bit of everything."""
    made = lively_world(tmp_path)
    yield made
    made.gallery.close()


class Users:
    """Threads that use a gallery until it is moved away, and what was acknowledged to them."""

    def __init__(self, gallery: Gallery) -> None:
        """They begin at once."""
        self.enrolled: list[tuple[str, int]] = []
        self.erased: list[str] = []
        self.wrong: list[object] = []
        self.searches = 0
        self._gallery = gallery
        self._stop = threading.Event()
        works = (lambda: self._enrol(1000), lambda: self._enrol(2000), self._erase, self._search)
        self._threads = [threading.Thread(target=self._noting, args=(work,)) for work in works]
        for thread in self._threads:
            thread.start()

    def _noting(self, work) -> None:
        try:
            work()
        except OverloadedError as error:
            if "was moved to another database" not in str(error):
                self.wrong.append(error)
        except Exception as error:  # noqa: BLE001  (a thread's error would be lost)
            self.wrong.append(error)

    def _enrol(self, start: int) -> None:
        for number in itertools.count(start):
            name = f"s{number}"
            self._gallery.create_subject(name, "", consent(self._gallery._realm.clock), OPERATOR)
            self._gallery.add_template(name, SPACE, person(number), 0.5, "d", OPERATOR)
            self.enrolled.append((name, number))

    def _erase(self) -> None:
        """Enrol and erase under one id, again and again, and rekey in between."""
        for number in itertools.count(5000):
            name = f"gone-{number % 3}"
            self._gallery.create_subject(name, "", consent(self._gallery._realm.clock), OPERATOR)
            self._gallery.add_template(name, SPACE, person(number), 0.5, "d", OPERATOR)
            with changing(self._gallery._realm, self._gallery._view) as writing:
                subject = self._gallery.subject(name)
                place = rekeying.SubjectPlace("", subject_number(writing, name), subject.subject_id)
                rekeying.rekey_subject(writing, place, OPERATOR)
            self._gallery.delete_subject(name, OPERATOR)
            self.erased.append(name)
            decide(self._gallery, f"anchor-{number % 8 + 1}", Counted.FAILURE)

    def _search(self) -> None:
        """Searches never stop, not even for the switch."""
        while not self._stop.is_set():
            number = ANCHORS[self.searches % len(ANCHORS)]
            found = self._gallery.identify(person(number), SPACE)[0].subject_id
            similarity = self._gallery.verify_similarity(f"anchor-{number}", person(number), SPACE)
            if found != f"anchor-{number}" or similarity is None or similarity < 0.999:
                self.wrong.append((number, found, similarity))
            self.searches += 1

    def finish(self) -> None:
        """Wait for the writers, which the move ends, and stop searching."""
        for thread in self._threads[:-1]:
            thread.join(60)
        self._stop.set()
        self._threads[-1].join(60)


def subject_number(writing, name: str) -> int:
    """The number of a subject, inside a transaction."""
    query = text("SELECT subject_key FROM subjects WHERE subject_id = :name")
    return int(writing.connection.execute(query, {"name": name}).scalar_one())


def test_a_realm_moves_while_it_is_used_and_loses_nothing(world, place):
    """Enrolments, erasures, new keys, decisions and searches go on throughout; all that was acknowledged is there."""
    users = Users(world.gallery)
    slowly = threading.Event()
    report = moved_to(place, world, lambda _what, _count: slowly.wait(0.3))
    searches = users.searches
    users.finish()
    assert users.wrong == []
    assert users.searches > searches > 10 and len(users.enrolled) > 10 and len(users.erased) > 3
    assert everything(world.url) == everything(place)
    assert 0 < report.pause_s < 5
    options = replace(OPTIONS, index_factory=index_factory(IndexSettings(IndexKind.PGVECTOR, url=place)))
    with Gallery.open(place, "hq", KEYS, world.clock, options) as moved:
        stored = {record.subject_id for record in moved.list_subjects(limit=10**6)}
        assert {name for name, _ in users.enrolled} <= stored
        assert [change.revision for change in moved.changes(limit=10**6)] == list(range(1, report.revision + 1))
        assert moved.verify_audit() == report.audit_rows
        assert moved.lock_out_state("", "door-1") == world.gallery.lock_out_state("", "door-1")
        for name, number in users.enrolled[-5:]:
            assert moved.identify(person(number), SPACE)[0].subject_id == name
        answers_as_the_oracle(moved)
        added = moved.create_subject("after", "", consent(world.clock), OPERATOR)
        assert added == report.revision + 1


def answers_as_the_oracle(moved: Gallery) -> None:
    """The pgvector index of a gallery against brute force over what its store holds."""
    (space,) = [space for key, space in moved._view._spaces.items() if key.partition == ""]
    oracle = BruteForceIndex(OPTIONS.dimension)
    ids, vectors = zip(*opened_templates(moved), strict=True)
    oracle.add(ids, np.stack(vectors))
    probes = np.stack([person(number, capture=7) for number in (1, 5, 21, 99, 1001)])
    rotated = moved._realm.vault.rotate(probes)
    for found, expected in zip(space.index.search(rotated, 20), oracle.search(rotated, 20), strict=True):
        assert [match.template_id for match in found] == [match.template_id for match in expected]
        assert [match.cosine_similarity for match in found] == pytest.approx(
            [match.cosine_similarity for match in expected], abs=1e-6
        )


def opened_templates(gallery: Gallery) -> list[tuple[int, np.ndarray]]:
    """Every template of the main partition, by number."""
    from gallery.templates import read_templates

    with gallery._realm.store.reading() as connection:
        stored = [one for one in read_templates(connection, gallery._realm.realm_id) if one.place.partition == ""]
    return [(one.place.template_id, one.open(gallery._realm.vault)) for one in stored]


class Clients:
    """Threads that enrol, trying again when told to, and search without pause."""

    def __init__(self, world: World) -> None:
        """They begin at once."""
        self.enrolled: list[int] = []
        self.wrong: list[str] = []
        self._gallery, self._clock = world.gallery, world.clock
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._enrol, self._search)]
        for thread in self._threads:
            thread.start()

    def _enrol(self) -> None:
        number = 1000
        while not self._stop.is_set():
            persist(lambda n=number: self._gallery.create_subject(f"s{n}", "", consent(self._clock), OPERATOR))
            persist(lambda n=number: self._gallery.add_template(f"s{n}", SPACE, person(n), 0.5, "d", OPERATOR))
            self.enrolled.append(number)
            number += 1

    def _search(self) -> None:
        while not self._stop.is_set():
            if self._gallery.identify(person(1), SPACE)[0].subject_id != "anchor-1":
                self.wrong.append("not found")
            if not self._gallery.verify_similarity("anchor-1", person(1), SPACE):
                self.wrong.append("not compared")

    def go_on_for(self, enrolments: int) -> None:
        """Let so many more be enrolled, then stop."""
        enough = len(self.enrolled) + enrolments
        while len(self.enrolled) < enough and self._threads[0].is_alive():
            self._stop.wait(0.05)
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        assert len(self.enrolled) >= enough


def test_a_process_that_serves_the_old_place_goes_on_in_the_new_one(world, place):
    """No restart: writers are turned away for a moment and try again, searches notice nothing."""
    gallery, wakeup, clients = world.gallery, world.gallery.wakeup(), Clients(world)
    moved_to(place, world)
    assert gallery.maintenance.moved_to().startswith("postgresql")
    gallery.maintenance.continue_at(place)
    assert gallery.maintenance.moved_to() is None
    clients.go_on_for(10)
    assert clients.wrong == []
    wakeup.wait(0.1)
    assert not wakeup.wait(0.1)  # a line to the old place stays quiet and whole
    wakeup.close()
    with Gallery.open(place, "hq", KEYS, world.clock, OPTIONS) as moved:
        for number in clients.enrolled:
            assert moved.identify(person(number), SPACE)[0].subject_id == f"s{number}"
        assert moved.verify_audit() == moved.last_audit_id
        assert moved.revision == gallery.revision


def persist(change) -> None:
    """As a client of the service: try again as long as one is told to."""
    while True:
        try:
            change()
            return
        except OverloadedError:
            threading.Event().wait(0.02)


def test_a_process_goes_on_nowhere_but_where_its_realm_went(world, place, tmp_path):
    """A setting that names another database must not make somebody else's people answer."""
    with pytest.raises(GalleryError, match="is empty: run"):
        world.gallery.maintenance.continue_at(place)
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other")
    other.enrol("mallory", 66)
    other.gallery.close()
    move(other.url, place, "hq")
    with pytest.raises(GalleryError, match=r"does not go on where .*gallery\.db ended"):
        world.gallery.maintenance.continue_at(place)
    assert world.gallery.identify(person(1), SPACE)[0].subject_id == "anchor-1"


def test_an_erasure_right_after_a_move_waits_for_who_followed_the_old_place(world, place):
    """A service that has not gone along yet still holds the templates in its memory: no receipt before it follows."""
    replica = Gallery.open(world.url, "hq", KEYS, world.clock, replace(OPTIONS, follower="replica-2"))
    moved_to(place, world)
    with Gallery.open(place, "hq", KEYS, world.clock, OPTIONS) as moved:
        revision = moved.delete_subject("anchor-2", OPERATOR)
        with pytest.raises(GalleryError, match="replicas replica-2 have not followed"):
            moved.maintenance.erasure_receipt(revision, timeout_s=0.2)
        replica.maintenance.continue_at(place)
        replica.refresh()
        assert moved.maintenance.erasure_receipt(revision).templates == 2
        replica.close()


def test_an_erasure_in_the_new_place_is_one(world, place):
    """Receipts of before the move hold, and new ones are given."""
    revision = world.gallery.delete_subject("anchor-2", OPERATOR)
    moved_to(place, world)
    with Gallery.open(place, "hq", KEYS, world.clock, OPTIONS) as moved:
        assert moved.maintenance.erasure_receipt(revision).templates == 2
        with pytest.raises(NotFoundError):
            moved.subject("anchor-2")
