"""Hypothesis strategies of the core: planes, codes, splits."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from duetface.spec import PlaneSpec
from duetface.types import Codes


@st.composite
def planes(draw: st.DrawFn) -> PlaneSpec:
    """Any plane that a manifest may describe, small enough to try many."""
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 7)))
    return PlaneSpec(
        name="plane",
        shape=shape,
        bits=draw(st.integers(1, 8)),
        signed=draw(st.booleans()),
        codec=draw(st.sampled_from(["stored", "deflate"])),
        scale=(1.0,),
        offset=0.0,
    )


@st.composite
def planes_with_codes(draw: st.DrawFn) -> tuple[PlaneSpec, Codes]:
    """A plane and codes that fit it, extremes included."""
    plane = draw(planes())
    low, high = code_range(plane)
    dtype = np.int8 if plane.signed else np.uint8
    return plane, draw(arrays(dtype, plane.shape, elements=st.integers(low, high)))


def code_range(plane: PlaneSpec) -> tuple[int, int]:
    """Least and greatest code of a plane."""
    if plane.signed:
        return -(1 << (plane.bits - 1)), (1 << (plane.bits - 1)) - 1
    return 0, (1 << plane.bits) - 1
