"""Networks of the r1 split and inputs for them, on one thread."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from duetface.spec import SplitSpec
from networks import registry
from networks.client import ClientNetwork
from networks.device import DeviceHalf
from networks.server import ServerNetwork


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tests share two cores with whatever else runs; sums in one order are repeatable too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def spec() -> SplitSpec:
    """The r1 split."""
    return registry.split_named("r1")


@pytest.fixture
def pair(spec: SplitSpec) -> tuple[ClientNetwork, ServerNetwork]:
    """Client and server network with seeded random weights."""
    torch.manual_seed(1)
    client, server = registry.build(spec, teacher=None)
    assert isinstance(client, ClientNetwork)
    return client, server


@pytest.fixture
def device(spec: SplitSpec, pair: tuple[ClientNetwork, ServerNetwork]) -> DeviceHalf:
    """The device's half of that pair."""
    return DeviceHalf(spec, pair[0])


@pytest.fixture(scope="session")
def pictures() -> tuple[Tensor, Tensor]:
    """Three random pictures (3, 3, 112, 112) in 0..255 and an oval region (3, 1, 112, 112)."""
    generator = torch.Generator().manual_seed(2)
    rgb = torch.nn.functional.interpolate(torch.rand(3, 3, 28, 28, generator=generator), size=112) * 255
    y, x = torch.meshgrid(torch.arange(112.0), torch.arange(112.0), indexing="ij")
    oval = (((x - 56) / 40) ** 2 + ((y - 60) / 50) ** 2 < 1).float()
    return rgb.round(), oval.expand(3, 1, 112, 112)
