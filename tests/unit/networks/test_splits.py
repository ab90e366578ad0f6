"""Every split of the family: its networks train, embed and agree with the device's arithmetic."""

import numpy as np
import pytest
import torch
from torch import Tensor

from duetface.errors import ConfigError
from duetface.frequency import block_dct, centred_ycbcr
from duetface.quantisation import decode, quantise
from duetface.splitting import split
from networks import registry
from networks.client import ClientNetwork, gather
from networks.device import DeviceHalf
from networks.transform import IntegratingInverse

Pictures = tuple[Tensor, Tensor]
ALL = sorted(registry.SPLITS | registry.ABLATIONS)


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_of_every_split_gets_a_gradient(name: str, pictures: Pictures) -> None:
    """The client learns only through rounded masks and w * m * x: at w = 0 it would never move."""
    torch.manual_seed(1)
    spec = registry.split_named(name)
    client, server = registry.build(spec, teacher=None)
    embedding = server(DeviceHalf(spec, client)(*pictures))
    assert torch.allclose(embedding.norm(dim=1), torch.ones(3), atol=1e-5)
    (embedding * torch.randn(embedding.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
    for network in (client, server):
        for parameter_name, parameter in network.named_parameters() if network else ():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, f"{parameter_name} gets no gradient"


@pytest.mark.parametrize("name", ["paper", "r2"])
def test_the_client_network_reads_more_blocks_at_little_cost(name: str) -> None:
    """The same cells and masks whatever the upsampling; the device pays for no finer grid."""
    spec = registry.split_named(name)
    client = ClientNetwork(spec)
    regions = {f"region_{k}": torch.ones(1, 1, k, k) for k in (28, 14, 7)}
    masks = client(torch.randn(1, 30, spec.blocks, spec.blocks), **regions)
    assert [tuple(mask.shape) for mask in masks] == [(1, 1, 28, 28), (1, 1, 14, 14), (1, 1, 7, 7)]
    assert sum(parameter.numel() for parameter in client.parameters()) < 1_500_000 / 4


def test_blocks_that_do_not_gather_into_cells_are_refused() -> None:
    """A split of another block count must not be read shifted."""
    with pytest.raises(ValueError, match="42 blocks a side: expected 14 or a multiple of 28"):
        gather(42)


def test_the_published_split_gives_its_picture_back() -> None:
    """From what the wire carries, the server's fixed layer shows the picture but for three mean colours."""
    spec = registry.split_named("paper")
    plane = spec.plane("coefficients")
    coarse = torch.rand(1, 3, 14, 14, generator=torch.Generator().manual_seed(5)) * 255
    picture = torch.nn.functional.interpolate(coarse, size=112, mode="bicubic").clamp(0, 255).round()
    rgb = picture[0].permute(1, 2, 0).numpy().astype(np.uint8)
    goes = split(block_dct(centred_ycbcr(rgb), 8), spec.client_channels, spec.server_channels)[1]
    expected = picture[0] - picture[0].mean(dim=(1, 2), keepdim=True)
    # Rounding and saturating eight bits cost some levels of 255; in float nothing but the mean is lost.
    for values, allowed in ((goes.astype(np.float32), 0.05), (decode(quantise(goes, plane), plane), 6.0)):
        shown = IntegratingInverse(spec)(torch.from_numpy(values)[None])[0] * 127.5
        difference = shown - shown.mean(dim=(1, 2), keepdim=True) - expected
        assert difference.square().mean().sqrt() < allowed


def test_integration_needs_the_slopes() -> None:
    """A split that keeps them at the client cannot be read that way."""
    with pytest.raises(ValueError, match="the server lacks some of the channels"):
        IntegratingInverse(registry.fixed_split("smooth", 8, client_channels=(0, 7)))


def test_each_split_keeps_and_sends_every_channel_once() -> None:
    """Ten, six and three channels at the client; what does not stay goes."""
    for name, stays in (("r1", 10), ("r1-6", 6), ("r1-3", 3), ("r2", 10), ("paper", 10)):
        spec = registry.split_named(name)
        assert len(spec.client_channels) == stays
        assert sorted(spec.client_channels + spec.server_channels) == list(range(64))
    assert registry.split_named("paper").planes[0].packed_length == 162 * 112 * 112


def test_an_unknown_split_lists_the_known_ones() -> None:
    """A typing error in a config must not train something else."""
    with pytest.raises(ConfigError, match=r"unknown split 'r3': expected one of \['l1', 'paper', 'r1'"):
        registry.split_named("r3")
