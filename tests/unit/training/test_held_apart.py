"""Nobody is both trained on and measured: the teacher finds no training face in the benchmark."""

from pathlib import Path

import numpy as np
import pytest

from training.datasets import read_pairs
from training.teacher import TeacherEmbedder

SAMPLE = 150  # benchmark pictures, spread over all people; each is compared with every training face
ONE_PERSON = 0.40  # teacher cosine: the same person has .60 in the mean, different people .01


@pytest.mark.shared_data
def test_no_training_face_is_of_a_person_of_the_benchmark(shared_data: Path) -> None:
    """A network measured on people that it has seen looks better than it is."""
    cached = Path(__file__).parents[3] / ".cache" / "train" / "teacher.npy"
    if not cached.exists():
        pytest.skip(f"{cached} is not there: python -m training prepare makes it")
    trained = np.load(cached)
    crops = list(read_pairs(shared_data / "lfw_dev")[0].values())
    embed = TeacherEmbedder(shared_data / "teacher" / "w600k_mbf.onnx.xz", threads=1)
    measured = embed(np.stack(crops[:: len(crops) // SAMPLE]))
    assert len(trained) > 20_000 and len(measured) >= SAMPLE
    assert float((measured @ trained.T).max()) < ONE_PERSON
