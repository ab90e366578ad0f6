import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from duetface.errors import ConfigError
from privacy.judges import LUMA, Interval, bootstrap, gaussian_window, psnr, ssim
from privacy.losses import structural_similarity


def noise(seed: int, count: int = 2, size: int = 24) -> NDArray[np.float64]:
    """(count, size, size, 3) random pictures."""
    return np.random.default_rng(seed).uniform(0, 255, (count, size, size, 3))


def slow_ssim(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """One picture against another by Wang et al.'s eq. 13, a window at a time."""
    x, y = first @ LUMA, second @ LUMA
    window = np.outer(gaussian_window(), gaussian_window())
    values = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a, b = x[top : top + 11, left : left + 11], y[top : top + 11, left : left + 11]
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            variance_a, variance_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            covariance = (window * (a - mean_a) * (b - mean_b)).sum()
            c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
            values.append(
                (2 * mean_a * mean_b + c1)
                * (2 * covariance + c2)
                / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2))
            )
    return float(np.mean(values))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_ssim_is_the_slow_sum_over_windows(seed: int, share: float) -> None:
    """Every privacy figure rests on it, so it is checked against the definition."""
    first = noise(seed)
    second = share * first + (1 - share) * noise(seed + 1)
    expected = [slow_ssim(a, b) for a, b in zip(first, second, strict=True)]
    assert ssim(first, second) == pytest.approx(expected, abs=1e-9)


def test_the_window_is_eleven_taps_of_sigma_one_and_a_half() -> None:
    """Another window gives other figures: .450 for a template could not be compared with the literature."""
    window = gaussian_window()
    assert len(window) == 11
    assert window.sum() == pytest.approx(1)
    assert window[5] / window[4] == pytest.approx(np.exp(1 / (2 * 1.5**2)))


def test_a_flat_picture_against_another_has_the_known_ssim() -> None:
    """Only the luminance term is left: (2 a b + C1) / (a^2 + b^2 + C1)."""
    first, second = np.full((1, 20, 20, 3), 100.0), np.full((1, 20, 20, 3), 150.0)
    c1 = 2.55**2
    assert ssim(first, second)[0] == pytest.approx((2 * 15000 + c1) / (100**2 + 150**2 + c1))


def test_equal_pictures_have_ssim_one_and_infinite_psnr() -> None:
    """The ends of the scale."""
    picture = noise(1)
    assert ssim(picture, picture) == pytest.approx(1)
    assert np.isinf(psnr(picture, picture)).all()


def test_an_error_of_one_level_has_psnr_48_13_db() -> None:
    """20 log10(255)."""
    picture = np.full((1, 20, 20, 3), 100.0)
    assert psnr(picture + 1, picture)[0] == pytest.approx(48.1308, abs=1e-3)


def test_a_reconstruction_outside_the_screens_range_is_clipped_first() -> None:
    """An attacker may not lose by overshooting what no screen shows."""
    white = np.full((1, 20, 20, 3), 255.0)
    assert np.isinf(psnr(white + 40, white)).all()


def test_one_picture_without_its_batch_is_refused() -> None:
    """(H, W, 3) would be read as H pictures of one line."""
    with pytest.raises(ValueError, match=r"expected \(N, H, W, 3\)"):
        psnr(np.zeros((20, 20, 3)), np.zeros((20, 20, 3)))


def test_what_the_attacker_is_trained_on_is_what_it_is_scored_by() -> None:
    """The loss and the judge agree, or the attack would be weaker than it looks."""
    first, second = noise(3), noise(4)
    by_torch = structural_similarity(*(torch.from_numpy(p.transpose(0, 3, 1, 2)) for p in (first, second)))
    assert by_torch.numpy() == pytest.approx(ssim(first, second), abs=1e-4)


def test_the_bootstrap_resamples_people_and_not_pictures() -> None:
    """Forty pictures of two people say as much as two pictures."""
    values = np.repeat([0.0, 1.0], 20)
    by_person = bootstrap(values, ["a"] * 20 + ["b"] * 20)
    by_picture = bootstrap(values, [str(i) for i in range(40)])
    assert (by_person.low, by_person.high) == (0.0, 1.0)
    assert by_picture.high - by_picture.low < 0.4


def test_the_interval_covers_the_mean_of_the_population() -> None:
    """95 % of intervals should; of 60 at least 50 must."""
    covered = 0
    for seed in range(60):
        values = np.random.default_rng(seed).normal(0.4, 0.1, 50)
        interval = bootstrap(values, [str(i) for i in range(50)], seed, resamples=400)
        covered += interval.low <= 0.4 <= interval.high
    assert covered >= 50


def test_one_person_gives_no_interval() -> None:
    """Nothing can be said about others."""
    with pytest.raises(ConfigError, match="two people or more"):
        bootstrap(np.array([0.1, 0.2]), ["a", "a"])


def test_a_small_rate_is_not_rounded_away() -> None:
    """17 accepted guesses of a million are not none."""
    assert Interval(1.7e-5, 0.99e-5, 2.722e-5).to_dict() == {"mean": 1.7e-5, "low": 9.9e-6, "high": 2.72e-5}
    assert Interval(0.123456, 0, 14.96123).to_dict() == {"mean": 0.1235, "low": 0.0, "high": 14.9612}
