"""The server network, on the shipped space."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from duetface.errors import ContractError, MessageError, ModelError
from duetface.manifest import load_space, load_split, models_root
from duetface.quantisation import code_range
from duetface.types import ProtectedFace
from recognition_service.embedder import Embedder

SPLIT = load_split(models_root() / "splits" / "r1")
SPACE = models_root() / "spaces" / "r1-1-int8"


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    """The shipped one, one thread."""
    return Embedder.load(SPACE, SPLIT)


def made_up_face(seed: int) -> ProtectedFace:
    """Codes that a device could send, nobody's."""
    random = np.random.default_rng(seed)
    planes = {}
    for plane in SPLIT.planes:
        low, high = code_range(plane)
        spread = random.laplace(0, 3, plane.shape) if plane.signed else random.integers(low, high + 1, plane.shape)
        planes[plane.name] = np.clip(np.rint(spread), low, high).astype(np.int8 if plane.signed else np.uint8)
    return ProtectedFace(SPLIT.digest, planes)


def test_embeddings_have_unit_length_in_the_order_of_the_faces(embedder: Embedder) -> None:
    """The gallery takes a dot product for a cosine."""
    faces = [made_up_face(seed) for seed in range(3)]
    embeddings = embedder.embed(faces)
    assert embeddings.shape == (3, embedder.dimension) and embeddings.dtype == np.float32
    assert np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
    assert np.allclose(embedder.embed(faces[::-1])[::-1], embeddings, atol=1e-5)


def test_an_embedding_does_not_depend_on_the_batch_or_the_threads(embedder: Embedder) -> None:
    """Batches form by chance of arrival: a template must not."""
    faces = [made_up_face(seed) for seed in range(8)]
    alone = np.concatenate([embedder.embed([face]) for face in faces])
    for other in (embedder.embed(faces), Embedder.load(SPACE, SPLIT, threads=2).embed(faces)):
        assert (np.sum(alone * other, axis=1) >= 0.99999).all()


def test_no_faces_give_no_embeddings(embedder: Embedder) -> None:
    """A batch whose callers all left is empty."""
    assert embedder.embed([]).shape == (0, 512)


def test_the_digest_is_the_manifest_s(embedder: Embedder) -> None:
    """Templates carry it; another network's would not compare."""
    assert embedder.space_digest == load_space(SPACE).digest


def test_a_face_of_another_split_is_refused(embedder: Embedder) -> None:
    """Its codes would decode to some face."""
    with pytest.raises(ContractError, match="expected r1"):
        embedder.embed([replace(made_up_face(1), split_digest=bytes(32))])


def test_a_plane_of_another_shape_is_refused(embedder: Embedder) -> None:
    """The codec checks too; the network must not depend on that."""
    face = made_up_face(1)
    planes = {**face.planes, "mask_7": np.zeros((1, 8, 8), np.uint8)}
    with pytest.raises(MessageError, match=r"plane mask_7: got shape \(1, 8, 8\)"):
        embedder.embed([replace(face, planes=planes)])


def test_a_space_of_another_split_is_refused() -> None:
    """Started with the wrong pair, a service would reject everybody."""
    with pytest.raises(ModelError, match=r"reads split [0-9a-f]{16}, not r1"):
        Embedder.load(SPACE, replace(SPLIT, version=SPLIT.version + 1))


def test_a_damaged_server_network_is_refused(tmp_path: Path) -> None:
    """One flipped bit decides differently and gives no other sign."""
    folder = tmp_path / "space"
    shutil.copytree(SPACE, folder)
    content = bytearray((folder / "server.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "server.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"server\.onnx is damaged"):
        Embedder.load(folder, SPLIT)
