"""Which channels stay and which go."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from duetface.splitting import join, rows_of, split


@given(order=st.permutations(range(64)), count=st.integers(0, 64), seed=st.integers(0, 1000))
def test_splitting_and_joining_gives_all_channels_back(order: list[int], count: int, seed: int) -> None:
    """No channel may be lost or sent twice, whatever the wire order."""
    channels = np.random.default_rng(seed).normal(size=(192, 2, 2))
    client, server = order[:count], order[count:]
    stays, goes = split(channels, client, server)
    assert np.array_equal(join(stays, goes, client, server), channels)


def test_channels_are_listed_by_component_and_then_in_wire_order() -> None:
    """Y's channels first, then Cb's, then Cr's, each in the order of the list, not sorted."""
    assert list(rows_of((9, 0))) == [9, 0, 73, 64, 137, 128]


def test_what_goes_holds_nothing_of_what_stays() -> None:
    """The one promise of the split."""
    channels = np.arange(192.0)[:, None, None] * np.ones((1, 2, 2))
    stays, goes = split(channels, (0, 1), (2, 3))
    assert not set(stays.ravel()) & set(goes.ravel())
