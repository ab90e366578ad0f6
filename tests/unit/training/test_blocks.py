"""Leaving parts of the teacher out: a measurement that must leave the teacher as it was."""

import pytest
import torch

from networks.mobile_face_net import MobileFaceNet
from training.blocks import leave_out, with_margin
from training.datasets import Faces


def test_each_block_is_left_out_once_and_put_back(faces: Faces) -> None:
    """Three margins, the first of none, half the detail, then the blocks; first of all itself."""
    torch.manual_seed(1)
    teacher = MobileFaceNet().eval()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    found = list(leave_out(teacher, faces, count=3))
    assert len(found) == 3 + 1 + 4 + 6 + 2
    assert found[0].cosine == pytest.approx(1, abs=1e-5)
    assert all(one.cosine < 0.9999 for one in found[3:])
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_a_margin_is_blank_and_the_middle_is_not_touched() -> None:
    """Grey, as the teacher sees an empty place."""
    shown = with_margin(torch.ones(1, 3, 112, 112), 8)
    assert shown[:, :, 8:-8, 8:-8].min() == 1
    assert shown.sum() == 3 * 96 * 96
