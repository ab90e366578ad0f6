"""Faces of nobody: what is made of two crops, and that nobody takes them for a person."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from duetface.errors import ConfigError
from training.augment import Picture
from training.batches import NOBODY, Samples
from training.blends import bend, blend
from training.config import FitConfig
from training.datasets import Faces
from training.losses import TeacherBank

CONFIG = FitConfig(split="l1", minutes=1, faces=64)


def brightness(pictures: Picture) -> NDArray[np.float32]:
    """A teacher whose answer is known: a unit vector that turns with the mean of the picture it was shown."""
    angle = pictures.reshape(len(pictures), -1).mean(axis=1) / 255
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def samples_of(faces: Faces, share: float, augmented: bool = False) -> Samples:
    """All of the tiny set."""
    rows = np.arange(len(faces.identity))
    return Samples(faces, rows, 3, augmented, 0.5, blend_share=share, teacher=brightness)


@given(seed=st.integers(0, 2**32 - 1))
def test_a_blend_is_a_crop(seed: int) -> None:
    """Whatever is drawn: the same shape, bytes, and between the two it was made of where both are flat."""
    dark, light = np.full((112, 112, 3), 40, np.uint8), np.full((112, 112, 3), 200, np.uint8)
    mixed = blend(dark, light, np.random.default_rng(seed))
    assert mixed.shape == (112, 112, 3) and mixed.dtype == np.uint8
    assert mixed.min() >= 40 and mixed.max() <= 200


def test_bending_moves_a_face_by_a_few_pixels_only() -> None:
    """A bright square stays near the middle, in nearly its size."""
    picture = np.zeros((112, 112, 3), np.uint8)
    picture[41:71, 41:71] = 255
    for seed in range(20):
        rows, columns = np.nonzero(bend(picture, np.random.default_rng(seed))[..., 0] > 127)
        assert abs(rows.mean() - 55.5) < 15 and abs(columns.mean() - 55.5) < 15
        assert 500 < len(rows) < 1600


def test_the_teacher_is_asked_about_the_blend_itself(faces: Faces) -> None:
    """Not about either of the two: the answer belongs to the picture in the batch."""
    samples = samples_of(faces, share=1.0)
    for position in range(6):
        rgb, _, answer, _, place = samples[position]
        assert place == NOBODY
        assert np.allclose(answer, brightness(rgb[None])[0])


def test_a_batch_is_asked_about_at_once(faces: Faces) -> None:
    """One question for all of its blends, each answer at its own place, faces of people left alone."""
    questions: list[int] = []

    def counting(pictures: Picture) -> NDArray[np.float32]:
        questions.append(len(pictures))
        return brightness(pictures)

    rows = np.arange(len(faces.identity))
    samples = Samples(faces, rows, 3, augmented=False, occluded_weight=0.5, blend_share=0.5, teacher=counting)
    batch = samples.at(range(20))
    blends = [i for i, sample in enumerate(batch) if sample[4] == NOBODY]
    assert questions == [len(blends)] and 0 < len(blends) < 20
    for i, (rgb, _, answer, _, place) in enumerate(batch):
        assert np.allclose(answer, brightness(rgb[None])[0] if i in blends else faces.teacher[rows[place]])


def test_the_share_of_blends_is_what_was_asked_for(faces: Faces) -> None:
    """And what is left keeps its own place and answer."""
    places = np.array([samples_of(faces, share=0.5)[position][4] for position in range(300)])
    assert 0.4 < (places == NOBODY).mean() < 0.6


def test_blends_repeat_with_the_position(faces: Faces) -> None:
    """A resumed run continues with the very pictures that were next."""
    first, again = samples_of(faces, 1.0, augmented=True)[7], samples_of(faces, 1.0, augmented=True)[7]
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[2], again[2])


def test_a_blend_is_told_from_every_known_face() -> None:
    """It has no row of the bank: the teacher's answer is what its student must be nearest to, parents or not."""
    known = torch.eye(4)
    bank = TeacherBank(known.numpy(), np.arange(4), temperature=0.05)
    answer = torch.nn.functional.normalize(torch.tensor([[1.0, 1.0, 0.0, 0.0]]), dim=1)
    students = (answer, known[:1], known[2:3])
    right, parent, stranger = (bank(student, answer, torch.tensor([NOBODY]), torch.ones(1)) for student in students)
    assert right < 0.1 < parent < stranger


def test_a_blend_costs_least_where_the_teacher_is() -> None:
    """At the teacher's own answer the gradient along the sphere vanishes: the term pulls nothing away from it."""
    known = torch.nn.functional.normalize(torch.randn(6, 4, generator=torch.manual_seed(1)), dim=1)
    bank = TeacherBank(known.numpy(), np.arange(6), temperature=0.5)
    answer = torch.nn.functional.normalize(known[:1] + known[1:2], dim=1)
    student = answer.clone().requires_grad_()
    bank(student, answer, torch.tensor([NOBODY]), torch.ones(1)).backward()
    assert student.grad is not None
    along = student.grad - (student.grad * answer).sum() * answer
    assert along.abs().max() < 1e-6


def test_impossible_shares_are_refused() -> None:
    """Before the data is loaded."""
    with pytest.raises(ConfigError, match=r"blend_share = 1\.5"):
        replace(CONFIG, blend_share=1.5)
    with pytest.raises(ConfigError, match="a blend has no name"):
        replace(CONFIG, blend_share=0.5, head="arcface")
