from inspect import signature

import numpy as np
import pytest

from cli import gallery_check
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


def test_a_large_realm_is_compared_by_a_sample_of_people_and_says_so(world):
    """All pairs of a million templates would take hours; every template is opened all the same."""
    for number in range(12):
        world.enrol(f"s{number:02}", number, captures=2)
    report = world.gallery.maintenance.check(SPACE, 0.45, sample=checking.Sample(templates=9))
    assert (report.templates, report.people) == (24, 12)
    assert (report.templates_compared, report.people_compared) == (8, 4)
    assert report.scores.genuine.sum() == 4
    assert report.scores.impostor.sum() == 8 * 7 / 2 - 4
    whole = world.gallery.maintenance.check(SPACE, 0.45, sample=checking.Sample(templates=24))
    assert (whole.templates_compared, whole.people_compared, whole.missing) == (24, 12, ())
    world.sqlite(
        "UPDATE templates SET ciphertext = zeroblob(600) WHERE template_id = (SELECT max(template_id) FROM templates)"
    )
    for seed in range(3):
        with pytest.raises(GalleryError, match="template 36"):
            world.gallery.maintenance.check(SPACE, 0.45, sample=checking.Sample(templates=9, seed=seed))


def test_a_seed_draws_the_same_people_again_and_another_one_others():
    """A finding can be shown again; the next night looks at other pairs, and in the end at everybody."""
    counts = {number: 1 + number % 3 for number in range(300)}
    first = checking.Sample(50, seed=1).of(counts)
    assert first == checking.Sample(50, seed=1).of(dict(reversed(counts.items())))
    assert 48 <= sum(counts[number] for number in first) <= 50
    assert set().union(*(checking.Sample(50, seed).of(counts) for seed in range(100))) == set(counts)


def test_the_command_compares_as_many_as_the_library():
    """Its default is written out, since it loads no numbers before it is told what to do."""
    assert signature(gallery_check.check).parameters["compare"].default == checking.COMPARED_AT_MOST


def test_somebody_is_compared_even_if_nobody_fits():
    """Ten thousand templates of each: one person's are looked at, and nothing fails."""
    assert len(checking.Sample(50).of({1: 10_000, 2: 10_000})) == 1
    assert checking.Sample(50).of({}) == set()
