"""Every command once, on a small made-up world: 64 attacker's faces, 40 victims with two pictures each."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gallery.calibration import Calibration
from networks.registry import SPLITS
from privacy import cli
from privacy.pack import Group, Pack, write_pack
from privacy.rebuild import LinearLayer
from privacy.scene import Cast, Places, pack_path
from privacy.trained import load_pictures
from privacy.untrained import GuessingPlan, guessing_attack, rebuild_attack
from tests.unit.privacy.conftest import blobs
from tests.unit.privacy.test_linkage import SPLIT, Projection

FACES, PEOPLE = 64, 40
COMMON = ["--split", "twin", "--faces", str(FACES)]
TINY = ["--passes", "1", "--batch", "16", "--width", "4", "--blocks", "1", "--ssim-weight", "0"]


def group(names: tuple[str, ...], rgb: NDArray[np.uint8], seed: int) -> Group:
    """What the twin's messages of these pictures say."""
    random = np.random.default_rng(seed)
    people = random.normal(size=(len(names), 512))
    people[1::2] = people[::2] + 0.5 * people[1::2]  # two pictures of each person are alike
    unit = (people / np.linalg.norm(people, axis=1, keepdims=True)).astype(np.float32)
    codes = {"rgb": np.ascontiguousarray(rgb.transpose(0, 3, 1, 2))}
    return Group(names, codes, np.ones((len(names), 5), np.float32), unit, unit, np.full(len(names), 30_000))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, models: Path) -> list[str]:
    """A pack where the commands look for it, and the attacker's crops; returns the options that say so."""
    folder = tmp_path_factory.mktemp("privacy")
    own, theirs = blobs(FACES, 1), blobs(2 * PEOPLE, 2)
    np.save(folder / "crops.npy", own)
    victims = tuple(f"P{i // 2}_{i % 2:04d}" for i in range(2 * PEOPLE))
    pairs = [(f"P{i}_0000", f"P{i}_0001", True) for i in range(PEOPLE)]
    pairs += [(f"P{i}_0000", f"P{(i + 1) % PEOPLE}_0001", False) for i in range(PEOPLE)]
    names = tuple(f"{i:06d}" for i in range(FACES))
    meta = {"split": "twin", "split_digest": SPLITS["twin"].digest.hex(), "space_digest": "", "seed": 1}
    places = Places(folder, folder, folder / "cache", models)
    pack = Pack(group(names, own, 1), group(victims, theirs, 2), theirs, tuple(pairs), meta)
    write_pack(pack, pack_path(places, SPLITS["twin"], Cast(FACES, None, 1)))
    return ["--data", str(folder), "--crops", str(folder), "--cache", str(folder / "cache"), "--models", str(models)]


