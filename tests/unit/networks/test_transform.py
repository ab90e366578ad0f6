"""The fixed layers in torch against their NumPy definition: training and serving cannot drift."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from duetface.frequency import block_dct, centred_ycbcr
from duetface.quantisation import decode, quantise
from duetface.spec import PlaneSpec, SplitSpec
from duetface.splitting import join, split
from networks import registry
from networks.transform import HIGH_PASS_GAIN, BlockDct, InverseBlockDct, Quantiser


@pytest.mark.parametrize("name", ["r1", "r2", "paper"])
def test_torch_and_numpy_transform_alike(name: str, pictures: tuple[Tensor, Tensor]) -> None:
    """One definition, two array libraries."""
    spec = registry.split_named(name)
    stays, goes = BlockDct(spec)(pictures[0])
    rgb = pictures[0][1].permute(1, 2, 0).numpy().astype(np.uint8)
    channels = block_dct(centred_ycbcr(rgb), spec.upsampling)
    expected = split(channels, spec.client_channels, spec.server_channels)
    assert np.abs(stays[1].numpy() - expected[0]).max() < 2e-3  # float32 on values up to 1024
    assert np.abs(goes[1].numpy() - expected[1]).max() < 2e-3


def test_torch_and_numpy_quantise_alike(spec: SplitSpec) -> None:
    """Every level and every tie: both round halves to even, both saturate at 127."""
    plane = PlaneSpec("coefficients", (2, 1, 1000), 8, True, "deflate", (2.0, 3.0))
    values = np.stack([np.linspace(-400, 400, 1000)[None]] * 2).astype(np.float32)
    values[0, 0, :500] = np.arange(-250, 250) + 0.0  # odd numbers lie halfway between steps of 2
    quantiser = Quantiser(replace(spec, planes=(plane,)), "coefficients")
    expected = decode(quantise(values, plane), plane)
    assert np.array_equal(quantiser(torch.from_numpy(values)[None])[0].numpy(), expected)


def test_rounding_lets_the_gradient_through(spec: SplitSpec) -> None:
    """The true gradient of a staircase is zero: nothing behind a mask would ever learn."""
    values = torch.rand(1, 1, 7, 7, requires_grad=True)
    Quantiser(spec, "mask_7")(values).sum().backward()
    assert values.grad is not None and torch.equal(values.grad, torch.ones_like(values))


def test_the_inverse_of_all_channels_is_the_picture(spec: SplitSpec, pictures: tuple[Tensor, Tensor]) -> None:
    """The server's fixed layer, given everything, must show the teacher its own kind of input."""
    spec = replace(spec, client_channels=(), server_channels=tuple(range(64)))
    _, everything = BlockDct(spec)(pictures[0])
    shown = InverseBlockDct(spec)(everything)
    # Centred on 128, not 127.5: YCbCr's middle.
    assert torch.allclose(shown, (pictures[0] - 128) / 127.5 * HIGH_PASS_GAIN, atol=1e-2)


def test_the_inverse_fills_missing_channels_with_zero(spec: SplitSpec) -> None:
    """What stayed on the device is not made up by the fixed layer."""
    random = np.random.default_rng(1)
    goes = random.normal(0, 20, (162, 14, 14)).astype(np.float32)
    stays = np.zeros((30, 14, 14), np.float32)
    full = InverseBlockDct(
        SplitSpec.from_dict({**spec.to_dict(), "client_channels": [], "server_channels": list(range(64))})
    )
    channels = join(stays, goes, spec.client_channels, spec.server_channels)
    got = InverseBlockDct(spec)(torch.from_numpy(goes)[None])
    assert torch.allclose(got, full(torch.from_numpy(channels)[None]), atol=1e-5)
