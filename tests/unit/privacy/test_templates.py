import numpy as np
import pytest
from numpy.typing import NDArray

from gallery.rotation import orthogonal_matrix, rotate
from privacy.unlinkability import (
    d_sys,
    inverted_cosine,
    key_recovery,
    linkage,
    match_by_geometry,
    procrustes,
    two_realms,
)


def mates(count: int, dimension: int, cosine: float, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(count, dimension) unit vectors and others at about that cosine to them."""
    random = np.random.default_rng(seed)
    first = random.normal(size=(count, dimension))
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = cosine * first + np.sqrt(1 - cosine**2) / np.sqrt(dimension) * random.normal(size=first.shape)
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    return first.astype(np.float32), second.astype(np.float32)


def test_d_sys_is_one_for_scores_that_never_meet() -> None:
    """Fully linkable: gallery.rotation under one key."""
    assert d_sys(np.linspace(0.5, 1, 100), np.linspace(-0.5, 0.4, 1000)) == pytest.approx(1)


def test_d_sys_of_one_distribution_is_only_the_estimators_bias() -> None:
    """It is above zero for finite samples, which is why the bias is reported beside it."""
    random = np.random.default_rng(1)
    small = d_sys(random.normal(size=100), random.normal(size=100_000))
    large = d_sys(random.normal(size=10_000), random.normal(size=100_000))
    assert 0 < large < 0.05 < small < 0.3


def test_d_sys_agrees_with_its_formula() -> None:
    """Two bins: p = (.25, .75), q = (.75, .25): LR = 3 in the second, D = 2 * 3 / 4 - 1 = .5, D_sys = .375."""
    mated, others = np.repeat([0.0, 1.0], [1, 3]), np.repeat([0.0, 1.0], [3, 1])
    assert d_sys(mated, others, bins=2) == pytest.approx(0.375)


def test_galleries_under_one_key_are_linked_and_under_two_are_not() -> None:
    """The attack succeeds on the unprotected case; the key takes it away."""
    first, second = mates(400, 128, 0.65, 1)
    seeds = (bytes(32), bytes([1] * 32))
    assert linkage(*two_realms(first, second, same_key=True, seeds=seeds), seed=1).d_sys > 0.95
    apart = linkage(*two_realms(first, second, same_key=False, seeds=seeds), seed=1)
    assert apart.above_chance < 0.05
    assert apart.non_mated == 400 * 399


def test_two_realms_draw_their_own_keys() -> None:
    """Nothing is shared unless asked for."""
    first, _ = mates(4, 16, 0.5, 1)
    ours, theirs = two_realms(first, first, same_key=False)
    assert np.abs(ours - theirs).max() > 0.01


def test_procrustes_finds_the_key_from_enough_known_people() -> None:
    """With the very embeddings known it is exact; this is why a rotation is not called encryption."""
    known, _ = mates(200, 64, 1.0, 1)
    matrix = orthogonal_matrix(bytes(32), 64)
    recovered = procrustes(rotate(matrix, known), known)
    assert recovered == pytest.approx(matrix, abs=1e-4)
    assert inverted_cosine(rotate(matrix, known), known, recovered) == pytest.approx(1, abs=1e-4)


def test_more_known_people_betray_more_of_the_key() -> None:
    """Method 5: with other pictures of the known people the inversion improves with their number."""
    first, second = mates(600, 64, 0.65, 2)
    by_count = key_recovery(first[:500], second[:500], first[500:], (16, 64, 500, 5000), seed=1)
    assert list(by_count) == [16, 64, 500]
    assert by_count[16] < by_count[64] < by_count[500]
    assert by_count[500] > 0.8


def test_angles_to_shared_people_are_a_name_without_any_key() -> None:
    """A rotation keeps them: two stolen galleries with known shared members are matched."""
    first, second = mates(300, 64, 0.9, 3)
    stored = two_realms(first, second, same_key=False, seeds=(bytes(32), bytes([1] * 32)))
    assert match_by_geometry(*stored, anchors=100) > 0.8
    strangers = two_realms(first, mates(300, 64, 0.9, 4)[1], same_key=False)
    assert match_by_geometry(*strangers, anchors=100) < 0.1
