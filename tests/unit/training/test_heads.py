"""Margin heads: the margin makes the own person harder, unknown people are left out, bad settings are named."""

import math

import numpy as np
import pytest
import torch

from duetface.errors import ConfigError
from training.heads import MarginHead
from training.objective import picture_quality

IDENTITY = np.array([7, -1, 9, 7])


def head(kind: str, margin: float) -> MarginHead:
    """Two people at right angles."""
    made = MarginHead(kind, IDENTITY, size=4, scale=2.0, margin=margin)
    with torch.no_grad():
        made.centres.copy_(torch.eye(4)[:2])
    return made


def test_arcface_adds_the_margin_to_the_own_angle() -> None:
    """Eq. 3: at an angle of 0.4 with a margin of 0.5 the own logit is cos 0.9."""
    angle, other = 0.4, math.sin(0.4)
    embedding = torch.tensor([[math.cos(angle), other, 0.0, 0.0]])
    loss = head("arcface", 0.5)(embedding, torch.tensor([0]), torch.zeros(1)).item()
    own = 2 * math.cos(angle + 0.5)
    assert loss == pytest.approx(math.log(1 + math.exp(2 * other - own)), abs=1e-4)


def test_adaface_asks_more_of_a_good_picture() -> None:
    """Eq. 8: quality 1 gives cos(angle - m) - 2 m, quality -1 gives cos(angle + m), as ArcFace."""
    embedding, place = torch.tensor([[math.cos(0.4), math.sin(0.4), 0.0, 0.0]]), torch.tensor([0])
    for quality, own in ((1.0, math.cos(0.4 - 0.3) - 0.6), (-1.0, math.cos(0.4 + 0.3))):
        loss = head("adaface", 0.3)(embedding, place, torch.tensor([quality])).item()
        assert loss == pytest.approx(math.log(1 + math.exp(2 * math.sin(0.4) - 2 * own)), abs=1e-4)


@pytest.mark.parametrize("kind", ["arcface", "adaface"])
def test_faces_without_a_label_are_left_out(kind: str) -> None:
    """Most training faces have none; a batch of only such faces costs nothing and breaks nothing."""
    made = head(kind, 0.3)
    embedding = torch.nn.functional.normalize(torch.randn(2, 4), dim=1).requires_grad_()
    both = made(embedding, torch.tensor([0, 1]), torch.zeros(2))
    assert torch.allclose(both, made(embedding[:1], torch.tensor([0]), torch.zeros(1)))
    none = made(embedding[1:], torch.tensor([1]), torch.zeros(1))
    none.backward()
    assert none.item() == 0 and torch.isfinite(embedding.grad).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("angle", [0.0, math.pi])
def test_the_ends_of_the_angle_have_a_gradient(angle: float) -> None:
    """The arc cosine's is infinite there: one perfect face would fill the network with NaN."""
    embedding = torch.tensor([[math.cos(angle), 0.0, 0.0, 0.0]], requires_grad=True)
    head("arcface", 0.5)(embedding, torch.tensor([0]), torch.zeros(1)).backward()
    assert torch.isfinite(embedding.grad).all()  # type: ignore[arg-type]


def test_a_head_without_labels_or_of_another_kind_is_refused() -> None:
    """A run for hours with a head that sees nobody would look like a bad head."""
    with pytest.raises(ConfigError, match="needs labels: 0 people are known"):
        MarginHead("arcface", np.array([-1, -1]), 4, 64.0, 0.5)
    with pytest.raises(ConfigError, match="head 'sphereface': expected one of"):
        MarginHead("sphereface", IDENTITY, 4, 64.0, 0.5)


def test_quality_orders_the_pictures_of_a_batch() -> None:
    """The better a changed picture still tells its person, the higher; never beyond the ends."""
    teacher = torch.nn.functional.normalize(torch.randn(6, 8), dim=1)
    noise = torch.linspace(0, 3, 6)[:, None] * torch.randn(6, 8)
    quality = picture_quality(torch.nn.functional.normalize(teacher + noise, dim=1), teacher)
    assert quality[0] == quality.max() and quality.abs().max() <= 1
    assert torch.allclose(picture_quality(teacher, teacher), torch.zeros(6), atol=1e-3)
