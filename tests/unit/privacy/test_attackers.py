from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from duetface.errors import ConfigError
from privacy import ridge
from privacy.decoder import DecoderSize, build_decoder, reconstruct
from privacy.fit import CHECKPOINT, Budget, Machine, batch_rows, rate_factor
from privacy.judges import psnr
from privacy.losses import Critic
from privacy.painter import mean_face, train_decoder
from privacy.start import ridge_start
from privacy.trained import load_decoder
from tests.unit.privacy.conftest import blobs

TINY = Budget(passes=12, batch=16, width=4, blocks=1, ssim_weight=0.0, learning_rate=4e-3)


def plain(rgb: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
    """The unprotected picture as the one plane of a message."""
    return {"rgb": np.ascontiguousarray(rgb.transpose(0, 3, 1, 2))}


def quiet(_line: str) -> None:
    """Progress of a test."""


def test_the_decoder_succeeds_on_the_unprotected_picture(tmp_path: Path) -> None:
    """Rule of the suite: an attack that fails here proves nothing when it fails on a split."""
    own, victims = blobs(96, 1), blobs(12, 2)
    decoder = train_decoder(plain(own), own, TINY, tmp_path, quiet, Machine())
    made = reconstruct(decoder, plain(victims))
    floor = np.broadcast_to(mean_face(own), victims.shape)
    assert psnr(made, victims).mean() > psnr(floor, victims).mean() + 5


def test_a_thumbnail_in_place_of_masks_gives_the_picture_away(tmp_path: Path) -> None:
    """So that masks which show nothing are known to show nothing, and not to be unreadable by this decoder."""
    own, victims = blobs(96, 1), blobs(12, 2)

    def thumbnails(rgb: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
        grey = rgb.astype(np.float64).mean(axis=3)
        cells = {side: grey.reshape(-1, side, 112 // side, side, 112 // side).mean(axis=(2, 4)) for side in (28, 14, 7)}
        return {f"mask_{side}": np.rint(cell[:, None] / 17).astype(np.uint8) for side, cell in cells.items()}

    decoder = train_decoder(thumbnails(own), own, replace(TINY, passes=8), tmp_path, quiet, Machine())
    made = reconstruct(decoder, thumbnails(victims))
    floor = np.broadcast_to(mean_face(own), victims.shape)
    assert psnr(made, victims).mean() > psnr(floor, victims).mean() + 1.5  # it has no colour


def test_an_untrained_decoder_shows_the_mean_face() -> None:
    """Where every attacker starts: nothing observed, nothing gained."""
    own = blobs(8, 1)
    decoder = build_decoder(plain(own), DecoderSize(4, 1), mean_face(own), seed=1)
    made = reconstruct(decoder, plain(own))
    assert np.abs(made.astype(float) - mean_face(own)).max() <= 0.5


@pytest.mark.parametrize("shape", [(512, 1, 1), (32, 7, 7), (8, 4, 4), (162, 14, 14), (1, 28, 28), (3, 112, 112)])
def test_every_kind_of_observation_enters_and_reaches_the_picture(shape: tuple[int, int, int]) -> None:
    """One family for template, coarse codes, coefficients, masks and pictures; each stem must get a gradient."""
    array = np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)
    decoder = build_decoder({"seen": array}, DecoderSize(4, 1), np.zeros((112, 112, 3)), seed=1)
    torch.nn.init.normal_(decoder.around[0].weight)  # zero at the start, which would stop every gradient
    picture = decoder({"seen": torch.from_numpy(array)})
    assert picture.shape == (2, 3, 112, 112)
    torch.autograd.backward(picture.square().mean())
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in decoder.stems.parameters())


def test_an_interrupted_run_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    """Long attacks are interrupted; their figures may not depend on it."""
    own = blobs(32, 1)
    budget = replace(TINY, passes=2)
    whole = train_decoder(plain(own), own, budget, tmp_path / "whole", quiet, Machine())

    class Interrupted(Exception):
        pass

    def stop(line: str) -> None:
        if (tmp_path / "cut" / CHECKPOINT).exists():
            raise Interrupted(line)

    # A checkpoint after every step; progress is told at the first and last, so it stops at the last.
    often = replace(budget, checkpoint_s=0.0)
    with pytest.raises(Interrupted):
        train_decoder(plain(own), own, often, tmp_path / "cut", stop, Machine())
    resumed = train_decoder(plain(own), own, budget, tmp_path / "cut", quiet, Machine())
    assert (reconstruct(whole, plain(own)) == reconstruct(resumed, plain(own))).all()


def test_a_checkpoint_of_another_budget_is_refused(tmp_path: Path) -> None:
    """A verdict on mixed budgets would be worth nothing."""
    own = blobs(16, 1)
    train_decoder(plain(own), own, replace(TINY, passes=1), tmp_path, quiet, Machine())
    with pytest.raises(ConfigError, match="of another run"):
        train_decoder(plain(own), own, replace(TINY, passes=2), tmp_path, quiet, Machine())


def test_features_and_a_critic_can_be_trained_against(tmp_path: Path) -> None:
    """The perceptual and the adversarial loss both change the decoder, and the critic itself learns."""
    own = blobs(16, 1)
    budget = replace(TINY, passes=1, perceptual_weight=0.1, adversarial_weight=0.05)

    def features(picture: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(picture, 8)

    trained = train_decoder(plain(own), own, budget, tmp_path, quiet, Machine(), features)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)["state"]
    assert {"critic", "critic_optimiser"} <= state.keys()
    assert not (reconstruct(trained, plain(own)) == np.rint(mean_face(own))).all()
    torch.manual_seed(1)
    real, made = torch.rand(4, 3, 112, 112) * 255, torch.zeros(4, 3, 112, 112)
    critic = Critic(8)
    optimiser = torch.optim.Adam(critic.parameters(), 1e-2)
    first = float(critic.own_loss(made, real).detach())
    for _ in range(20):
        optimiser.zero_grad()
        torch.autograd.backward(critic.own_loss(made, real))
        optimiser.step()
    assert float(critic.own_loss(made, real).detach()) < first


def test_each_pass_sees_every_face_once() -> None:
    """20,000 faces must mean 20,000 different ones."""
    budget = Budget(batch=7)
    seen = np.concatenate([batch_rows(step, 21, budget) for step in range(3)])
    assert sorted(seen) == list(range(21))


def test_the_rate_rises_and_falls_to_nothing() -> None:
    """One cycle."""
    rates = [rate_factor(step / 100, 0.1) for step in range(101)]
    assert max(rates) == pytest.approx(1, abs=0.01)
    assert rates[0] < 0.1
    assert rates[-1] == pytest.approx(0)


def test_ridge_regression_reads_a_thumbnail_exactly() -> None:
    """Shown to succeed: 16 pixels a cell of a linear picture come back from the cell and its neighbours."""
    own, victims = blobs(40, 3), blobs(5, 4)

    def folded(rgb: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
        cut = rgb.reshape(-1, 14, 8, 14, 8, 3).transpose(0, 2, 4, 5, 1, 3)
        return {"cells": cut.reshape(len(rgb), -1, 14, 14)[:, ::8].astype(np.int16)}

    learned = ridge.learn(folded(own), own, penalty=1e-6)
    assert psnr(learned.reconstruct(folded(victims)), victims).mean() > 30


def test_ridge_regression_brings_planes_of_other_grids_along() -> None:
    """Masks of 28, 14 and 7 cells belong to the same places."""
    fine = np.arange(4 * 4, dtype=np.float64).reshape(1, 1, 4, 4)
    folded = ridge._on_grid(fine, 2)
    assert (folded[0, :, 0, 0] == [0, 1, 4, 5]).all()
    coarse = fine[:, :, ::2, ::2]
    assert (ridge._on_grid(coarse, 4)[0, 0] == coarse[0, 0].repeat(2, axis=0).repeat(2, axis=1)).all()


def test_ridge_regression_refuses_a_grid_as_fine_as_the_picture() -> None:
    """The message says what to use instead."""
    with pytest.raises(ConfigError, match="linear solver or a decoder"):
        ridge.learn(plain(blobs(2, 1)), blobs(2, 1))


def one_cell(rgb: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
    """A message of one cell: the 7 x 7 thumbnail's numbers in a row, and a plane beside it that says nothing."""
    thumbnail = rgb[:, 8::16, 8::16].reshape(len(rgb), -1, 1, 1).astype(np.int16)
    return {"thumbnail": thumbnail, "quality": np.ones((len(rgb), 5, 1, 1), np.float32)}


def test_a_decoder_may_start_at_the_picture_of_ridge_regression() -> None:
    """Untrained, it shows what the regression makes of strangers' messages, to half a grey level."""
    own, victims = blobs(60, 3), blobs(5, 4)
    start = ridge_start(one_cell(own), own, mean_face(own))
    decoder = build_decoder(one_cell(own), DecoderSize(4, 1), mean_face(own), seed=1, start=start)
    expected = ridge.learn(dict(sorted(one_cell(own).items())), own).reconstruct(
        dict(sorted(one_cell(victims).items()))
    )
    made = reconstruct(decoder, one_cell(victims))
    assert np.abs(made - np.clip(expected, 0, 255)).max() < 0.51


def test_a_ridge_start_is_kept_and_found_again(tmp_path: Path) -> None:
    """The finished decoder is read back whole, start included."""
    own = blobs(40, 3)
    budget = replace(TINY, passes=1, start="ridge")
    trained = train_decoder(one_cell(own), own, budget, tmp_path, quiet, Machine())
    (tmp_path / "result.json").write_text('{"settings": {"view": "template"}}', encoding="utf-8")
    loaded, view = load_decoder(tmp_path)
    assert view == "template"
    assert (reconstruct(loaded, one_cell(own)) == reconstruct(trained, one_cell(own))).all()


def test_a_ridge_start_of_a_wide_message_is_refused(tmp_path: Path) -> None:
    """Its regression would have more features than a spy has patience for."""
    own = blobs(8, 3)
    with pytest.raises(ConfigError, match="use --start mean-face"):
        train_decoder(plain(own), own, replace(TINY, start="ridge"), tmp_path, quiet, Machine())
