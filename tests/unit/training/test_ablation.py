"""The table's command: rows resume, gaps are to the twin, costs come from exported files."""

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
from torch import nn

from duetface.errors import ConfigError
from duetface.manifest import models_root
from networks.registry import split_named
from tests.unit.training.conftest import made_up_picture
from training.ablation import ROWS, Folders, chosen, run_row, table
from training.config import FitConfig
from training.cost import measure
from training.pair_sets import PairSet, read_bin
from training.progress import Progress
from training.student import Student


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> PairSet:
    """Ten pairs of made-up pictures."""
    path = tmp_path_factory.mktemp("pairs") / "x.bin"
    coded = [cv2.imencode(".png", made_up_picture(i // 2 if i % 4 < 2 else i))[1].tobytes() for i in range(20)]
    path.write_bytes(pickle.dumps((coded, [i % 2 == 0 for i in range(10)])))
    return read_bin(path)


class NothingToLearn(nn.Module):
    """An objective without a head."""

    head = None


def untrained(config: FitConfig, run: Path, runs: list[str]) -> None:
    """In the place of hours: saves the networks as they begin."""
    runs.append(run.name)
    student = Student(config.split, None)
    run.mkdir(parents=True)
    Progress.of(config, student, NothingToLearn(), run).save(run / "final.pt")  # type: ignore[arg-type]


def test_a_row_is_trained_once_and_gets_its_figures(pairs: PairSet, tmp_path: Path) -> None:
    """Stopped and started again, nothing is computed twice; a row without training uses another one's weights."""
    runs: list[str] = []
    rows, folders = chosen(["twin", "steps-2"]), Folders(tmp_path / "runs", tmp_path / "figures")
    assert [row.name for row in rows] == ["twin", "r1", "steps-2"]
    for _ in range(2):
        for row in rows:
            run_row(row, folders, pairs, models_root(), 64, lambda config, run: untrained(config, run, runs))
    assert runs == ["twin", "r1"]
    text = table(chosen(()), folders, pairs, time_it=False)
    assert [line.split("`")[1] for line in text.splitlines()[2:]] == ["twin", "r1", "steps-2"]
    fine, coarse = (json.loads(folders.row(row).read_text()) for row in rows[1:])
    assert set(fine["gap"]) == {"twin"} and set(coarse["gap"]) == {"twin", "r1"}
    assert all(gap["low"] <= gap["points"] <= gap["high"] for gap in coarse["gap"].values())
    assert coarse["bytes_per_face"]["mean"] < fine["bytes_per_face"]["mean"]
    shutil.rmtree(folders.runs)  # another machine, which has the figures alone
    assert table(chosen(()), folders, pairs, time_it=False) == text


def test_figures_of_another_budget_or_set_are_refused(pairs: PairSet, tmp_path: Path) -> None:
    """Rows of different budgets in one table would compare nothing."""
    (row,) = chosen(["twin"])
    runs: list[str] = []
    folders = Folders(tmp_path, tmp_path)
    run_row(row, folders, pairs, models_root(), 64, lambda config, run: untrained(config, run, runs))
    with pytest.raises(ConfigError, match="is of faces 64, not 128: choose another --figures"):
        run_row(row, folders, pairs, models_root(), 128, lambda config, run: untrained(config, run, runs))
    with pytest.raises(ConfigError, match="is of set x, not y: choose another --figures"):
        run_row(
            row, folders, replace(pairs, name="y"), models_root(), 64, lambda config, run: untrained(config, run, runs)
        )


def test_gaps_need_the_twin_and_rows_have_names(pairs: PairSet, tmp_path: Path) -> None:
    """Each gap is to the twin; a typing error must not run everything."""
    with pytest.raises(ConfigError, match="no row 'twin', to which every gap is: run that too"):
        table(ROWS, Folders(tmp_path, tmp_path), pairs)
    with pytest.raises(ConfigError, match=r"unknown rows \['r9'\]"):
        chosen(["r9"])


def test_the_device_is_timed_with_all_that_it_does() -> None:
    """Transform, network, rounding and coding; an unprotected twin has no network to count."""
    cost = measure(split_named("r1"), Student("r1", None).eval())
    assert cost.client_ms > 0 and cost.server_ms > 0
    assert cost.client_macs < cost.server_macs / 3
    assert measure(split_named("twin"), Student("twin", None).eval(), time_it=False).client_macs == 0