def test_a_verdict_from_pack_to_published_excess(
    world: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Message against template, same budget: the twin's message is the picture, so its excess must be far above 0."""
    runs = {view: tmp_path / view for view in ("message", "template")}
    for view, run in runs.items():
        passes = ["--view", view, "--run", str(run), *TINY, "--passes", "6"]
        assert cli.main(["attack", "decoder", *COMMON, *world, *passes]) == 0
    capsys.readouterr()
    sides = ["--message", str(runs["message"]), "--template", str(runs["template"]), "--publish", str(tmp_path)]
    assert cli.main(["excess", *COMMON, *world, *sides]) == 0
    found = json.loads((tmp_path / "privacy-twin-excess.json").read_text(encoding="utf-8"))
    assert found == json.loads(capsys.readouterr().out)
    assert found["metrics"]["excess_psnr_db"]["low"] > 0.5
    names = {view: [f"decoder from {view} w4-b1-x6-n16-s0"] for view in ("message", "template")}
    assert found["attacks"] == names


def test_sides_of_different_budgets_are_refused(
    world: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command, too, does not compare a long attack with a short one."""
    for view, passes in (("message", "0.5"), ("template", "0.25")):
        run = ["--view", view, "--run", str(tmp_path / view), *TINY, "--passes", passes]
        assert cli.main(["attack", "decoder", *COMMON, *world, *run]) == 0
    sides = ["--message", str(tmp_path / "message"), "--template", str(tmp_path / "template")]
    assert cli.main(["excess", *COMMON, *world, *sides]) == cli.BAD_INPUT
    assert "no attack of the other side has its budget" in capsys.readouterr().err


def test_stolen_galleries_are_attacked_and_the_figures_published(world: list[str], tmp_path: Path) -> None:
    """One key links, two keys do not; the file says with how many comparisons."""
    assert cli.main(["attack", "templates", *COMMON, *world, "--publish", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "privacy-twin-templates.json").read_text(encoding="utf-8"))
    assert found["metrics"]["d_sys_one_key"] > 0.9
    assert found["n"]["non_mated_comparisons"] == PEOPLE * (PEOPLE - 1)


def test_linkage_runs_from_the_pack(world: list[str], tmp_path: Path) -> None:
    """The student's accuracy stands beside that of the stored template."""
    run = ["--run", str(tmp_path), *TINY]
    assert cli.main(["attack", "linkage", *COMMON, *world, *run]) == 0
    found = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert {"verification_accuracy", "stored_template_accuracy"} <= found["metrics"].keys()


def test_masks_of_a_split_without_masks_are_refused(world: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """No attack that sees nothing."""
    assert cli.main(["attack", "decoder", *COMMON, *world, "--view", "masks", *TINY]) == cli.BAD_INPUT
    assert "is empty" in capsys.readouterr().err


def test_a_split_that_is_not_learned_is_not_rebuilt(world: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Its server network is no linear layer: one line, not a figure."""
    assert cli.main(["attack", "rebuild", *COMMON, *world]) == cli.BAD_INPUT
    assert "no template space" in capsys.readouterr().err


def test_rebuilding_counts_what_was_found_again() -> None:
    """All of it by the layer that made the templates, next to nothing by another."""
    random = np.random.default_rng(1)
    sent = np.clip(np.rint(random.normal(size=(20, 512)) / 0.4), -7, 7).astype(np.int8)
    unit = (sent / np.linalg.norm(sent, axis=1, keepdims=True)).astype(np.float32)
    names = tuple(f"P{i // 2}_{i % 2:04d}" for i in range(20))
    quality = np.ones((20, 5), np.float32)
    members = Group(names, {"codes": sent[:, :, None, None]}, quality, unit, unit, np.full(20, 256))
    pack = Pack(members, members, blobs(20, 1), (), {})
    shares = {}
    for name, weight in (("right", np.eye(512)), ("wrong", np.roll(np.eye(512), 1, axis=0))):
        found = rebuild_attack(pack, SPLITS["l1"], LinearLayer(weight, np.zeros(512)), seed=1).metrics
        shares[name] = found["codes_rebuilt_share"], found["messages_rebuilt_share"]
    assert [figure.mean for figure in shares["right"]] == [1, 1]
    assert shares["wrong"][0].mean < 0.5
    assert shares["wrong"][1].mean == 0


def test_guessing_reports_chance_beside_what_was_found() -> None:
    """10,000 queries at FMR 1e-3 would break everybody by chance alone: the reader must see that."""
    random = np.random.default_rng(5)
    vectors = random.normal(size=(20, 16))
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    codes = {"codes": random.integers(-7, 8, (20, 4, 7, 7)).astype(np.int8)}
    names = tuple(f"P{i // 2}_{i % 2:04d}" for i in range(20))
    members = Group(names, codes, np.ones((20, 5), np.float32), unit, unit, np.full(20, 200))
    pairs = tuple((f"P{i}_0000", f"P{i}_0001", True) for i in range(10))
    pack = Pack(members, members, blobs(20, 1), pairs, {"split": SPLIT.name, "split_digest": ""})
    calibration = Calibration(1000, 50, tuple(np.linspace(0.3, 0.9, 50)), (0.95,), "made up")
    plan = GuessingPlan(queries=100, victims=10, fmr=0.01, seed=1, climb_queries=20)
    metrics = guessing_attack(pack, SPLIT, Projection(), calibration, plan, lambda _line: None).metrics
    assert metrics["victims_broken_share_expected_of_chance"] == pytest.approx(1 - 0.99**100)
    assert metrics["threshold"] == calibration.threshold_at(0.01)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--faces", "0", "got '0', expected a whole number from 1"),
        ("--width", "wide", "got 'wide', expected a whole number from 1"),
        ("--passes", "0", "got '0', expected a number above 0"),
        ("--passes", "inf", "got 'inf', expected a number above 0"),
        ("--perceptual-weight", "-1", "got '-1', expected a number from 0"),
        ("--ssim-weight", "nan", "got 'nan', expected a number from 0"),
        ("--fmr", "1", "got '1', expected a rate between 0 and 1"),
        ("--seed", "-3", "got '-3', expected a whole number from 0"),
        ("--view", "picture", "invalid choice: 'picture'"),
    ],
)
def test_a_number_out_of_its_range_is_one_clear_line(
    option: str, value: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is read."""
    with pytest.raises(SystemExit) as refusal:
        cli.main(["attack", "decoder", *COMMON, f"{option}={value}"])
    assert refusal.value.code == cli.BAD_INPUT
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_ridge_regression_on_a_grid_too_fine_for_it_is_refused(
    world: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The line says which attacks to use instead."""
    assert cli.main(["attack", "ridge", *COMMON, *world]) == cli.BAD_INPUT
    assert "use the linear solver or a decoder" in capsys.readouterr().err


def test_ridge_regression_runs_from_the_pack(world: list[str], tmp_path: Path) -> None:
    """From a template, whose one cell has no neighbours."""
    assert cli.main(["attack", "ridge", *COMMON, *world, "--view", "template", "--publish", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "privacy-twin-ridge-from-template.json").read_text(encoding="utf-8"))
    assert found["n"]["attacker_faces"] == FACES
    assert found["metrics"]["psnr_db"]["mean"] > 5


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_is_one_clear_line(world: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Not torch's traceback."""
    assert cli.main(["attack", "decoder", *COMMON, *world, *TINY, "--device", "cuda"]) == cli.BAD_INPUT
    assert "no CUDA device" in capsys.readouterr().err


def test_an_average_of_two_attacks_is_one_more_attack(
    world: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two starts of one small decoder err differently; the average counts as an attack of its own."""
    runs = [tmp_path / "mean", tmp_path / "ridge"]
    for run, start in zip(runs, ("mean-face", "ridge"), strict=True):
        options = ["--view", "template", "--run", str(run), *TINY, "--start", start]
        assert cli.main(["attack", "decoder", *COMMON, *world, *options]) == 0
    of = ["--of", *map(str, runs), "--run", str(tmp_path / "both"), "--publish", str(tmp_path)]
    capsys.readouterr()
    assert cli.main(["average", *COMMON, *world, *of]) == 0
    found = json.loads((tmp_path / "privacy-twin-average-from-template.json").read_text(encoding="utf-8"))
    assert found == json.loads(capsys.readouterr().out) == json.loads((tmp_path / "both" / "result.json").read_text())
    first, second, both_made = (load_pictures(run)[0].astype(np.float64) for run in (*runs, tmp_path / "both"))
    assert not (first == second).all()
    assert np.abs(both_made - (first + second) / 2).max() <= 0.5
    assert found["settings"]["of"] == ["w4-b1-x1-n16-ridge-s0", "w4-b1-x1-n16-s0"]
    both = ["--message", str(tmp_path / "both"), "--template", str(tmp_path / "both")]
    assert cli.main(["excess", *COMMON, *world, *both]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["excess_ssim"]["mean"] == 0


def test_an_average_of_different_views_is_refused(
    world: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Message and template are what is compared: they are not mixed. Nor is one run an average."""
    for view in ("message", "template"):
        options = ["--view", view, "--run", str(tmp_path / view), *TINY, "--passes", "0.25"]
        assert cli.main(["attack", "decoder", *COMMON, *world, *options]) == 0
    of = ["--of", str(tmp_path / "message"), str(tmp_path / "template"), "--run", str(tmp_path / "both")]
    assert cli.main(["average", *COMMON, *world, *of]) == cli.BAD_INPUT
    assert "view template, expected message" in capsys.readouterr().err
    alone = ["--of", str(tmp_path / "message"), "--run", str(tmp_path / "both")]
    assert cli.main(["average", *COMMON, *world, *alone]) == cli.BAD_INPUT
    assert "two finished runs or more" in capsys.readouterr().err
    absent = ["--of", str(tmp_path / "message"), str(tmp_path / "none"), "--run", str(tmp_path / "both")]
    assert cli.main(["average", *COMMON, *world, *absent]) == cli.BAD_INPUT
    assert "has not finished" in capsys.readouterr().err
