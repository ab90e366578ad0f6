"""The learned split: what its client sees, what it sends, and how it is taught."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from duetface.spec import SplitSpec
from networks import registry
from networks.cost import multiply_accumulates
from networks.device import DeviceHalf
from networks.export import export_client, export_server
from networks.learned import LearnedClient, LearnedServer, LowPassPicture
from networks.mobile_face_net import MobileFaceNet
from networks.small_face_net import GRIDS
from training.hints import Hints, difference, seen_by_client


@pytest.fixture(scope="module")
def learned() -> SplitSpec:
    """The learned split."""
    return registry.split_named("l1")


@pytest.fixture
def half(learned: SplitSpec) -> DeviceHalf:
    """Its device's half with seeded random weights."""
    torch.manual_seed(1)
    return DeviceHalf(learned, registry.build(learned, teacher=None)[0])


def test_a_message_holds_256_bytes_and_nothing_else(learned: SplitSpec) -> None:
    """The bits of a message are the one bound on a leak that no attacker can train away."""
    assert [plane.name for plane in learned.planes] == ["codes"]
    assert learned.planes[0].packed_length == learned.planes[0].wire_limit == 256
    assert learned.server_channels == ()


def test_the_client_looks_at_the_middle_of_the_picture_at_half_its_size(half: DeviceHalf) -> None:
    """Its trunk was cut out of a network for pictures in [-1, 1]: range, place and scale have to be right."""
    rows = np.linspace(20, 235, 112)[:, None, None] * np.array([1.0, 0.8, 0.6])
    smooth = np.broadcast_to(rows, (112, 112, 3)).astype(np.float32)
    assert half.transform is not None
    stays, goes = half.transform(torch.from_numpy(smooth.transpose(2, 0, 1)[None]))
    shown = LowPassPicture()(stays)[0].numpy()
    halved = cv2.resize(smooth, (56, 56), interpolation=cv2.INTER_AREA)[4:-4, 4:-4].transpose(2, 0, 1) / 127.5 - 1
    assert goes.numel() == 0
    assert np.abs(shown - halved).max() < 0.02


def test_what_lies_at_the_border_does_not_change_the_codes(half: DeviceHalf, pictures: tuple[Tensor, Tensor]) -> None:
    """Hair and background of the outermost 8 pixels are no business of the service."""
    rgb, region = pictures
    other = rgb.clone()
    other[:, :, :8], other[:, :, -8:], other[:, :, :, :8], other[:, :, :, -8:] = 0, 255, 30, 200
    assert torch.equal(half(rgb, region)["codes"], half(other, region)["codes"])


def test_codes_use_their_range_and_have_no_place(half: DeviceHalf, pictures: tuple[Tensor, Tensor]) -> None:
    """Values of unit variance in steps of 0.4 up to 2.8; a vector has no cell that stands for an eye."""
    codes = half(*pictures)["codes"]
    assert codes.shape == (3, 512, 1, 1)
    steps = codes / 0.4
    assert torch.allclose(steps, steps.round(), atol=1e-4) and steps.abs().max() <= 7.001
    assert 0.9 < codes.square().mean() < 1.1


def test_client_and_server_leave_torch_unchanged(learned: SplitSpec, tmp_path: Path) -> None:
    """The files that are shipped compute what was trained, whatever the batch."""
    client, server = registry.build(learned, teacher=None)
    assert isinstance(client, LearnedClient) and isinstance(server, LearnedServer)
    assert export_client(client, learned, tmp_path / "client.onnx") < 1e-3
    assert multiply_accumulates(tmp_path / "client.onnx") < 60e6
    assert export_server(server, learned, tmp_path / "server.onnx") < 1e-4


def test_a_split_of_other_channels_is_refused() -> None:
    """A client network that reads what the split does not keep would be a silent mistake."""
    with pytest.raises(ValueError, match="this client network makes 512 codes"):
        LearnedClient(registry.split_named("r1"), MobileFaceNet())


def test_hints_compare_the_same_places() -> None:
    """A teacher's cell and the client's of the same part of the face: a map of coordinates shows it."""
    for cells, mine in zip((28, 14, 7), GRIDS, strict=True):
        centres = (torch.arange(cells) + 0.5) * 112 / cells
        seen = seen_by_client(centres.expand(1, 1, cells, cells), torch.zeros(1, 1, mine, mine))
        expected = 8 + (torch.arange(mine) + 0.5) * 96 / mine
        assert torch.allclose(seen[0, 0, 0], expected, atol=1e-4)


def test_a_client_that_agrees_has_nothing_to_learn_from_hints() -> None:
    """Zero at the teacher's own map, one at a map without any likeness but the mean."""
    torch.manual_seed(1)
    theirs = torch.randn(8, 4, 6, 6)
    assert difference(theirs, theirs) == 0
    assert difference(theirs.mean(dim=(0, 2, 3), keepdim=True), theirs) == pytest.approx(1, abs=0.02)


def test_hints_move_the_client_and_leave_the_teacher(half: DeviceHalf, pictures: tuple[Tensor, Tensor]) -> None:
    """A gradient reaches the client's first layer; the teacher is not trained."""
    hints = Hints(MobileFaceNet())
    _, maps = half.observed(*pictures)
    hints(pictures[0], maps).backward()
    assert isinstance(half.client, LearnedClient)
    first = next(half.client.trunk.parameters())
    assert first.grad is not None and first.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in hints.parameters())
