"""Pack integer codes of 1 to 8 bits into bytes and back.

Most significant bit first, two's complement for signed codes, zero bits fill the last byte.
"""

import numpy as np
from numpy.typing import NDArray

from duetface.errors import MessageError
from duetface.types import Codes


def packed_length(count: int, bits: int) -> int:
    """Bytes that `count` codes of `bits` bits take."""
    return (count * bits + 7) // 8


def pack(codes: Codes, bits: int) -> bytes:
    """Pack codes in C order.

    codes: any shape, int8 (two's complement) or uint8; each must fit in `bits` bits.
    Raises MessageError if one does not fit.
    """
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if codes.dtype == np.int8 else (0, (1 << bits) - 1)
    if codes.size and not (low <= int(codes.min()) and int(codes.max()) <= high):
        raise MessageError(f"a code does not fit: expected {low} to {high} for {bits} bits")
    octets = np.ascontiguousarray(codes).reshape(-1).view(np.uint8)
    if bits == 8:
        return octets.tobytes()
    as_bits = np.unpackbits(octets[:, None], axis=1)[:, 8 - bits :]  # (count, bits)
    return np.packbits(as_bits.reshape(-1)).tobytes()


def unpack(packed: bytes, bits: int, *, signed: bool, shape: tuple[int, ...]) -> Codes:
    """Unpack codes of the given shape; the inverse of `pack`.

    Returns int8 if signed, else uint8.
    Raises MessageError if the length is not exactly right or a fill bit is set.
    """
    count = int(np.prod(shape))
    if len(packed) != packed_length(count, bits):
        raise MessageError(f"got {len(packed)} packed bytes, expected {packed_length(count, bits)}")
    octets = np.frombuffer(packed, np.uint8)
    if bits < 8:
        octets = _widen(np.unpackbits(octets), count, bits, signed)
    codes = octets.view(np.int8) if signed else octets
    return codes.reshape(shape)


def _widen(as_bits: NDArray[np.uint8], count: int, bits: int, signed: bool) -> NDArray[np.uint8]:
    if as_bits[count * bits :].any():
        raise MessageError("a fill bit behind the last code is set, expected zero")
    wide = np.zeros((count, 8), np.uint8)
    wide[:, 8 - bits :] = as_bits[: count * bits].reshape(count, bits)
    if signed:
        wide[:, : 8 - bits] = wide[:, 8 - bits : 9 - bits]  # repeat the sign bit
    return np.packbits(wide, axis=1).reshape(-1)
