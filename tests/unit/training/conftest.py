"""A tiny data set of made-up pictures, laid out like the real one."""

import csv
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from training import datasets

PEOPLE = 6
FACES = 18


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tests share two cores with whatever else runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made_up_picture(seed: int) -> np.ndarray:
    """(112, 112, 3) uint8 of soft blobs: nobody."""
    random = np.random.default_rng(seed)
    return cv2.resize(random.integers(0, 256, (14, 14, 3)).astype(np.uint8), (112, 112), interpolation=cv2.INTER_CUBIC)


def write_zip(path: Path, pictures: dict[str, np.ndarray]) -> None:
    """Pictures by stem as a stored zip of lossless WebP."""
    with zipfile.ZipFile(path, "w") as archive:
        for stem, rgb in pictures.items():
            _, coded = cv2.imencode(".webp", rgb[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 101])
            archive.writestr(f"{stem}.webp", coded.tobytes())


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards whose names interleave, as the real ones do."""
    folder = tmp_path_factory.mktemp("data")
    pictures = {f"{i:06d}": made_up_picture(i) for i in range(FACES)}
    for shard in (0, 1):
        write_zip(folder / f"faces-0{shard}.zip", {n: p for n, p in pictures.items() if int(n) % 2 == shard})
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["name", "set", "identity", "cover", "sharpness", "eye_distance_px"])
    for i, name in enumerate(pictures):
        writer.writerow([name, "made-up", i % PEOPLE if i % 5 else "", 1.0 if i % 3 else 0.5, 100, 40])
    (folder / "faces.csv").write_text(table.getvalue())
    return folder


@pytest.fixture(scope="session")
def faces(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> datasets.Faces:
    """The tiny set, cached with a random projection as the teacher and the middle as the face."""
    projection = np.random.default_rng(0).normal(size=(14 * 14 * 3, 512)).astype(np.float32)

    def embed(crops: np.ndarray) -> np.ndarray:
        small = np.asarray(crops)[:, 4::8, 4::8].reshape(len(crops), -1).astype(np.float32) - 128
        embedding = small @ projection
        return embedding / np.linalg.norm(embedding, axis=1, keepdims=True)

    def region(_crop: np.ndarray) -> np.ndarray:
        inside = np.zeros((112, 112), np.uint8)
        inside[16:96, 24:88] = 1
        return inside

    cache = tmp_path_factory.mktemp("cache")
    datasets.prepare(data_folder, cache, embed, region)
    return datasets.load(data_folder, cache)
