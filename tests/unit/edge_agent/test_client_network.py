"""The device's half, on the shipped split."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from duetface.codec import decode_plane, encode_plane
from duetface.errors import MessageError, ModelError
from duetface.manifest import models_root
from duetface.quantisation import decode
from duetface.types import AlignedFace
from edge_agent.client_network import Encoder

SPLIT = models_root() / "splits" / "r1"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """The shipped one, one thread."""
    return Encoder.load(SPLIT)


@pytest.fixture(scope="module")
def face() -> AlignedFace:
    """A smooth random picture and an oval: enough for shapes and bytes, nobody's face."""
    random = np.random.default_rng(1)
    rgb = np.kron(random.integers(0, 256, (14, 14, 3)), np.ones((8, 8, 1))) + random.normal(0, 4, (112, 112, 3))
    turn = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    oval = np.stack([56 + 40 * np.cos(turn), 60 + 48 * np.sin(turn)], axis=1).astype(np.float32)
    return AlignedFace(np.clip(rgb, 0, 255).astype(np.uint8), oval)


def test_the_codes_are_those_that_the_manifest_describes(encoder: Encoder, face: AlignedFace) -> None:
    """The service checks shape, dtype and range of each plane; the device must never be refused for them."""
    protected = encoder.encode(face)
    assert protected.split_digest == encoder.spec.digest
    assert list(protected.planes) == [plane.name for plane in encoder.spec.planes]
    for plane in encoder.spec.planes:
        codes = protected.planes[plane.name]
        wire = encode_plane(codes, plane)
        assert len(wire) <= plane.wire_limit
        assert np.array_equal(decode_plane(wire, plane), codes)


def test_the_same_face_gives_the_same_codes(encoder: Encoder, face: AlignedFace) -> None:
    """Anything random on the device would be noise in every template."""
    first, second = encoder.encode(face), Encoder.load(SPLIT).encode(face)
    assert all(np.array_equal(first.planes[name], second.planes[name]) for name in first.planes)


def test_nothing_of_the_flat_colour_leaves(encoder: Encoder, face: AlignedFace) -> None:
    """DC stays on the device: a brighter picture (nothing saturating) sends the very same coefficients."""
    darker = AlignedFace(np.clip(face.rgb_u8_hwc, 20, 200), face.hull_px)
    brighter = AlignedFace(darker.rgb_u8_hwc + np.uint8(20), face.hull_px)
    a, b = (encoder.encode(each).planes["coefficients"].astype(int) for each in (darker, brighter))
    assert np.abs(a - b).max() <= 1 and (a != b).mean() < 1e-3  # a tie may round the other way


def test_masks_are_zero_outside_the_face(encoder: Encoder, face: AlignedFace) -> None:
    """Attention outside tells the service about the scene."""
    masks = {name: codes for name, codes in encoder.encode(face).planes.items() if name.startswith("mask")}
    assert all(codes.max() == 15 for codes in masks.values())
    for name in ("mask_28", "mask_14", "mask_7"):
        assert not masks[name][0, 0, 0] and not masks[name][0, 0, -1]


def test_a_face_without_a_usable_hull_still_gives_finite_masks(encoder: Encoder, face: AlignedFace) -> None:
    """A lost mesh must not become NaN in an embedding."""
    protected = encoder.encode(AlignedFace(face.rgb_u8_hwc, np.full((4, 2), np.nan, np.float32)))
    assert all(np.isfinite(decode(codes, encoder.spec.plane(name))).all() for name, codes in protected.planes.items())


def test_coefficients_arrive_within_half_a_step(encoder: Encoder, face: AlignedFace) -> None:
    """What training saw is what the service gets."""
    _, goes = encoder.split(face.rgb_u8_hwc)
    plane = encoder.spec.plane("coefficients")
    arrived = decode(encoder.encode(face).planes["coefficients"], plane)
    step = np.array(plane.scale)[:, None, None]
    in_range = np.abs(goes) <= 127 * step
    assert (np.abs(arrived - goes) <= step / 2 + 1e-4)[in_range].all()


@pytest.mark.parametrize(
    "rgb", [np.zeros((112, 112), np.uint8), np.zeros((96, 112, 3), np.uint8), np.zeros((112, 112, 3), np.float32)]
)
def test_anything_but_an_aligned_crop_is_refused(encoder: Encoder, rgb: np.ndarray) -> None:
    """A crop of another size or range would encode to a plausible stranger."""
    with pytest.raises(MessageError, match=r"expected \(112, 112, 3\) uint8 RGB"):
        encoder.encode(AlignedFace(rgb, np.zeros((3, 2), np.float32)))


def test_a_damaged_client_network_is_refused(tmp_path: Path) -> None:
    """The digest is in the spec, so the service would know; the device says it first."""
    folder = tmp_path / "r1"
    shutil.copytree(SPLIT, folder)
    content = bytearray((folder / "client.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "client.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"client\.onnx is damaged"):
        Encoder.load(folder)


def test_a_client_network_of_other_masks_is_refused(tmp_path: Path) -> None:
    """A manifest and a network that do not fit would feed the wrong stage."""
    folder = tmp_path / "r1"
    shutil.copytree(SPLIT, folder)
    raw = json.loads((folder / "split.json").read_text())
    raw["planes"] = raw["planes"][:-1]
    raw["client_network_sha256"] = hashlib.sha256((folder / "client.onnx").read_bytes()).hexdigest()
    (folder / "split.json").write_text(json.dumps(raw))
    with pytest.raises(ModelError, match=r"makes \['mask_28', 'mask_14', 'mask_7'\], the split needs"):
        Encoder.load(folder)
