"""Subjects are ranked and not their templates, however many one of them has."""

import numpy as np
import pytest

from gallery.faiss_exact import FaissExactIndex
from gallery.faiss_rabitq import FaissRabitqIndex
from gallery.roster import Roster
from gallery.schema import NEVER_US
from gallery.view import Space
from tests.unit.gallery.world import person

DIMENSION = 64
MANY = 10_000


@pytest.mark.parametrize("make", [FaissExactIndex, FaissRabitqIndex])
def test_ten_thousand_templates_of_one_subject_hide_nobody(make):
    """All of them are closer to the probe than anybody else is; the two next subjects are named all the same."""
    noise = np.random.default_rng(1).normal(scale=0.02, size=(MANY, DIMENSION))
    crowd = person(1, dimension=DIMENSION) + noise
    vectors = [*crowd / np.linalg.norm(crowd, axis=1, keepdims=True)]
    vectors += [person(number, dimension=DIMENSION) for number in (2, 3, 4)]
    space = Space(make(DIMENSION), Roster())
    ids = list(range(1, MANY + 4))
    space.index.add(ids, np.asarray(vectors, np.float32))
    space.roster.put(ids, [1] * MANY + [2, 3, 4], [NEVER_US] * len(ids))
    probe = person(1, dimension=DIMENSION)[None]
    expected = sorted((2, 3, 4), key=lambda number: -float(probe[0] @ person(number, dimension=DIMENSION)))
    ranked = space.rank(probe, 3, 0)
    assert [subject for subject, _ in sorted(ranked.items(), key=lambda one: -one[1])][:3] == [1, *expected[:2]]
