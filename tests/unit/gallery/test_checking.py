import numpy as np
import pytest

from duetface.errors import GalleryError
from gallery import checking
from tests.unit.gallery.world import OPERATOR, SPACE, person


def test_a_healthy_realm_has_nothing_to_tell(world):
    """Index equals store, the chain holds, people differ, captures of one agree."""
    for number in (1, 2, 3):
        world.enrol(f"s{number}", number, captures=3)
    report = world.gallery.maintenance.check(SPACE, threshold=0.45)
    assert (report.templates, report.audit_rows) == (9, 12)
    assert report.missing == report.stale == report.alike == report.odd == ()
    assert report.scores.genuine.sum() == 9  # 3 people, 3 pairs each
    assert report.scores.impostor.sum() == 27
    bins = np.arange(200) * checking.BIN_WIDTH - 1
    assert bins[report.scores.genuine > 0].min() > 0.4
    assert bins[report.scores.impostor > 0].max() < 0.4


def test_two_names_of_one_person_and_a_strangers_picture_are_found(world, monkeypatch):
    """The two mistakes of enrolling: somebody under a second name, a picture under the wrong name."""
    monkeypatch.setattr(checking, "_BLOCK", 2)
    world.enrol("alice", 1, captures=2)
    world.enrol("alias", 1)
    world.enrol("bob", 2, captures=2)
    wrong = world.gallery.add_template("bob", SPACE, person(9), 0.5, "d", OPERATOR)
    report = world.gallery.maintenance.check(SPACE, threshold=0.45)
    assert report.alike == (("alias", "alice"),)
    assert (report.false_matches, report.odd) == (2, (("bob", wrong.template_id),))


def test_an_index_that_differs_from_the_store_is_told(world):
    """It heals by following the feed; if not, somebody must know."""
    first = world.enrol("alice", 1, captures=2)[0]
    space = next(iter(world.gallery._view._spaces.values()))
    space.index.remove([first.template_id])
    space.index.add([77], person(5)[None])
    report = world.gallery.maintenance.check(SPACE, threshold=0.45)
    assert (report.missing, report.stale) == ((first.template_id,), (77,))


def test_an_empty_realm_is_healthy(world):
    """Before the first enrolment."""
    report = world.gallery.maintenance.check(SPACE, threshold=0.45)
    assert (report.templates, report.alike) == (0, ())


def test_a_tampered_store_is_refused(world):
    """A report about changed rows would be worth nothing."""
    world.enrol("alice", 1)
    world.sqlite("UPDATE templates SET quality = 0.9, ciphertext = zeroblob(600)")
    with pytest.raises(GalleryError, match="template 2"):
        world.gallery.maintenance.check(SPACE, threshold=0.45)


def test_poor_pictures_are_told_by_name(world):
    """An operator takes a better one; half the quality is asked for here."""
    world.enrol("alice", 1)
    poor = world.gallery.add_template("alice", SPACE, person(1, 1), 0.1, "d", OPERATOR)
    assert world.gallery.maintenance.check(SPACE, 0.45, good_quality=0.5).poor == (("alice", poor.template_id),)
    assert world.gallery.maintenance.check(SPACE, 0.45).poor == ()
