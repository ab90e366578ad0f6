"""Every network saw crops of one geometry; a crop that is off by pixels is another face to it."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetface.alignment import CROP_PX, TEMPLATE_PX, crop_transform, similarity, transform_points, warp

turns = st.floats(-np.pi, np.pi)
scales = st.floats(0.05, 20.0)
shifts = st.floats(-2000.0, 2000.0)


def placed(turn: float, scale: float, x: float, y: float) -> np.ndarray:
    """A similarity (2, 3)."""
    cosine, sine = scale * np.cos(turn), scale * np.sin(turn)
    return np.array([[cosine, -sine, x], [sine, cosine, y]])


@given(turn=turns, scale=scales, x=shifts, y=shifts)
def test_a_similarity_is_found_again(turn: float, scale: float, x: float, y: float) -> None:
    """Umeyama's estimate is exact where an exact answer exists."""
    known = placed(turn, scale, x, y)
    moved = TEMPLATE_PX @ known[:, :2].T + known[:, 2]
    assert np.allclose(similarity(TEMPLATE_PX, moved), known, atol=1e-6 * max(1.0, abs(x), abs(y), scale))


@given(turn=turns, scale=scales, noise=st.integers(0, 2**32 - 1))
def test_no_other_similarity_is_nearer(turn: float, scale: float, noise: int) -> None:
    """Least squares: any small change of the answer makes the residual larger."""
    random = np.random.default_rng(noise)
    known = placed(turn, scale, 3.0, -5.0)
    target = TEMPLATE_PX @ known[:, :2].T + known[:, 2] + random.normal(0, scale, (5, 2))
    best = similarity(TEMPLATE_PX, target)

    def residual(transform: np.ndarray) -> float:
        return float(((TEMPLATE_PX @ transform[:, :2].T + transform[:, 2] - target) ** 2).sum())

    for change in (placed(1e-3, 1.0, 0, 0), placed(0, 1.001, 0, 0), placed(0, 1, 0.01, 0), placed(0, 1, 0, 0.01)):
        other = np.column_stack([change[:, :2] @ best[:, :2], change[:, :2] @ best[:, 2] + change[:, 2]])
        assert residual(best) <= residual(other) + 1e-9


def test_points_on_one_spot_are_refused() -> None:
    """No scale brings one spot onto five."""
    with pytest.raises(ValueError, match="do not all coincide"):
        similarity(np.ones((5, 2)), TEMPLATE_PX)


def test_points_that_are_not_numbers_are_refused() -> None:
    """NaN must not travel on as a picture of nothing."""
    with pytest.raises(ValueError, match="finite"):
        crop_transform(np.full((5, 2), np.nan))


def test_the_template_itself_is_left_where_it_is() -> None:
    """A picture that is a crop already must come out unchanged."""
    picture = np.random.default_rng(0).integers(0, 256, (CROP_PX, CROP_PX, 3), dtype=np.uint8)
    assert np.array_equal(warp(picture, crop_transform(TEMPLATE_PX)), picture)


@pytest.mark.parametrize("factor", [1.0, 2.0, 3.0, 4.5, 8.0])
def test_a_dot_lands_where_the_transform_says(factor: float) -> None:
    """Averaging large faces down first must not shift them: half a pixel is half a block of detail."""
    spot = np.array([60.0, 40.0])
    transform = placed(0.0, 1.0 / factor, 0.0, 0.0)
    side = round(CROP_PX * factor)
    rows, columns = np.mgrid[0:side, 0:side]
    away = (columns - spot[0] * factor) ** 2 + (rows - spot[1] * factor) ** 2
    blob = np.exp(-away / (2 * (2.5 * factor) ** 2))
    picture = np.repeat((blob * 250).astype(np.uint8)[:, :, None], 3, axis=2)
    crop = warp(picture, transform)[:, :, 0].astype(np.float64)
    weights = crop / crop.sum()
    found = [(weights * axis).sum() for axis in np.mgrid[0:CROP_PX, 0:CROP_PX][::-1]]
    assert np.allclose(found, spot, atol=0.05)


def test_detail_finer_than_the_crop_does_not_fold_back() -> None:
    """Aliases would be false high frequencies, and those are what the service sees."""
    side = 8 * CROP_PX
    stripes = ((np.arange(side) // 3) % 2 * 255).astype(np.uint8)
    picture = np.ascontiguousarray(np.broadcast_to(stripes[None, :, None], (side, side, 3)))
    transform = placed(0.0, 1.0 / 8.0, 0.0, 0.0)
    plain = cv2.warpAffine(picture, transform, (CROP_PX, CROP_PX))[8:-8, 8:-8]
    ours = warp(picture, transform)[8:-8, 8:-8]
    assert ours.std() < 0.25 * plain.std()


def test_what_lies_outside_the_picture_is_black() -> None:
    """As in the training crops, and never what memory held."""
    picture = np.full((50, 50, 3), 200, np.uint8)
    crop = warp(picture, placed(0.0, 1.0, 70.0, 70.0))
    assert crop[:60, :60].max() == 0
    assert crop[80:110, 80:110].min() == 200


def test_points_and_pixels_move_alike() -> None:
    """The outline of the region of interest is moved as points, the crop as pixels."""
    transform = placed(0.4, 1.5, 10.0, -30.0)
    moved = transform_points(transform, np.array([[50.0, 40.0]], np.float32))[0]
    picture = np.zeros((CROP_PX, CROP_PX, 3), np.uint8)
    cv2.circle(picture, (50, 40), 2, (255, 255, 255), -1)
    crop = warp(picture, transform)[:, :, 0]
    rows, columns = np.nonzero(crop > 127)
    assert np.allclose([columns.mean(), rows.mean()], moved, atol=0.6)
