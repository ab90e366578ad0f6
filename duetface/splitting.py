"""Which DCT channels stay on the device and which go to the service.

A channel list names channels of one colour plane, 8 * u + v, in wire order; the same list holds for
Y, Cb and Cr, component by component.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

CHANNELS = 64  # of one colour plane
COMPONENTS = 3

Scalar = TypeVar("Scalar", bound=np.generic)


def split(
    channels: NDArray[Scalar], client: Sequence[int], server: Sequence[int]
) -> tuple[NDArray[Scalar], NDArray[Scalar]]:
    """(192, B, B) -> what stays (3 * len(client), B, B), what goes (3 * len(server), B, B)."""
    return channels[rows_of(client)], channels[rows_of(server)]


def join(
    stays: NDArray[Scalar], goes: NDArray[Scalar], client: Sequence[int], server: Sequence[int]
) -> NDArray[Scalar]:
    """The inverse of split: (192, B, B). Only tests and measurements ever hold both halves again."""
    joined = np.zeros((COMPONENTS * CHANNELS, *goes.shape[1:]), goes.dtype)
    joined[rows_of(client)] = stays
    joined[rows_of(server)] = goes
    return joined


def rows_of(channels: Sequence[int]) -> NDArray[np.int64]:
    """Row indices into the 192 channels, component-major: all of Y's in the given order, then Cb's, Cr's."""
    offsets = CHANNELS * np.arange(COMPONENTS)[:, None]
    return (offsets + np.asarray(channels, np.int64)[None, :]).reshape(-1)
