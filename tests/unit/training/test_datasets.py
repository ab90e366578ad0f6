"""Data, cache, held-out people, augmentation."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.training.conftest import FACES, made_up_picture, write_zip
from training import datasets
from training.augment import augment
from training.batches import Samples
from training.calibrate import comparisons, sample_rows
from training.datasets import Faces, held_out_identities


def test_each_crop_stands_in_the_row_of_its_name(faces: Faces) -> None:
    """Names interleave over the shards: the wrong order pairs every face with another one's teacher."""
    assert faces.crops.shape == (FACES, 112, 112, 3)
    for row in range(FACES):
        assert np.array_equal(faces.crops[row], made_up_picture(row))


def test_a_missing_cache_says_which_command_makes_it(data_folder: Path, tmp_path: Path) -> None:
    """The first error a newcomer sees."""
    with pytest.raises(FileNotFoundError, match="python -m training prepare"):
        datasets.load(data_folder, tmp_path)


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    """A broken crop must not be skipped in silence: rows would shift."""
    import zipfile

    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("000001.webp", b"not a picture")
    with pytest.raises(ValueError, match=r"000001\.webp is not a picture"):
        list(datasets.read_zip(tmp_path / "x.zip"))


def test_nobody_is_both_trained_on_and_held_out() -> None:
    """A threshold from people that the network knows would be too low."""
    identity = np.random.default_rng(1).integers(-1, 2000, 4000)
    held_out = set(held_out_identities(identity, 600))
    assert len(held_out) == 600 and -1 not in held_out
    faces = Faces(*[np.zeros(0)] * 3, identity, np.ones(4000, np.float32), np.array(["x"] * 4000), "")  # type: ignore[arg-type]
    trained = set(identity[faces.training_rows()])
    assert trained & held_out_set(faces) == set()
    assert set(faces.training_rows()) | set(faces.held_out_rows()) == set(range(4000))


def held_out_set(faces: Faces) -> set[int]:
    """People of the held-out rows."""
    return set(faces.identity[faces.held_out_rows()])


def test_who_is_held_out_does_not_depend_on_the_order_of_the_table() -> None:
    """Otherwise adding a set would move people between training and calibration."""
    identity = np.random.default_rng(2).integers(0, 500, 900)
    assert np.array_equal(held_out_identities(identity, 100), held_out_identities(identity[::-1], 100))


def test_calibration_takes_a_few_pictures_of_each_held_out_person(faces: Faces) -> None:
    """One person with dozens of pictures must not be most of the sample."""
    rows = sample_rows(faces)
    assert set(rows) <= set(faces.held_out_rows())
    assert np.unique(faces.identity[rows], return_counts=True)[1].max() <= 4


def test_comparisons_count_each_pair_once_and_leave_out_double_labels() -> None:
    """Two labels of one person would put genuine similarities into the impostor tail."""
    student = np.eye(4, dtype=np.float32)
    teacher = np.eye(4, dtype=np.float32)
    teacher[3] = teacher[0]  # rows 0 and 3: one person, says the teacher
    identity, strangers = np.array([0, 0, 1, 2]), np.zeros(4, bool)
    impostor, genuine, doubtful = comparisons(student, teacher, identity, strangers)
    assert (len(impostor), len(genuine), doubtful) == (4, 1, 1)


def test_relatives_are_no_impostors() -> None:
    """A set of families would make the threshold one that tells siblings apart, and refuse everybody else."""
    student = np.eye(4, dtype=np.float32)
    families = np.array([True, True, True, False])
    impostor, genuine, _ = comparisons(student, student, np.array([0, 0, 1, 2]), families)
    assert (len(impostor), len(genuine)) == (3, 1)


def test_pairs_are_read_in_both_forms(tmp_path: Path) -> None:
    """LFW View 2: same person as three fields, different people as four."""
    write_zip(tmp_path / "aligned_112.zip", {"A_0001": made_up_picture(1), "A_0002": made_up_picture(2)})
    (tmp_path / "pairs.txt").write_text("1\t1\nA\t1\t2\nA\t1\tB\t3\n")
    crops, folds = datasets.read_pairs(tmp_path)
    assert list(crops) == ["A_0001", "A_0002"]
    assert folds == [[("A_0001", "A_0002", True), ("A_0001", "B_0003", False)]]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_an_augmented_crop_is_still_a_crop(seed: int) -> None:
    """Whatever is drawn: shape, dtype, and a region that stays binary."""
    region = np.zeros((112, 112), np.uint8)
    region[20:90, 30:80] = 1
    rgb, moved = augment(made_up_picture(1), region, np.random.default_rng(seed))
    assert rgb.shape == (112, 112, 3) and rgb.dtype == np.uint8
    assert moved.shape == (112, 112) and set(np.unique(moved)) <= {0, 1}


def test_a_position_of_the_run_is_always_the_same_sample(faces: Faces) -> None:
    """A resumed run continues with the very faces and changes that were next."""
    first = Samples(faces, np.arange(FACES), seed=3, augmented=True, occluded_weight=0.5)
    again = Samples(faces, np.arange(FACES), seed=3, augmented=True, occluded_weight=0.5)
    assert np.array_equal(first[FACES + 4][0], again[FACES + 4][0])
    assert not np.array_equal(first[4][0], first[FACES + 4][0])


def test_each_pass_sees_every_face_once(faces: Faces) -> None:
    """A permutation, not draws with replacement."""
    samples = Samples(faces, np.arange(FACES), seed=3, augmented=False, occluded_weight=0.5)
    seen = {samples[position][0].tobytes() for position in range(FACES)}
    assert len(seen) == FACES


def test_crops_with_black_borders_count_less(faces: Faces) -> None:
    """A third of the crops come from tight sources."""
    samples = Samples(faces, np.arange(FACES), seed=3, augmented=False, occluded_weight=0.25)
    assert {samples[position][3] for position in range(FACES)} == {0.25, 1.0}
