"""The block DCT as linear maps against the slow, obvious way: enlarge, cut into blocks, transform each."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from duetface.frequency import (
    UPSAMPLINGS,
    block_dct,
    centred_ycbcr,
    dct_matrix,
    frequency_maps,
    interpolation_matrix,
    inverse_block_dct,
)

seeds = st.integers(0, 2**32 - 1)


def random_planes(seed: int, size: int = 16) -> NDArray[np.float64]:
    """Centred planes (3, size, size), anything a picture could hold."""
    return np.random.default_rng(seed).uniform(-128, 127.5, (3, size, size))


def enlarge_bilinear(plane: NDArray[np.float64], upsampling: int) -> NDArray[np.float64]:
    """Bilinear with aligned corners, one output pixel at a time, as the paper's code asks of torch."""
    size = len(plane)
    large = size * upsampling
    enlarged = np.zeros((large, large))
    for i in range(large):
        for j in range(large):
            y, x = (k * (size - 1) / (large - 1) for k in (i, j))
            top, left = min(int(y), size - 2), min(int(x), size - 2)
            dy, dx = y - top, x - left
            corners = plane[top : top + 2, left : left + 2]
            enlarged[i, j] = np.array([1 - dy, dy]) @ corners @ np.array([1 - dx, dx])
    return enlarged


def slow_block_dct(planes: NDArray[np.float64], upsampling: int) -> NDArray[np.float64]:
    """The definition of ITU-T T.81 A.3.3, summed as it is written, channel 64 * component + 8 * u + v."""
    blocks = planes.shape[1] * upsampling // 8
    channels = np.zeros((3, 64, blocks, blocks))
    x = np.arange(8)
    for component, plane in enumerate(planes):
        enlarged = enlarge_bilinear(plane, upsampling)
        for row in range(blocks):
            for column in range(blocks):
                block = enlarged[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
                for u in range(8):
                    for v in range(8):
                        weight = (0.5**0.5 if u == 0 else 1) * (0.5**0.5 if v == 0 else 1) / 4
                        wave = np.outer(np.cos((2 * x + 1) * u * np.pi / 16), np.cos((2 * x + 1) * v * np.pi / 16))
                        channels[component, 8 * u + v, row, column] = weight * (block * wave).sum()
    return channels.reshape(192, blocks, blocks)


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_the_linear_maps_equal_enlarging_and_transforming(upsampling: int) -> None:
    """Training, serving and attacks use the maps; the paper defines the slow way."""
    planes = random_planes(seed=upsampling, size=8)
    assert np.abs(block_dct(planes, upsampling) - slow_block_dct(planes, upsampling)).max() < 1e-9


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_without_enlarging_no_energy_is_lost(seed: int) -> None:
    """At r = 1 the transform is orthonormal, so quantiser steps mean the same in every channel."""
    planes = random_planes(seed)
    assert np.isclose(np.square(block_dct(planes, 1)).sum(), np.square(planes).sum(), rtol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, upsampling=st.sampled_from(UPSAMPLINGS))
def test_the_inverse_gives_the_picture_back(seed: int, upsampling: int) -> None:
    """Nothing but the split and the quantiser may lose anything."""
    planes = random_planes(seed)
    assert np.abs(inverse_block_dct(block_dct(planes, upsampling), upsampling) - planes).max() < 1e-8


@pytest.mark.parametrize(("u", "v"), [(0, 0), (0, 3), (5, 0), (2, 7)])
def test_a_wave_appears_in_the_channel_of_its_frequency(u: int, v: int) -> None:
    """Channel 8 u + v: u counts down the picture, v across; a transposed order would go unnoticed by energies."""
    dct = dct_matrix()
    planes = np.zeros((3, 16, 16))
    planes[1, 8:16, 0:8] = np.outer(dct[u], dct[v])  # component 1, block row 1, block column 0
    channels = block_dct(planes, 1)
    assert np.isclose(channels[64 + 8 * u + v, 1, 0], 1)
    channels[64 + 8 * u + v, 1, 0] = 0
    assert np.abs(channels).max() < 1e-12


def test_the_dct_rows_are_orthonormal() -> None:
    """Otherwise the transposed convolution of the server would not be the inverse."""
    assert np.allclose(dct_matrix() @ dct_matrix().T, np.eye(8), atol=1e-15)


def test_the_sampling_step_is_that_of_aligned_corners() -> None:
    """docs/method.md 1.1: 111/895, not 1/8; the weights of the paper depend on it."""
    matrix = interpolation_matrix(112, 896)
    assert np.allclose(matrix @ np.arange(112), np.arange(896) * 111 / 895)
    assert (np.count_nonzero(matrix, axis=1) <= 2).all()
    assert np.count_nonzero(frequency_maps(112, 8)[0], axis=1).max() <= 3


def test_colours_are_the_full_range_of_jpeg() -> None:
    """Values of ITU-T T.871 for black, white, red and blue, each plane centred on zero."""
    rgb = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 0, 255]]], np.uint8)
    expected = [[-128, 127, -51.755, -98.93], [0, 0, -43.028, 127.5], [0, 0, 127.5, -20.735]]
    assert np.allclose(centred_ycbcr(rgb)[:, 0], expected, atol=1e-3)


def test_an_unknown_upsampling_is_refused() -> None:
    """A typing error in a spec must not make up a transform."""
    with pytest.raises(ValueError, match="upsampling 3: expected one of"):
        frequency_maps(112, 3)


def test_a_size_without_whole_blocks_is_refused() -> None:
    """A silent crop would shift every channel."""
    with pytest.raises(ValueError, match="do not divide into blocks of 8"):
        frequency_maps(20, 1)
