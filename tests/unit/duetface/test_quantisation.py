"""From values to codes and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from duetface.errors import MessageError
from duetface.quantisation import code_range, decode, quantise
from duetface.spec import PlaneSpec
from duetface.types import Codes
from tests.unit.duetface.strategies import planes_with_codes

steps = st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=2)
values = arrays(np.float32, (2, 3, 3), elements=st.floats(-(2.0**20), 2.0**20, width=32))


def plane_of(scale: list[float], bits: int = 8, offset: float = 0.0) -> PlaneSpec:
    """A signed plane of two channels."""
    return PlaneSpec("plane", (2, 3, 3), bits, True, "stored", tuple(scale), offset)


@given(shared=values, scale=steps)
def test_a_value_in_range_moves_by_at_most_half_a_step(shared: np.ndarray, scale: list[float]) -> None:
    """The bound that the choice of steps rests on."""
    step = np.array(scale)[:, None, None]
    error = np.abs(quantise(shared, plane_of(scale)) * step - shared)
    assert (error <= step / 2 * (1 + 1e-9))[np.abs(shared) <= 127 * step].all()


@given(shared=values, scale=steps)
def test_a_value_out_of_range_saturates_and_keeps_its_sign(shared: np.ndarray, scale: list[float]) -> None:
    """A wrapped code would turn the brightest edge into the darkest."""
    codes = quantise(shared, plane_of(scale))
    beyond = np.abs(shared) > 128 * np.array(scale)[:, None, None]
    assert (codes[beyond] == 127 * np.sign(shared[beyond])).all()


@given(plane_and_codes=planes_with_codes(), offset=st.floats(-3, 3), scale=st.floats(0.01, 10))
def test_decoded_codes_quantise_to_themselves(
    plane_and_codes: tuple[PlaneSpec, Codes], offset: float, scale: float
) -> None:
    """Training sees decoded values; quantising them again must change nothing."""
    described, codes = plane_and_codes
    plane = PlaneSpec("p", described.shape, described.bits, described.signed, "stored", (scale,), offset)
    codes = np.clip(codes, *code_range(plane)).astype(codes.dtype)
    assert np.array_equal(quantise(decode(codes, plane), plane), codes)


def test_values_that_are_not_finite_are_refused() -> None:
    """NaN has no code; rounding it would send an arbitrary one."""
    shared = np.zeros((2, 3, 3))
    shared[0, 0, 0] = np.nan
    with pytest.raises(MessageError, match="not all finite"):
        quantise(shared, plane_of([1.0, 1.0]))


def test_another_shape_is_refused_both_ways() -> None:
    """Broadcasting would hide a wrong plane."""
    with pytest.raises(MessageError, match=r"got shape \(1, 3, 3\), expected \(2, 3, 3\)"):
        quantise(np.zeros((1, 3, 3)), plane_of([1.0, 1.0]))
    with pytest.raises(MessageError, match="got shape"):
        decode(np.zeros((1, 3, 3), np.int8), plane_of([1.0, 1.0]))
