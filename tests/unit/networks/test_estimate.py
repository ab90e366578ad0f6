"""The fixed layer that guesses at the picture of a split with upsampling."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from duetface.frequency import RGB_TO_YCBCR, frequency_maps
from networks.device import DeviceHalf
from networks.estimate import NEIGHBOURS_ALIKE, EstimatingInverse, Sent, bilinear_estimate
from networks.registry import fixed_split, split_named

SIZE, BLOCKS = 16, 4  # a small picture: 4 blocks a side at upsampling 2


def markov_pictures(count: int, size: int, spread: float, seed: int) -> NDArray[np.float64]:
    """(count, size, size) drawn from the model."""
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    root = np.linalg.cholesky(NEIGHBOURS_ALIKE**distance)
    return spread * (root @ np.random.default_rng(seed).normal(size=(count, size, size)) @ root.T)


def sent_of(pairs: list[tuple[int, int]], noise: float) -> Sent:
    """The channels (u, v) of the small picture."""
    maps = frequency_maps(SIZE, 2)
    vertical, group = np.unique([u for u, _ in pairs], return_inverse=True)
    horizontal = np.concatenate([maps[v] for _, v in pairs])
    return Sent(maps[vertical], horizontal, np.repeat(group, BLOCKS), np.full(len(horizontal), noise))


def estimated(sent: Sent, pictures: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """What comes back of pictures whose channels were disturbed by the noise that is told of."""
    left, right = bilinear_estimate(sent, 50.0)
    random, found = np.random.default_rng(seed), 0.0
    for u, vertical in enumerate(sent.vertical):
        rows = sent.group == u
        values = vertical @ pictures @ sent.horizontal[rows].T
        values = values + random.normal(size=values.shape) * np.sqrt(sent.noise[rows])
        found = found + left[:, u * BLOCKS : (u + 1) * BLOCKS] @ values @ right[rows]
    return np.asarray(found)


def test_all_channels_without_noise_give_the_picture_back() -> None:
    """Nothing is lost that was sent."""
    pictures = markov_pictures(5, SIZE, 50, seed=1)
    everything = sent_of([(u, v) for u in range(8) for v in range(8)], noise=1e-6)
    assert np.abs(estimated(everything, pictures) - pictures).max() < 0.5


@pytest.mark.parametrize("noise", [0.02, 4.0])
def test_the_estimate_is_near_the_best_there_is(noise: float) -> None:
    """It tells 85 % or more of what the exact one does, a matrix of all pixels by all coefficients."""
    pairs = [(u, v) for u in range(8) for v in range(8) if u + v > 3]
    sent, pictures = sent_of(pairs, noise), markov_pictures(400, SIZE, 50, seed=2)
    operator = np.concatenate(
        [np.kron(sent.vertical[u], sent.horizontal[sent.group == u]) for u in range(len(sent.vertical))]
    )
    distance = np.abs(np.subtract.outer(np.arange(SIZE), np.arange(SIZE)))
    prior = 50.0**2 * np.kron(NEIGHBOURS_ALIKE**distance, NEIGHBOURS_ALIKE**distance)
    seen = operator @ prior
    solved = np.linalg.solve(seen @ operator.T + noise * np.eye(len(operator)), seen)
    least = np.trace(prior - seen.T @ solved) / SIZE**2  # the exact estimate's expected squared error a pixel
    nothing = np.square(pictures).mean()  # the error of a flat picture
    got = np.square(estimated(sent, pictures) - pictures).mean()
    assert nothing - got > 0.85 * (50**2 - least) > 0


def test_r2_gives_most_of_the_picture_back() -> None:
    """So it is for comparison only: what it hides of a picture is the smoothest part."""
    spec = split_named("r2")
    planes = markov_pictures(3, 112, 40, seed=3)
    ycbcr = np.stack([planes[0] + 128, planes[1] / 4, planes[2] / 4])
    rgb = np.clip(np.linalg.inv(RGB_TO_YCBCR) @ ycbcr.reshape(3, -1), 0, 255).reshape(1, 3, 112, 112)
    crop = torch.from_numpy(rgb).float()
    with torch.no_grad():
        coefficients = DeviceHalf(spec, None)(crop, torch.ones(1, 1, 112, 112))["coefficients"]
        shown = EstimatingInverse(spec)(coefficients)
    wanted = crop / 127.5 - 1
    left = (shown - wanted).var() / wanted.var()
    assert left < 0.6


def test_channels_in_any_split_of_two_are_grouped() -> None:
    """A vertical frequency of which nothing is sent takes no part."""
    spec = fixed_split("rows", 2, client_channels=tuple(range(16)))
    assert EstimatingInverse(spec).counts == [8] * 6
