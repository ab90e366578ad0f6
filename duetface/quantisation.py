"""From values to the codes of the wire and back: value = code * scale + offset, one rule for every plane."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from duetface.errors import MessageError
from duetface.spec import PlaneSpec
from duetface.types import Codes


def quantise(values: NDArray[np.floating], plane: PlaneSpec) -> Codes:
    """Round values to the plane's codes, one scale a channel (as a JPEG table); larger values saturate.

    values: (C, H, W) of the plane's shape.
    Returns (C, H, W) int8 (signed plane) or uint8.  Halves round to even, as torch does.
    Raises MessageError if the shape differs or a value is not finite.
    """
    _check_shape(values, plane)
    if not np.isfinite(values).all():
        raise MessageError(f"plane {plane.name} of shape {values.shape}: values are not all finite")
    scaled = (values.astype(np.float64) - plane.offset) / scale_of(plane)
    low, high = code_range(plane)
    codes = np.clip(np.rint(scaled), low, high)
    return codes.astype(np.int8) if plane.signed else codes.astype(np.uint8)


def decode(codes: NDArray[np.integer], plane: PlaneSpec) -> NDArray[np.float32]:
    """(C, H, W) codes -> (C, H, W) float32 values, the input of that name of the server network."""
    _check_shape(codes, plane)
    return codes.astype(np.float32) * scale_of(plane).astype(np.float32) + np.float32(plane.offset)


def code_range(plane: PlaneSpec) -> tuple[int, int]:
    """Smallest and largest code that quantise makes. A signed plane is symmetric: -128 is never sent."""
    if plane.signed:
        high: int = 2 ** (plane.bits - 1) - 1
        return (-high, high) if high else (-1, 0)
    return 0, 2**plane.bits - 1


def scale_of(plane: PlaneSpec) -> NDArray[np.float64]:
    """The plane's scale, shaped (1 or C, 1, 1) to spread over (C, H, W)."""
    return np.asarray(plane.scale, np.float64)[:, None, None]


def _check_shape(array: NDArray[np.generic], plane: PlaneSpec) -> None:
    if array.shape != plane.shape:
        raise MessageError(f"plane {plane.name}: got shape {array.shape}, expected {plane.shape}")
