"""Scores against counting, and the production path against torch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from duetface.manifest import models_root
from duetface.quantisation import decode
from networks import registry
from networks.device import DeviceHalf
from tests.unit.training.conftest import made_up_picture
from training.evaluate import wire_bytes
from training.production import ProductionPath
from training.scores import best_threshold, equal_error_rate, fold_accuracies, paired_gap, score, tar_at, verify


@given(similarity=st.lists(st.integers(-9, 9), min_size=2, max_size=40, unique=True), seed=st.integers(0, 1000))
def test_the_best_threshold_is_the_best_of_all(similarity: list[int], seed: int) -> None:
    """Against trying every one."""
    values = np.array(similarity, float)
    same = np.random.default_rng(seed).random(len(values)) < 0.5
    tried = [float(np.mean((values >= threshold) == same)) for threshold in values]
    assert np.mean((values >= best_threshold(values, same)) == same) == pytest.approx(max(tried))


def test_a_fold_is_scored_at_the_other_folds_threshold() -> None:
    """Here the other fold's threshold is wrong for this one: scoring it on itself would give 1."""
    folds = [np.array([0.9, 0.8]), np.array([0.5, 0.4])]
    same = [np.array([True, False]), np.array([True, False])]
    assert fold_accuracies(folds, same) == [0.5, 0.5]


def test_tar_at_far_admits_no_more_impostors_than_asked() -> None:
    """Of 100 impostors one may exceed the threshold at FAR 1e-2."""
    impostor = np.sort(np.arange(100) / 100)
    assert tar_at(np.array([0.97, 0.975, 0.99]), impostor, 1e-2) == pytest.approx(1 / 3)


def test_perfect_separation_has_no_error() -> None:
    """And the crops' names tie pairs to embeddings."""
    embeddings = {"a": np.array([1.0, 0]), "b": np.array([1.0, 0]), "c": np.array([0, 1.0])}
    folds = [[("a", "b", True), ("a", "c", False)]] * 3
    verified = verify(embeddings, folds)
    scores = score(verified, np.array([100, 200]), "test")
    assert verified.right.all()
    assert scores.accuracy["mean"] == 1 and scores.eer == 0 and scores.bytes_per_face["max"] == 200
    assert equal_error_rate(np.array([0.1]), np.array([0.9])) == 1


def crowd(people: int) -> list[list[tuple[str, str, bool]]]:
    """Five folds of one genuine and one impostor pair a person."""
    pairs = [pair for i in range(people) for pair in ((f"p{i}_1", f"p{i}_2", True), (f"p{i}_1", f"p{i + 1}_1", False))]
    return [pairs[i::5] for i in range(5)]


def test_the_gap_is_paired_and_its_interval_holds_it() -> None:
    """Two systems that err on the same pairs differ by nothing, however often they err."""
    folds, random = crowd(60), np.random.default_rng(1)
    right = random.random(120) < 0.9
    assert paired_gap(right, right, folds)["high"] == 0
    better = right | (random.random(120) < 0.5)
    gap = paired_gap(right, better, folds)
    assert gap["points"] == pytest.approx(100 * (better.mean() - right.mean()), abs=1e-3)
    assert gap["low"] < gap["points"] < gap["high"] and gap["resampled"] == "people"


def test_pairs_that_share_a_person_are_not_independent() -> None:
    """One person in half of the pairs makes the interval wide; resampling pairs would not see it."""
    names = [[("star_1", f"star_{i}", True), (f"p{i}_1", f"p{i}_2", True)] for i in range(100)]
    anonymous = [[(a.replace("_", "-"), b.replace("_", "-"), kind) for a, b, kind in fold] for fold in names]
    right = np.array([True, False] * 100)
    by_people, by_pairs = (paired_gap(right, np.ones(200, bool), folds) for folds in (names, anonymous))
    assert by_people["high"] - by_people["low"] > 2 * (by_pairs["high"] - by_pairs["low"])  # type: ignore[operator]
    assert "too narrow" in str(by_pairs["resampled"])


@pytest.fixture(scope="module")
def path() -> ProductionPath:
    """The shipped pair."""
    return ProductionPath.load(models_root(), "r1", "r1-1-int8")


def test_the_wire_carries_what_training_saw(path: ProductionPath) -> None:
    """Device codes, packed, inflated and decoded, against the torch transform and quantiser."""
    rgb = made_up_picture(5)
    received = path.receive(path.protect(rgb))
    plane = path.encoder.spec.plane("coefficients")
    wire = received.planes["coefficients"] * np.array(plane.scale, np.float32)[:, None, None]
    torch_half = DeviceHalf(registry.split_named("r1"), None)
    pixels = torch.from_numpy(rgb).permute(2, 0, 1)[None].float()
    planes = torch_half.quantised({"coefficients": torch_half.transform(pixels)[1]})  # type: ignore[misc]
    difference = np.abs(planes["coefficients"][0].numpy() - wire) / np.array(plane.scale)[:, None, None]
    # float32 against float64: a value on a tie may fall to the other side, nothing may move further.
    assert difference.max() < 1.001 and (difference > 0.5).mean() < 1e-4


def test_a_face_fits_in_sixteen_kilobytes(path: ProductionPath) -> None:
    """The limit of the contract, masks included, even for a picture whose every pixel has noise of sigma 3."""
    noisy = np.clip(made_up_picture(6) + np.random.default_rng(1).normal(0, 3, (112, 112, 3)), 0, 255)
    assert sum(map(len, path.protect(noisy.astype(np.uint8)).values())) <= 16_000


def test_bytes_of_decoded_planes_are_those_of_the_wire(path: ProductionPath) -> None:
    """An ablation counts bytes without a message: encoding the decoded values again must give the same codes."""
    received = [path.protect(made_up_picture(i)) for i in range(2)]
    decoded = {
        plane.name: torch.from_numpy(
            np.stack([decode(path.receive(message).planes[plane.name], plane) for message in received])
        )
        for plane in path.encoder.spec.planes
    }
    assert wire_bytes(path.encoder.spec, decoded) == [sum(map(len, message.values())) for message in received]


@pytest.mark.shared_data
def test_published_weights_equal_their_torch_run(shared_data: Path) -> None:
    """Export and wire may not move an embedding of a float32 space."""
    from training.evaluate import TorchPath

    path = ProductionPath.load(models_root(), "l1", "l1-3")
    weights = Path(__file__).parents[3] / "runs" / "l1-more" / "final.pt"
    if not weights.exists():
        pytest.skip(f"{weights} is not there: only a machine that trained the shipped space has it")
    crops = [made_up_picture(i) for i in range(4)]
    (wire, lengths), (here, counted) = path.embed(crops), TorchPath.load(weights, models_root()).embed(crops)
    assert (np.sum(here * wire, axis=1) > 0.999).all()
    assert np.abs(lengths - counted).max() <= 8  # a value on a tie may fall to the other side
