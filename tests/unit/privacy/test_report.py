import json
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from privacy import cli
from privacy.commands import publish
from privacy.fit import Budget
from privacy.frontier import frontier, frontier_picture
from privacy.gallery_page import tiled
from privacy.judges import Interval
from privacy.messages import PlainDevice, message_of
from privacy.observation import observe
from privacy.people import Capture
from privacy.published_split import published_split
from privacy.record import Result, names_of, picture_metrics, sizes, write
from privacy.report import split_section, table, write_report
from privacy.threat_models import THREATS
from privacy.untrained import linear_attack
from tests.unit.privacy.conftest import blobs


def result(attack: str, metrics: dict[str, Interval | float]) -> dict[str, object]:
    """One published result of the published split."""
    named = names_of(published_split())
    return Result(attack, "linear", **named, seed=1, n=sizes(2, 2, 0), metrics=metrics).to_dict()


def test_the_page_shows_every_result_beside_published_figures(
    tmp_path: Path, portraits: dict[str, Path], models: Path
) -> None:
    """One command, one page; the pictures on it are of the portraits."""
    write(result("linear", {"ssim_means_known": Interval(0.991, 0.99, 0.992)}), tmp_path / "privacy-paper-linear.json")
    arguments = Namespace(
        split=["paper"],
        results=tmp_path,
        runs=[],
        portraits=portraits["biden"].parent,
        models=models,
        out=tmp_path / "page",
    )
    page = write_report(arguments, lambda _line: None).read_text(encoding="utf-8")
    assert "0.991 [0.990, 0.992]" in page
    assert "MinusFace CVPR24 Fig.6c" in page
    assert "data:image/png;base64," in page
    assert all(name in page for name in THREATS)
    assert json.loads((tmp_path / "page" / "report.json").read_text(encoding="utf-8"))["results"]
    assert cv2.imread(str(tmp_path / "page" / "portraits-paper.png")).std() > 10


def test_a_result_says_all_that_is_needed_to_repeat_it() -> None:
    """Date, commit, machine, seed, sample and split; no host name and no path."""
    found = result("linear", {})
    assert {"date", "commit", "machine", "seed", "n", "split_digest", "settings", "schema"} <= found.keys()
    assert "/" not in json.dumps(found)


def test_the_page_tells_what_each_attacker_might_spend() -> None:
    """A figure without its budget cannot be repeated; the budget stands once an attack, not once a figure."""
    settings = {**asdict(Budget(width=48, perceptual_weight=0.5)), "view": "message", "parameters": 7_812_345}
    found = result("decoder from message", {"ssim": 0.5, "psnr_db": 14.0}) | {"settings": settings}
    section = split_section("paper", [found])
    assert section.count("width 48") == 1
    assert "parameters 7,812,345" in section
    assert "perceptual weight 0.5" in section
    assert "adversarial" not in section
    assert section.count("<tr>") == 3
    averaged = result("average from message", {"ssim": 0.5}) | {"settings": {"view": "message", "of": ["plain", "w48"]}}
    assert "of plain + w48" in split_section("paper", [averaged])


def test_grown_attacks_are_published_beside_the_plain_one(tmp_path: Path) -> None:
    """A second budget does not overwrite the first one's figures."""
    plain = result("decoder from message", {"ssim": 0.5})
    budgets = (Budget(), Budget(width=48), Budget(start="ridge", passes=2, perceptual_weight=0.5))
    paths = [publish(plain | {"settings": asdict(budget)}, tmp_path).name for budget in budgets]
    beginning = "privacy-paper-decoder-from-message"
    assert paths == [f"{beginning}.json", f"{beginning}-w48.json", f"{beginning}-x2-ridge-p0.5.json"]


def test_a_split_without_results_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty table would look like nothing found."""
    assert cli.main(["report", "--split", "r7", "--results", str(tmp_path)]) == cli.BAD_INPUT
    assert "run attacks with --publish first" in capsys.readouterr().err


def test_a_missing_data_folder_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Most users do not have the research faces."""
    assert cli.main(["observe", "--split", "paper", "--data", str(tmp_path)]) == cli.BAD_INPUT
    assert str(tmp_path) in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["observe"], ["attack"], ["excess"], ["gate"], ["report"]])
def test_help_is_there(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The examples are in the first one."""
    with pytest.raises(SystemExit):
        cli.main([*command, "--help"])
    assert "python -m privacy" in capsys.readouterr().out


def test_the_frontier_needs_both_leak_and_cost() -> None:
    """A point without one of its axes is left out of the list of points."""
    cost = result("cost", {"accuracy_lost_points": 1.5, "message_bytes": 900.0})
    excess = result("excess", {"excess_ssim": Interval(0.04, 0.03, 0.05)})
    assert frontier([cost, excess]) == [
        {"split": "paper", "accuracy_lost_points": 1.5, "message_bytes": 900.0, "excess_ssim": 0.04}
    ]
    assert frontier([excess]) == []
    assert frontier([cost]) == []


def test_the_frontier_is_drawn_with_its_two_ends(tmp_path: Path) -> None:
    """A picture for the docs; it must not fail on one point, nor on one without a network on the device."""
    point = {"split": "a", "accuracy_lost_points": 1.5, "message_bytes": 900.0, "excess_ssim": 0.04}
    frontier_picture([{**point, "ssim_from_template": 0.46}], tmp_path / "frontier.png")
    shown = cv2.imread(str(tmp_path / "frontier.png"))
    assert shown is not None and shown.std() > 5


def test_cells_of_a_table_are_escaped() -> None:
    """A split's name is data."""
    assert "<script>" not in table(("name",), [("<script>",)])


def test_codes_are_shown_side_by_side() -> None:
    """What is on the wire of a split that is no picture."""
    codes = np.arange(4).reshape(4, 1, 1) * np.ones((4, 7, 7))
    shown = tiled(codes)
    assert shown.shape == (112, 112, 3)
    assert [int(shown[y, x, 0]) for y, x in ((0, 0), (0, 111), (111, 0), (111, 111))] == [0, 85, 170, 255]


def test_equal_pictures_do_not_break_the_mean() -> None:
    """Infinite decibels are written as a hundred."""
    pictures = blobs(3, 1)
    found: dict[str, Interval] = picture_metrics(pictures, pictures, ["a", "b", "c"], seed=1)
    assert found["psnr_db"].mean == 100.0


def test_the_linear_attack_reports_both_kinds_of_knowledge(
    captures: list[Capture], portrait_crops: NDArray[np.uint8]
) -> None:
    """Mean colour known and guessed, with the flat picture as the floor."""
    device = PlainDevice(published_split(2))
    observed = observe([message_of(capture, device) for capture in captures[:2]], device.spec)
    metrics = linear_attack(observed, portrait_crops[:2], ["a", "b"], seed=1).metrics
    known, guessed, flat = (
        metrics[name] for name in ("psnr_db_means_known", "psnr_db_means_guessed", "flat_colour_psnr_db")
    )
    assert isinstance(known, Interval)
    assert isinstance(guessed, Interval)
    assert isinstance(flat, Interval)
    assert known.mean > flat.mean
    assert known.mean > guessed.mean
