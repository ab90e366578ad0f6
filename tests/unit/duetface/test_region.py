"""Which part of each cell the face covers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from duetface.region import region_of_interest

hulls = arrays(np.float32, st.tuples(st.integers(0, 12), st.just(2)), elements=st.floats(width=32))


def test_a_square_covers_its_cells_and_no_others() -> None:
    """Pixel centres at whole numbers: the square from -0.5 to 55.5 holds the first 56 of them."""
    square = np.array([[-0.5, -0.5], [55.5, -0.5], [55.5, 27.5], [-0.5, 27.5]])
    expected = np.zeros((4, 4), np.float32)
    expected[0, :2] = 1
    assert np.array_equal(region_of_interest(square, 4), expected)


def test_x_comes_before_y() -> None:
    """A transposed region would look right on most faces."""
    top_strip = np.array([[-1, -1], [112, -1], [112, 15.5], [-1, 15.5]])
    assert region_of_interest(top_strip, 7)[0].all()
    assert not region_of_interest(top_strip, 7)[1:].any()


def test_a_coarse_grid_is_the_mean_of_a_finer_one() -> None:
    """Training pools one region down; the device computes each grid by itself."""
    circle = 56 + 40 * np.stack([np.cos(np.linspace(0, 6, 30)), np.sin(np.linspace(0, 6, 30))], axis=1)
    fine, coarse = region_of_interest(circle, 112), region_of_interest(circle, 14)
    assert np.allclose(fine.reshape(14, 8, 14, 8).mean(axis=(1, 3)), coarse, atol=1e-6)


@pytest.mark.filterwarnings("error")
@settings(max_examples=60, deadline=None)
@given(hull=hulls)
def test_any_hull_gives_shares_and_never_nan(hull: np.ndarray) -> None:
    """Infinite, empty, repeated or far away points must not poison an embedding."""
    region = region_of_interest(hull, 7)
    assert region.shape == (7, 7) and region.dtype == np.float32
    assert (region >= 0).all() and (region <= 1).all() and region.any()


@pytest.mark.parametrize(
    "hull",
    [np.zeros((0, 2)), np.full((3, 2), 50.0), np.full((4, 2), np.nan), np.array([[500, 500], [600, 500], [550, 600]])],
    ids=["empty", "one point", "not finite", "beside the crop"],
)
def test_without_a_usable_hull_no_cell_is_preferred(hull: np.ndarray) -> None:
    """Better to look everywhere than nowhere."""
    assert (region_of_interest(hull, 14) == 1).all()


def test_a_grid_that_does_not_divide_the_crop_is_refused() -> None:
    """Cells of unequal size would not be the mean of finer ones."""
    with pytest.raises(ValueError, match="does not divide"):
        region_of_interest(np.zeros((3, 2)), 9)
