from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from duetface.spec import PlaneSpec, SplitSpec
from duetface.types import ProtectedFace
from privacy import hill_climbing, linkage
from privacy.fit import Budget, Machine
from privacy.pack import Group
from recognition_service.decision import OperatingPoint

PLANE = PlaneSpec("codes", (4, 7, 7), 4, True, "stored", (1.0,))
SPLIT = SplitSpec("made-up", 1, "learned", 112, "ycbcr-full-range", 1, 8, (), (), (PLANE,))


class Projection:
    """A small true service: a fixed random projection of the codes."""

    def __init__(self, dimension: int = 16) -> None:
        self._matrix = np.random.default_rng(7).normal(size=(PLANE.count, dimension))

    def embed(self, faces: Sequence[ProtectedFace]) -> NDArray[np.float32]:
        """(B, D) of unit length."""
        rows = np.stack([face.planes["codes"].reshape(-1) for face in faces]) @ self._matrix
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def group(count: int, seed: int) -> Group:
    """Random messages of `count` people, their teacher's embedding a projection of them."""
    codes = np.random.default_rng(seed).integers(-7, 8, (count, *PLANE.shape)).astype(np.int8)
    aim = Projection(512).embed([ProtectedFace(SPLIT.digest, {"codes": one}) for one in codes])
    names = tuple(f"p{i}_0001" for i in range(count))
    return Group(names, {"codes": codes}, np.ones((count, 5), np.float32), aim, aim, np.ones(count, np.int64))


def victims(count: int, threshold: float) -> hill_climbing.StoredVictims:
    """Enrolled with a service whose threshold is met by chance now and then."""
    random = np.random.default_rng(3).normal(size=(count, 16))
    templates = (random / np.linalg.norm(random, axis=1, keepdims=True)).astype(np.float32)
    return hill_climbing.StoredVictims(templates, OperatingPoint(1e-3, threshold), seed=1)


def test_a_student_links_unprotected_messages(tmp_path: Path) -> None:
    """The attack succeeds where the message simply is the face: the embedding of unseen messages is learned."""
    own, others = group(256, 1), group(40, 2)
    student = linkage.train_student(
        own.view("codes"), own.teacher, Budget(passes=6, batch=32, width=4, blocks=1), tmp_path, print, Machine()
    )
    cosine = (linkage.embed(student, others.view("codes")) * others.teacher).sum(axis=1)
    assert cosine.mean() > 0.2  # of random vectors in 512 dimensions: 0.0 +- 0.04


def test_accuracy_is_perfect_for_separate_scores_and_half_for_equal_ones() -> None:
    """Both ends, with thresholds taken from other folds."""
    same = np.arange(200) % 2 == 0
    people = [str(i) for i in range(200)]
    assert linkage.accuracy(np.where(same, 0.8, 0.1), same, people, seed=1).mean == 1.0
    chance = linkage.accuracy(np.random.default_rng(1).normal(size=200), same, people, seed=1)
    assert 0.35 < chance.mean < 0.65


def test_the_best_threshold_is_the_one_a_search_finds() -> None:
    """Against the slow obvious way."""
    random = np.random.default_rng(4)
    same = random.random(60) < 0.5
    cosine = random.normal(size=60) + same
    slow = max(((cosine >= t) == same).sum() for t in [*cosine, np.inf])
    assert ((cosine >= linkage.best_threshold(cosine, same)) == same).sum() == slow


def test_the_true_accept_rate_keeps_the_false_accept_rate() -> None:
    """One of a hundred others may pass."""
    same = np.arange(300) >= 100
    cosine = np.where(same, 0.5, np.arange(300) / 100)
    assert linkage.true_accept_rate(cosine, same, 1e-2) == 0.0
    assert linkage.true_accept_rate(np.where(same, 2.0, np.arange(300) / 100), same, 1e-2) == 1.0


def test_an_api_that_tells_similarities_is_climbed() -> None:
    """The unprotected case: a few hundred answers lead to an accept that decisions alone do not give away."""
    found = victims(3, threshold=0.85)
    reached, first_accept = hill_climbing.climb(group(50, 1), SPLIT, Projection(), found, 0, 600, seed=1)
    assert reached > 0.85
    assert 0 < first_accept <= 600


def test_guessing_by_decisions_is_accepted_as_often_as_chance() -> None:
    """At this threshold about one comparison in a thousand matches; averages and many faces gain nothing beyond."""
    far_apart = victims(50, threshold=0.68)
    queries = hill_climbing.guesses(group(300, 1), SPLIT, seed=1)
    found = hill_climbing.guess(queries, 300, Projection(), far_apart, fmr=1e-3)
    assert found.low <= 2e-3
    assert found.accept_rate < 5e-3
    assert found.expected_broken == pytest.approx(1 - (1 - 1e-3) ** 300)


def test_decisions_are_those_of_the_services_rule() -> None:
    """At the threshold is a match, as recognition_service.decision says."""
    found = victims(5, threshold=0.4)
    probes = Projection().embed(list(islice(hill_climbing.guesses(group(64, 2), SPLIT, 1), 64)))
    assert (found.accepts(probes) == (found.similarities(probes) >= 0.4)).all()


def test_after_the_own_faces_come_averages_that_are_valid_messages() -> None:
    """A wolf must pass the codec, or the service would refuse it unlooked."""
    from duetface.codec import encode_plane

    own = group(3, 1)
    for face in islice(hill_climbing.guesses(own, SPLIT, 1), 3, 30):
        assert face.planes["codes"].dtype == np.int8
        encode_plane(face.planes["codes"], PLANE)
