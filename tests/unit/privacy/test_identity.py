import numpy as np
import pytest
from numpy.typing import NDArray

from duetface.errors import ConfigError
from privacy.excess import Attack, check_comparable, excess
from privacy.reidentify import CROP_TO_CHIP, DlibJudge, accepted_at, chip, pairs_by_row, reidentify

NAMED = [
    *((f"p{i}_0001", f"p{i}_0002", True) for i in range(100)),
    *((f"p{i}_0001", f"p{(i + 1) % 100}_0002", False) for i in range(100)),
]
NAMES = tuple(f"p{i}_{k:04d}" for i in range(100) for k in (1, 2))


def descriptors(seed: int, spread: float) -> NDArray[np.float32]:
    """(200, 128): two pictures of each person, `spread` apart."""
    random = np.random.default_rng(seed)
    people = np.repeat(random.normal(size=(100, 128)), 2, axis=0)
    return (people + spread * random.normal(size=people.shape)).astype(np.float32)


def result(**changes: object) -> dict[str, object]:
    """A decoder's result file, as far as the excess reads it."""
    settings = {"view": "message", "passes": 3, "width": 32, "parameters": 5}
    whole = {"attack": "decoder", "split_digest": "ab", "seed": 1, "n": {"victims": 2}, "settings": settings}
    return {**whole, **changes}


def test_the_plain_crop_is_recognised_and_noise_is_not() -> None:
    """Both ends of the scale, with recognisable descriptors: the judge must be able to tell."""
    real = descriptors(1, 0.1)
    genuine, impostor = pairs_by_row(NAMES, NAMED)
    assert reidentify(real, real, genuine, impostor).tar.mean == 1.0
    noise = np.random.default_rng(2).normal(size=real.shape).astype(np.float32)
    assert reidentify(noise, real, genuine, impostor).tar.mean < 0.1


def test_one_face_for_everybody_gains_nothing() -> None:
    """A mean face is like everyone; the threshold comes from its own impostor comparisons, so it stays at the FAR."""
    real = descriptors(1, 0.1)
    same = np.repeat(real.mean(axis=0, keepdims=True), len(real), axis=0)
    genuine, impostor = pairs_by_row(NAMES, NAMED)
    found = reidentify(same, real, genuine, impostor)
    assert found.tar.mean < 0.05
    assert accepted_at(same, real, genuine, threshold=100.0).mean == 1.0  # at a fixed threshold it may well pass


def test_both_pictures_of_a_pair_are_reconstructed_in_turn() -> None:
    """1,500 genuine pairs are 3,000 comparisons; a reconstruction is never compared with its own picture."""
    genuine, impostor = pairs_by_row(NAMES, NAMED)
    assert len(genuine.probe) == len(impostor.probe) == 200
    assert (genuine.probe != genuine.reference).all()
    assert genuine.people[0] == "p0"


def test_too_few_impostors_for_the_false_accept_rate_are_refused() -> None:
    """1e-2 needs a hundred comparisons."""
    genuine, impostor = pairs_by_row(NAMES, NAMED[:102])
    real = descriptors(1, 0.1)
    with pytest.raises(ConfigError, match="expected 100 or more"):
        reidentify(real, real, genuine, impostor)


def test_the_chip_puts_eyes_and_mouth_where_dlib_expects_them() -> None:
    """dlib's five-point chip: eye centres at (47.7, 47.1) and (100.3, 47.1), the base of the nose near (74, 88)."""
    template = np.array([[38.2946, 51.6963, 1], [73.5318, 51.5014, 1], [56.0, 79.5, 1]])
    on_chip = template @ CROP_TO_CHIP.T
    assert on_chip == pytest.approx(np.array([[47.7, 47.1], [100.3, 47.1], [74.0, 88.8]]), abs=0.3)
    assert chip(np.zeros((112, 112, 3), np.uint8)).shape == (150, 150, 3)


def test_dlib_tells_the_portraits_apart(portrait_crops: NDArray[np.uint8]) -> None:
    """Fixed chips must not break the judge: 0.6 is the distance that dlib's author recommends."""
    try:
        judge = DlibJudge.load()
    except ConfigError as absent:
        pytest.skip(str(absent))
    described = judge.describe(portrait_crops)
    mirrored = judge.describe(portrait_crops[:, :, ::-1])
    assert np.linalg.norm(described - mirrored, axis=1).max() < 0.6
    assert np.linalg.norm(described[0] - described[1]) > 0.6


def test_excess_is_the_difference_of_the_best_on_each_side() -> None:
    """Paired by picture, so that a hard picture counts on both sides."""
    message = [Attack(result(), {"ssim": np.array([0.5, 0.7])}), Attack(result(), {"ssim": np.array([0.6, 0.4])})]
    template = [Attack(result(), {"ssim": np.array([0.45, 0.45])})]
    found = excess("ssim", message, template, ["a", "b"], seed=1)
    assert (found.message, found.template) == pytest.approx((0.6, 0.45))
    assert found.excess.mean == pytest.approx(0.15)
    assert (found.excess.low, found.excess.high) == pytest.approx((0.05, 0.25))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"seed": 2}, "seed"),
        ({"split_digest": "cd"}, "split_digest"),
        ({"n": {"victims": 3}}, "n"),
        ({"settings": {"view": "template", "passes": 1, "width": 32, "parameters": 5}}, "passes"),
    ],
)
def test_sides_with_different_means_are_not_compared(changes: dict[str, object], complaint: str) -> None:
    """A weaker attack on the template would invent an excess, a stronger one hide it."""
    with pytest.raises(ConfigError, match=complaint):
        check_comparable([Attack(result(), {})], [Attack(result(**changes), {})])


def test_the_view_may_differ() -> None:
    """It is what is compared; the number of parameters follows from it."""
    other = {"view": "template", "passes": 3, "width": 32, "parameters": 9}
    check_comparable([Attack(result(), {})], [Attack(result(settings=other), {})])


def test_capacities_may_grow_on_both_sides_together() -> None:
    """A larger decoder on one side alone is refused; on both it only makes the best attack better."""
    small, large = result(), result(settings={"view": "message", "passes": 3, "width": 48, "parameters": 9})
    check_comparable([Attack(small, {}), Attack(large, {})], [Attack(large, {}), Attack(small, {})])
    for sides in (((small, large), (small,)), ((small,), (small, large))):
        with pytest.raises(ConfigError, match=r"no attack of the other side has its budget, see .'width'"):
            check_comparable(*([Attack(found, {}) for found in side] for side in sides))
