"""Verification sets in both forms, whole and damaged, and the command that reads them."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from duetface.errors import ConfigError
from duetface.manifest import models_root
from tests.unit.training.conftest import made_up_picture, write_zip
from training.__main__ import main
from training.evaluate import Evaluation, system_named, teacher_cosine
from training.pair_sets import read_bin, read_pair_set
from training.scores import score, verify


def coded(seed: int) -> bytes:
    """A lossless picture in a file's bytes."""
    return cv2.imencode(".png", made_up_picture(seed)[..., ::-1])[1].tobytes()


def write_bin(path: Path, pictures: object, same: object, protocol: int = 4) -> Path:
    """As InsightFace packs a set."""
    path.write_bytes(pickle.dumps((pictures, same), protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("arrays", [False, True])
def test_a_bin_gives_its_pictures_in_pairs(tmp_path: Path, protocol: int, arrays: bool) -> None:
    """Both forms that are about: plain bytes, and NumPy arrays of them with NumPy's flags."""
    pictures: list[object] = [np.frombuffer(coded(i), np.uint8) if arrays else coded(i) for i in range(24)]
    same = [np.bool_(i % 2 == 0) if arrays else i % 2 == 0 for i in range(12)]
    found = read_bin(write_bin(tmp_path / "lfw.bin", pictures, same, protocol))
    assert (found.name, found.pairs, found.missing, len(found.folds)) == ("lfw", 12, 0, 10)
    assert np.array_equal(found.crops["000003"], made_up_picture(3))
    assert [kind for fold in found.folds for *_, kind in fold] == [i % 2 == 0 for i in range(12)]


def test_a_broken_picture_of_a_bin_is_counted(tmp_path: Path) -> None:
    """Silently fewer pairs would be another benchmark under the same name."""
    pictures = [coded(i) for i in range(24)]
    pictures[5] = b"no picture"
    found = read_pair_set(write_bin(tmp_path / "x.bin", pictures, [True] * 12))
    assert (found.pairs, found.missing) == (11, 1)


class Harm:
    """A pickle that would run a command."""

    def __reduce__(self) -> tuple[object, ...]:
        """What pickle calls when it is read."""
        return print, ("harm",)


@pytest.mark.parametrize(
    ("pictures", "same", "message"),
    [
        ([Harm()] * 20, [True] * 10, "asks for builtins.print"),
        ([b"x"] * 19, [True] * 10, "19 pictures for 10 pairs, expected two a pair"),
        ([b"x"] * 20, [True] * 10, "0 pairs of readable 112 x 112 pictures"),
        (5, [True], "not one of InsightFace's verification sets"),
        ([np.array([None], object)] * 2, [True], "it holds an array of object"),
    ],
)
def test_a_bin_that_is_none_is_refused(
    tmp_path: Path, pictures: object, same: object, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pickle from the net may call any function; this reader calls none of them."""
    with pytest.raises(ConfigError, match=message):
        read_bin(write_bin(tmp_path / "x.bin", pictures, same))
    assert "harm" not in capsys.readouterr().out


def test_a_damaged_bin_and_a_wrong_folder_are_named(tmp_path: Path) -> None:
    """One line that says what to name instead."""
    (tmp_path / "x.bin").write_bytes(b"\x80\x04junk")
    with pytest.raises(ConfigError, match="not one of InsightFace's verification sets"):
        read_pair_set(tmp_path / "x.bin")
    with pytest.raises(ConfigError, match=r"absent\.bin cannot be read"):
        read_pair_set(tmp_path / "absent.bin")
    with pytest.raises(ConfigError, match=r"pairs\.txt is missing"):
        read_pair_set(tmp_path)


def test_pairs_without_their_picture_are_counted_and_a_foreign_list_refused(tmp_path: Path) -> None:
    """A list of other people's pictures must not score an empty set."""
    write_zip(tmp_path / "aligned_112.zip", {"A_0001": made_up_picture(1), "A_0002": made_up_picture(2)})
    (tmp_path / "pairs.txt").write_text("1\t1\nA\t1\t2\nA\t1\tB\t3\n")
    assert read_pair_set(tmp_path).missing == 1
    (tmp_path / "pairs.txt").write_text("1\t1\nC\t1\t2\nC\t1\tB\t3\n")
    with pytest.raises(ConfigError, match="do not belong together"):
        read_pair_set(tmp_path)
    (tmp_path / "pairs.txt").write_text("no numbers\n")
    with pytest.raises(ConfigError, match="not a set in LFW's form"):
        read_pair_set(tmp_path)


def test_a_split_that_is_not_published_says_what_to_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The twin is never shipped: its figures come from a run's weights."""
    write_bin(tmp_path / "x.bin", [coded(i) for i in range(24)], [True, False] * 6)
    assert main(["evaluate", "--pairs", str(tmp_path / "x.bin"), "--spec", "twin"]) == 2
    assert "name a run's final.pt instead" in capsys.readouterr().err
    (tmp_path / "junk.pt").write_bytes(b"junk")
    assert main(["evaluate", "--pairs", str(tmp_path / "x.bin"), "--torch", str(tmp_path / "junk.pt")]) == 2
    assert "holds no weights of a run" in capsys.readouterr().err


def test_the_command_prints_scores_a_gap_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole way: file, device, wire, service, JSON, plot. A system has no gap to itself."""
    write_bin(tmp_path / "x.bin", [coded(i // 2 if i % 4 < 2 else i) for i in range(40)], [True, False] * 10)
    plot = tmp_path / "det.png"
    arguments = ["--pairs", str(tmp_path / "x.bin"), "--against", "l1", "--spec", "l1", "--plot", str(plot), "--json"]
    assert main(["evaluate", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pairs"] == 20 and found["path"].startswith("production") and found["bytes_per_face"]["mean"] == 256
    assert found["accuracy"]["mean"] > 0.5 and found["gap"]["points"] == 0
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_space_can_be_named() -> None:
    """And one of another split is refused."""
    assert system_named("r1", "r1-1-int8", models_root(), 1).label == "production, space r1-1-int8"
    assert main(["evaluate", "--pairs", "x.bin", "--spec", "r1", "--space", "none"]) == 2


def test_a_system_that_answers_as_the_teacher_does_has_cosine_one(tmp_path: Path) -> None:
    """And one that answers the opposite has minus one: by picture, in the set's order."""
    pairs = read_pair_set(write_bin(tmp_path / "x.bin", [coded(i) for i in range(24)], [True, False] * 6))

    def teacher(crops: np.ndarray) -> np.ndarray:
        flat = crops.reshape(len(crops), -1)[:, :512].astype(np.float32)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    embeddings = teacher(np.stack(list(pairs.crops.values())))
    verified = verify(dict(zip(pairs.crops, embeddings, strict=True)), pairs.folds)
    same = Evaluation(score(verified, np.ones(len(embeddings), np.int64), "same"), verified, embeddings)
    assert teacher_cosine(pairs, same, teacher) == pytest.approx(1)
    assert teacher_cosine(pairs, replace(same, embeddings=-embeddings), teacher) == pytest.approx(-1)
