from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from duetface.errors import ConfigError
from duetface.frequency import block_dct, centred_ycbcr
from duetface.spec import SplitSpec
from duetface.splitting import split
from networks.registry import SPLITS
from privacy import linear
from privacy.judges import psnr, ssim
from privacy.messages import PlainDevice, message_of
from privacy.observation import observe
from privacy.people import Capture
from privacy.published_split import published_split

R1 = replace(SPLITS["r1"], planes=SPLITS["r1"].planes[:1])  # the coefficients alone: the attack reads no mask


def exact_values(rgb: NDArray[np.uint8], spec: SplitSpec) -> NDArray[np.float64]:
    """(N, 3 * S, K, K) server channels without rounding."""
    channels = [block_dct(centred_ycbcr(picture), spec.upsampling) for picture in rgb]
    return np.stack([split(one, spec.client_channels, spec.server_channels)[1] for one in channels])


def colour_of(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(N, 3) mean colour."""
    return rgb.reshape(len(rgb), -1, 3).mean(axis=1)


def flat(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Each picture's own mean colour everywhere: the floor of linear attacks."""
    return np.broadcast_to(colour_of(rgb)[:, None, None], rgb.shape)


def test_the_published_split_is_solved_from_its_message(
    captures: list[Capture], portrait_crops: NDArray[np.uint8]
) -> None:
    """Method 4.1: above 45 dB and SSIM .99 with the mean colour known. If this fails, the attack is broken."""
    spec = published_split()
    observed = observe([message_of(capture, PlainDevice(spec)) for capture in captures[:2]], spec)
    made = linear.reconstruct(observed, colour_of(portrait_crops[:2]), smoothness=1e-8, iterations=40)
    assert psnr(made, portrait_crops[:2]).min() > 45
    assert ssim(made, portrait_crops[:2]).min() > 0.99


def test_the_published_split_hides_only_the_mean_colour(portrait_crops: NDArray[np.uint8]) -> None:
    """Without rounding the null space is one constant a plane: 148 dB known, the whole face visible if guessed."""
    spec = published_split()
    values = exact_values(portrait_crops[:1], spec)
    known = linear.solve(spec, values, colour_of(portrait_crops[:1]), smoothness=0.0, iterations=60)
    guessed = linear.solve(spec, values, np.array([120.0, 100.0, 90.0]), smoothness=0.0, iterations=60)
    assert psnr(known, portrait_crops[:1])[0] > 120
    shift = guessed - known
    assert np.abs(shift - shift.mean(axis=(1, 2), keepdims=True)).max() < 0.01


def test_the_critically_sampled_split_stays_near_the_flat_floor(portrait_crops: NDArray[np.uint8]) -> None:
    """Method 4.2: what stays on the device at r = 1 is exactly the null space, so only the prior adds anything."""
    values = exact_values(portrait_crops, R1)
    colour = colour_of(portrait_crops)
    tries = [linear.solve(R1, values, colour, weight, 60) for weight in linear.SMOOTHNESS]
    best = max(float(psnr(made, portrait_crops).mean()) for made in tries)
    assert best < float(psnr(flat(portrait_crops), portrait_crops).mean()) + 1.5


def test_without_a_prior_the_dropped_channels_stay_empty(portrait_crops: NDArray[np.uint8]) -> None:
    """Zero fill is the least-squares answer of an orthonormal transform."""
    values = exact_values(portrait_crops[:1], R1)
    made = linear.solve(R1, values, np.array([128.0, 128.0, 128.0]), smoothness=0.0, iterations=5)
    again = block_dct(linear_planes(made[0]), 1)
    stays, goes = split(again, R1.client_channels, R1.server_channels)
    assert np.abs(stays).max() < 1e-6
    assert goes == pytest.approx(values[0], abs=1e-6)


def linear_planes(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """(112, 112, 3) float RGB -> centred planes."""
    planes = np.einsum("cr,hwr->chw", linear.RGB_TO_YCBCR, rgb)
    planes[0] -= 128
    return planes


def test_the_normal_equations_are_those_of_the_transform(portrait_crops: NDArray[np.uint8]) -> None:
    """A^T A by small matrices against the transform applied and taken back, for every upsampling."""
    planes = centred_ycbcr(portrait_crops[0])
    for upsampling in (1, 2, 4, 8):
        spec = published_split(upsampling)
        values = exact_values(portrait_crops[:1], spec)[0]
        slow = linear._adjoint(values, spec)
        fast = linear.system_of(spec, smoothness=0.0).apply(planes)
        assert fast == pytest.approx(slow, abs=1e-6 * np.abs(slow).max())


def test_a_split_that_is_not_linear_is_refused() -> None:
    """A learned split needs ridge regression or a decoder; solving it as if it were linear would flatter it."""
    with pytest.raises(ConfigError, match="not linear"):
        linear.system_of(replace(R1, family="learned"), 0.0)


def test_a_picture_without_colour_is_solved_as_well(portrait_crops: NDArray[np.uint8]) -> None:
    """Its chroma planes are solved before the first step; going on would divide nothing by nothing."""
    grey = np.repeat(portrait_crops[:1, :, :, :1], 3, axis=3)
    made = linear.solve(R1, exact_values(grey, R1), colour_of(grey), smoothness=0.0, iterations=30)
    assert np.isfinite(made).all()
