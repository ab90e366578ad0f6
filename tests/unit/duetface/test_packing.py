"""Packing is exact, canonical and refuses what it cannot have written."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetface.errors import MessageError
from duetface.packing import pack, packed_length, unpack
from duetface.spec import PlaneSpec
from duetface.types import Codes
from tests.unit.duetface.strategies import planes_with_codes


@given(planes_with_codes())
def test_unpacking_gives_back_what_was_packed(plane_with_codes: tuple[PlaneSpec, Codes]) -> None:
    """Codes are the message: one changed bit is another face."""
    plane, codes = plane_with_codes
    packed = pack(codes, plane.bits)
    assert len(packed) == packed_length(plane.count, plane.bits) == plane.packed_length
    actual = unpack(packed, plane.bits, signed=plane.signed, shape=plane.shape)
    assert actual.dtype == codes.dtype
    np.testing.assert_array_equal(actual, codes)


@given(planes_with_codes())
def test_packing_agrees_with_the_slow_obvious_way(plane_with_codes: tuple[PlaneSpec, Codes]) -> None:
    """The byte order is a promise to clients in other languages."""
    plane, codes = plane_with_codes
    bits = "".join(format(int(code) & ((1 << plane.bits) - 1), f"0{plane.bits}b") for code in codes.reshape(-1))
    bits += "0" * (-len(bits) % 8)
    expected = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
    assert pack(codes, plane.bits) == expected


@pytest.mark.parametrize("bits", range(1, 8))
def test_a_code_that_does_not_fit_is_refused(bits: int) -> None:
    """Wrapping round would send another face without a word."""
    with pytest.raises(MessageError, match="does not fit"):
        pack(np.array([1 << bits], np.uint8), bits)
    with pytest.raises(MessageError, match="does not fit"):
        pack(np.array([-(1 << (bits - 1)) - 1], np.int8), bits)


@given(st.binary(max_size=40), st.integers(1, 8), st.booleans())
def test_a_wrong_length_is_refused(packed: bytes, bits: int, signed: bool) -> None:
    """Lengths are known from the manifest; anything else is not this plane."""
    shape = (1, 3, 7)
    if len(packed) == packed_length(21, bits):
        packed += b"\0"
    with pytest.raises(MessageError, match="expected"):
        unpack(packed, bits, signed=signed, shape=shape)


def test_a_set_fill_bit_is_refused() -> None:
    """One face has one encoding, so that a signature covers one meaning."""
    with pytest.raises(MessageError, match="fill bit"):
        unpack(b"\x01", 4, signed=False, shape=(1, 1, 1))
