"""What the published code got wrong must hold here: every weight trains, nothing is made in forward."""

import pytest
import torch
from torch import Tensor, nn

from duetface.errors import ModelError
from duetface.spec import SplitSpec
from networks import registry
from networks.client import EPSILON, ClientNetwork, attention
from networks.device import DeviceHalf
from networks.interaction import GatedInteraction, Interaction
from networks.mobile_face_net import HalvingConvolution, PairedConvolution
from networks.server import ServerNetwork

Pair = tuple[ClientNetwork, ServerNetwork]
Pictures = tuple[Tensor, Tensor]


def test_two_evaluations_give_identical_bytes(pair: Pair, device: DeviceHalf, pictures: Pictures) -> None:
    """The published block drew new random weights at each call: the same face, another embedding."""
    server = pair[1].eval()
    with torch.no_grad():
        first, second = server(device(*pictures)), server(device(*pictures))
    assert first.numpy().tobytes() == second.numpy().tobytes()


def test_forward_adds_nothing_to_the_state(pair: Pair, device: DeviceHalf, pictures: Pictures) -> None:
    """A module made in forward enters the checkpoint after the first call and breaks strict loading."""
    before = [list(network.state_dict()) for network in pair]
    pair[1](device(*pictures))
    assert [list(network.state_dict()) for network in pair] == before


def test_fixed_transforms_are_not_in_the_checkpoint(pair: Pair) -> None:
    """They follow from the spec; a stored copy could disagree with it."""
    assert not [name for name in pair[1].state_dict() if "inverse" in name or "pairs" in name]


def test_an_embedding_does_not_depend_on_its_batch(pair: Pair, device: DeviceHalf, pictures: Pictures) -> None:
    """Batch statistics in a recogniser would let one user's face move another's template."""
    server = pair[1].eval()
    with torch.no_grad():
        planes = device(*pictures)
        together = server(planes)
        alone = server({name: plane[1:2] for name, plane in planes.items()})
    assert torch.cosine_similarity(together[1:2], alone).item() > 0.99999


def test_masks_matter(pair: Pair, device: DeviceHalf, pictures: Pictures) -> None:
    """An interactive block that changes nothing would not earn its bytes."""
    server = pair[1].eval()
    with torch.no_grad():
        planes = device(*pictures)
        without = {name: plane * 0 if name.startswith("mask") else plane for name, plane in planes.items()}
        assert not torch.allclose(server(planes), server(without))


def test_a_block_without_attention_lets_everything_through() -> None:
    """At mask 0 the warm-started trunk is the teacher's, untouched."""
    x = torch.randn(2, 4, 7, 7)
    assert torch.equal(Interaction()(x, torch.zeros(2, 1, 7, 7)), x)


def test_attention_leaves_the_trunk_in_its_own_type() -> None:
    """Masks arrive in float32; a trunk in bf16 that went on so would take twice the memory for nothing."""
    x, mask = torch.ones(1, 4, 7, 7, dtype=torch.bfloat16), torch.rand(1, 1, 7, 7)
    assert {block()(x, mask).dtype for block in (Interaction, GatedInteraction)} == {torch.bfloat16}


def test_the_figures_gate_has_nothing_to_learn_and_doubles_where_it_looks() -> None:
    """g + g * m with g = sigmoid(x): the ablation's other form."""
    x, mask = torch.randn(2, 4, 7, 7), torch.rand(2, 1, 7, 7)
    gate = torch.sigmoid(x)
    assert torch.allclose(GatedInteraction()(x, mask), gate * (1 + mask))
    assert not list(GatedInteraction().parameters())


@pytest.mark.parametrize("features", [torch.zeros(2, 3, 7, 7), torch.full((2, 3, 7, 7), 5.0)])
@pytest.mark.parametrize("region", [torch.zeros(2, 1, 7, 7), torch.ones(2, 1, 7, 7)])
def test_constant_features_give_a_flat_mask_and_never_nan(features: Tensor, region: Tensor) -> None:
    """The published norm divides zero by zero there, and the embedding becomes NaN."""
    mask = attention(features, region)
    assert torch.equal(mask, torch.zeros(2, 1, 7, 7))


def test_a_mask_spans_its_range_and_stays_in_the_region() -> None:
    """Figure's form: the mean over channels times the region, then from its least to its greatest value."""
    features = torch.rand(1, 8, 14, 14) + 0.1
    region = torch.zeros(1, 1, 14, 14)
    region[..., 4:10, 4:10] = 1
    mask = attention(features, region)
    assert mask.min() == 0 and 1 - 2 * EPSILON < mask.max() <= 1
    assert (mask[region == 0] == 0).all()


def test_a_convolution_in_wider_groups_is_the_same_sum() -> None:
    """The fast kernel must compute the teacher's layer, gradients included."""
    convolution = PairedConvolution(32)
    x = torch.randn(2, 32, 9, 9)
    plain = nn.functional.conv2d(x, convolution.weight, convolution.bias, padding=1, groups=16)
    assert torch.allclose(convolution(x), plain, atol=1e-5)
    (expected,) = torch.autograd.grad(plain.square().sum(), convolution.weight)
    (got,) = torch.autograd.grad(convolution(x).square().sum(), convolution.weight)
    assert torch.allclose(got, expected, rtol=1e-3, atol=1e-3)


def test_a_convolution_thinned_out_is_the_same_sum() -> None:
    """Training takes a detour for the gradient's sake; what it computes is what is exported."""
    convolution = HalvingConvolution(16)
    x = torch.randn(2, 16, 14, 14, requires_grad=True)
    plain = nn.functional.conv2d(x, convolution.weight, convolution.bias, stride=2, padding=1, groups=16)
    assert torch.allclose(convolution(x), plain, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(convolution(x), plain)
    for of in (convolution.weight, x):
        (expected,) = torch.autograd.grad(plain.square().sum(), of, retain_graph=True)
        (got,) = torch.autograd.grad(convolution(x).square().sum(), of)
        assert torch.allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_the_client_network_stays_small(pair: Pair) -> None:
    """A Raspberry-class device runs it beside the detector: at most 1.5 MB in int8."""
    assert sum(parameter.numel() for parameter in pair[0].parameters()) < 1_500_000 / 4


def test_a_teacher_that_is_not_there_is_named(spec: SplitSpec, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """The weights are not shipped: whoever trains must fetch them."""
    with pytest.raises(ModelError, match=r"teacher .* is missing"):
        registry.build(spec, tmp_path / "none.onnx")
