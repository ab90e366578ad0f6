"""What people see must say what is wrong, and must not leave pictures lying about."""

import io
import json
import stat
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from rich.console import Console

from duetface.errors import ConfigError
from duetface.manifest import ModelCatalogue, load_split, models_root
from duetface.types import Outcome
from edge_agent.pipeline import Protector
from edge_agent.preview import WIDEST_PX, PreviewFile, Window, draw
from edge_agent.quality import RetryReason
from edge_agent.report import JsonLines, StatusLine
from edge_agent.sources import Frame, read_picture
from edge_agent.way_of_a_face import draw_way_of_a_face, stays_and_goes


def test_box_and_words_are_drawn_into_a_copy(pictures, faces) -> None:
    """The frame itself goes on to be encoded."""
    before = pictures["obama3"].copy()
    drawn = draw(pictures["obama3"], faces["obama3"], "The face is too dark: more light - größer", Outcome.RETRY)
    assert np.array_equal(pictures["obama3"], before)
    assert drawn.shape[1] == WIDEST_PX
    assert (drawn == (240, 190, 50)).all(axis=2).sum() > 500


@pytest.mark.parametrize("shape", [(1, 1, 3), (40, 3, 3), (3, 2000, 3)])
def test_pictures_of_odd_shape_can_be_drawn(shape: tuple[int, int, int]) -> None:
    """A preview must never end the agent."""
    assert draw(np.zeros(shape, np.uint8), None, "", None).size


def test_a_preview_file_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    """It is the one file with a face that the agent writes."""
    path = tmp_path / "preview.jpg"
    preview = PreviewFile(path)
    assert preview.show(np.full((20, 30, 3), (250, 10, 10), np.uint8))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_picture(path).reshape(-1, 3).mean(axis=0)[0] > 200
    assert list(tmp_path.iterdir()) == [path]
    preview.close()
    assert not path.exists()


def test_a_preview_file_is_written_twice_a_second(tmp_path: Path) -> None:
    """An SD card has its limits."""
    now = [0.0]
    preview = PreviewFile(tmp_path / "p.jpg", monotonic_s=lambda: now[0])
    preview.show(np.zeros((8, 8, 3), np.uint8))
    first = (tmp_path / "p.jpg").read_bytes()
    now[0] = 0.4
    preview.show(np.full((8, 8, 3), 255, np.uint8))
    assert (tmp_path / "p.jpg").read_bytes() == first
    now[0] = 0.6
    preview.show(np.full((8, 8, 3), 255, np.uint8))
    assert (tmp_path / "p.jpg").read_bytes() != first


def test_a_preview_into_nowhere_is_refused_at_start(tmp_path: Path) -> None:
    """Not at the first frame."""
    with pytest.raises(ConfigError, match="there is no folder"):
        PreviewFile(tmp_path / "no" / "p.jpg")


def test_without_a_terminal_there_is_no_status_line_but_there_are_notes() -> None:
    """Logs of a service manager hold no control characters."""
    output = io.StringIO()
    with StatusLine(Console(file=output, force_terminal=False)) as status:
        status.update("on-line", "10 frames/s")
        status.note("off-line, no decisions: [red]no service[/red] answers")
        status.note("off-line, no decisions: [red]no service[/red] answers")
    assert output.getvalue() == "off-line, no decisions: [red]no service[/red] answers\n"


def test_decisions_go_to_standard_output_though_a_status_line_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """A program reads the one, a person the other."""
    terminal = io.StringIO()
    with StatusLine(Console(file=terminal, force_terminal=True, width=60)) as status:
        status.update("on-line", "10 frames/s", "x" * 100)
        lines = JsonLines(around=status.aside)
        lines.refused(RetryReason.BLURRED, Frame(np.zeros((1, 1, 3), np.uint8), 0, 0, 4, "camera 0"))
        status.update("on-line")
    assert json.loads(capsys.readouterr().out)["reason"] == "blurred"
    assert "blurred" not in terminal.getvalue()
    assert "on-line" in terminal.getvalue()


def test_a_window_without_a_display_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line; most devices have none."""
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(ConfigError, match="--preview FILE"):
        Window("DuetFace")


def test_what_stays_and_what_goes_are_the_crop_again(models: Path, pictures) -> None:
    """Halves of one transform: added, they differ from the crop by the rounding of the codes only."""
    outcome = Protector.load(models, ("r1",)).protect(pictures["obama"])
    assert outcome.probe is not None
    assert outcome.face is not None
    spec = load_split(ModelCatalogue(models).split_folder("r1"))
    crop = outcome.face.aligned.rgb_u8_hwc
    stays, goes = (half.astype(np.float64) - 128.0 for half in stays_and_goes(crop, outcome.probe.faces[0], spec))
    error = np.abs(np.clip(stays + goes + 128.0, 0, 255) - crop)
    assert error.mean() < 5.0
    assert goes.std() < stays.std()  # what is sent holds the lesser part of the picture


@pytest.mark.parametrize("split", [path.name for path in sorted((models_root() / "splits").iterdir())])
def test_the_way_of_a_face_is_one_picture(split: str, models: Path, pictures, tmp_path: Path) -> None:
    """For the demonstration and for docs, whatever family the split is of."""
    outcome = Protector.load(models, (split,)).protect(pictures["biden"])
    path = tmp_path / "way.png"
    spec = load_split(ModelCatalogue(models).split_folder(split))
    draw_way_of_a_face(pictures["biden"], outcome, spec, "reject: no match", path)
    assert matplotlib.image.imread(path).shape[1] > 800


def test_a_way_that_cannot_be_written_is_one_line(models: Path, protector: Protector, pictures, tmp_path: Path) -> None:
    """Wrong folder, wrong suffix."""
    outcome = protector.protect(pictures["biden"])
    spec = ModelCatalogue(models).default_split()
    for path in (tmp_path / "no" / "way.png", tmp_path / "way.xyz"):
        with pytest.raises(ConfigError, match="cannot be written"):
            draw_way_of_a_face(pictures["biden"], outcome, spec, "", path)
    with pytest.raises(ValueError, match="no probe"):
        draw_way_of_a_face(pictures["biden"], protector.protect(np.zeros((9, 9, 3), np.uint8)), spec, "", path)
