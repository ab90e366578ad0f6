"""Folders and tar shards become the cache; what is broken is counted or named, never silent."""

import io
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from duetface.errors import ConfigError
from tests.unit.training.conftest import made_up_picture
from training import datasets
from training.ingest import ingest


def coded(seed: int, size: int = 112) -> bytes:
    """A lossless picture in a file's bytes."""
    picture = cv2.resize(made_up_picture(seed), (size, size)) if size != 112 else made_up_picture(seed)
    return cv2.imencode(".png", picture[..., ::-1])[1].tobytes()


def write_shard(path: Path, members: dict[str, bytes]) -> None:
    """A tar with these members in this order."""
    with tarfile.open(path, "w") as shard:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            shard.addfile(entry, io.BytesIO(content))


def prepared(root: Path, cache: Path) -> datasets.Faces:
    """The cache of a folder with a teacher that answers one direction."""
    datasets.prepare(
        root,
        cache,
        lambda crops: np.eye(512, dtype=np.float32)[: len(crops)],
        lambda crop: np.ones((112, 112), np.uint8),
    )
    return datasets.load(root, cache)


def test_a_folder_a_person_becomes_a_training_set(tmp_path: Path) -> None:
    """Identity is the folder; a picture beside the folders is kept without one, and that is said."""
    root = tmp_path / "set"
    for name in ("ann/1.png", "ann/2.png", "bob/1.PNG", "3.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(coded(len(name)))
    faces = prepared(root, tmp_path / "cache")
    assert faces.identity.tolist() == [-1, 0, 0, 1]
    assert np.array_equal(faces.crops[1], made_up_picture(len("ann/1.png")))
    assert set(faces.source) == {"set"} and len(faces.digest) == 64
    assert json.loads((tmp_path / "cache" / "skipped.json").read_text()) == {"kept without a person": 1}


def test_tar_shards_become_a_training_set(tmp_path: Path) -> None:
    """WebDataset's layout over several shards, labels as .cls or .json; one label is one person in all of them."""
    root = tmp_path / "shards"
    root.mkdir()
    write_shard(root / "a-0.tar", {"x/01.png": coded(1), "x/01.cls": b"17", "x/02.cls": b"5", "x/02.png": coded(2)})
    write_shard(root / "a-1.tar", {"03.json": b'{"identity": 17}', "03.png": coded(3), "04.png": coded(4)})
    faces = prepared(root, tmp_path / "cache")
    assert faces.identity.tolist() == [0, 1, 0, -1]
    assert [np.array_equal(faces.crops[i], made_up_picture(i + 1)) for i in range(4)] == [True] * 4


def test_broken_pictures_are_counted_and_rows_do_not_shift(tmp_path: Path) -> None:
    """Three kinds of damage in one shard: what is left stands in its own row with its own label."""
    root = tmp_path / "shards"
    root.mkdir()
    members = {
        "1.png": b"damaged", "1.cls": b"1", "2.png": coded(2, size=96), "2.cls": b"2", "3.cls": b"3",
        "4.png": coded(4), "4.cls": b"4",
    }  # fmt: skip
    write_shard(root / "a.tar", members)
    left_out = ingest(root, tmp_path / "cache")
    assert left_out == {"not a picture": 1, "not 112 x 112: align it first": 1, "a sample without a picture": 1}
    faces = prepared(root, tmp_path / "cache")
    assert len(faces.identity) == 1 and np.array_equal(faces.crops[0], made_up_picture(4))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("1.cls", b"seventeen", r"a/1: its label cannot be read .* \.cls is a number"),
        ("1.json", b"[1, 2", r"a/1: its label cannot be read"),
    ],
)
def test_a_label_that_is_none_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """Taking it for an unknown person would train on a set without labels and say nothing."""
    write_shard(tmp_path / "a.tar", {"1.png": coded(1), name: content})
    with pytest.raises(ConfigError, match=message):
        ingest(tmp_path, tmp_path / "cache")


def test_a_damaged_shard_an_empty_folder_and_a_poor_table_are_named(tmp_path: Path) -> None:
    """One line each, with what is missing."""
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(ConfigError, match=r"a\.tar is no tar file, or a damaged one"):
        ingest(tmp_path / "bad", tmp_path / "cache")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no pictures"):
        ingest(tmp_path / "empty", tmp_path / "cache")
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "a.png").write_bytes(b"no")
    with pytest.raises(ConfigError, match=r"no usable picture; left out: {'not a picture': 1}"):
        ingest(tmp_path / "all", tmp_path / "cache")
    (tmp_path / "all" / "faces.csv").write_text("name,set\nx,y\n")
    with pytest.raises(ConfigError, match=r"lacks the columns \['cover', 'identity'\]"):
        prepared(tmp_path / "all", tmp_path / "cache")


def test_another_teacher_has_embeddings_of_its_own(tmp_path: Path) -> None:
    """Two teachers in one cache must not be mixed up; the second call computes nothing."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(coded(1))
    prepared(tmp_path, tmp_path / "cache")
    (tmp_path / "other.onnx").write_bytes(b"another")
    calls: list[int] = []

    def embed(crops: np.ndarray) -> np.ndarray:
        calls.append(len(crops))
        return np.full((len(crops), 512), 512**-0.5, np.float32)

    names = {datasets.embeddings_of(tmp_path / "other.onnx", tmp_path / "cache", embed) for _ in range(2)}
    assert calls == [1] and names != {"teacher.npy"}
    assert datasets.load(tmp_path, tmp_path / "cache", names.pop()).teacher[0, 0] == pytest.approx(512**-0.5)
