"""Detection decides who gets a decision at all."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.detector import Detection, FaceDetector, anchors, letterbox, overlaps, principal
from edge_agent.sources import read_picture

from . import scenes

NAMES = ("obama", "obama2", "obama3", "biden", "astronaut")


def face_at(left: float, top: float, side: float, score: float = 0.9) -> Detection:
    """A square face."""
    box = np.array([left, top, left + side, top + side], np.float32)
    return Detection(box, score, np.zeros((6, 2), np.float32))


@pytest.mark.parametrize("name", NAMES)
def test_every_portrait_has_one_face(name: str, detector: FaceDetector, pictures: dict) -> None:
    """The plain case."""
    found = detector.detect(pictures[name])
    assert len(found) == 1
    assert found[0].score > 0.8


@pytest.mark.parametrize("width_px", [60, 120, 300, 600])
@pytest.mark.parametrize("name", ["astronaut", "biden"])
def test_a_face_is_found_where_it_was_put(name: str, width_px: int, detector: FaceDetector, pictures, faces) -> None:
    """A door camera sees 1280 x 720; the face is anywhere in it and of any size."""
    for centre in ((640, 360), (300, 330), (1000, 390)):
        frame = scenes.in_frame(pictures[name], faces[name], width_px, centre)
        found, _ = principal(detector.detect(frame), frame.shape)
        assert found is not None
        assert np.linalg.norm(found.centre_px - centre) < 0.15 * width_px
        assert 0.5 < found.width_px / width_px < 1.4


def test_key_points_lie_in_their_order(detector: FaceDetector, pictures: dict) -> None:
    """Eyes level the region of the mesh: swapped, every face would be turned upside down."""
    eye, other_eye, nose, mouth, ear, other_ear = detector.detect(pictures["obama"])[0].keypoints_px
    assert ear[0] < eye[0] < nose[0] < other_eye[0] < other_ear[0]
    assert max(eye[1], other_eye[1]) < nose[1] < mouth[1]


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 4000, 3), (4000, 3, 3), (720, 1280, 3)])
def test_pictures_without_a_face_have_none(shape: tuple[int, int, int], detector: FaceDetector) -> None:
    """Noise of any shape, down to a single pixel, is nobody."""
    noise = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    assert detector.detect(noise) == []
    assert detector.detect(np.full(shape, 128, np.uint8)) == []


def test_a_grey_or_float_picture_is_refused(detector: FaceDetector) -> None:
    """A wrong layout would be a silent misdetection."""
    with pytest.raises(ValueError, match="uint8 RGB"):
        detector.detect(np.zeros((10, 10), np.uint8))
    with pytest.raises(ValueError, match="float32"):
        detector.detect(np.zeros((10, 10, 3), np.float32))


def test_anchors_are_those_of_the_slow_obvious_loop() -> None:
    """MediaPipe's ssd_anchors_calculator, read line by line."""
    expected = []
    for stride, repeats in ((16, 2), (32, 6)):
        cells = 256 // stride
        for row in range(cells):
            for column in range(cells):
                expected += [((column + 0.5) / cells * 256, (row + 0.5) / cells * 256)] * repeats
    assert np.allclose(anchors(256), expected)
    assert len(expected) == 896


def test_a_letterbox_keeps_the_shape() -> None:
    """A squeezed face is a thinner person."""
    picture = np.full((100, 400, 3), 255, np.uint8)
    canvas, scale, offset = letterbox(picture, 256)
    rows, columns = np.nonzero(canvas[:, :, 0])
    assert scale == 0.64
    assert (columns.max() + 1 - columns.min(), rows.max() + 1 - rows.min()) == (256, 64)
    assert tuple(offset) == (columns.min(), rows.min())


def test_overlap_is_intersection_over_union() -> None:
    """Half of each of two equal boxes shared is a third of their union."""
    box = np.array([0, 0, 2, 2], np.float32)
    others = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6]], np.float32)
    assert np.allclose(overlaps(box, others), [1.0, 1 / 3, 0.0])


def test_nobody_is_principal_where_nobody_is() -> None:
    """Empty in, nothing out."""
    assert principal([], (100, 100, 3)) == (None, False)


def test_a_second_face_rivals_from_half_the_area_on() -> None:
    """Below, it is somebody passing behind."""
    first = face_at(10, 10, 100)
    assert principal([first, face_at(200, 10, 69)], (300, 300, 3)) == (first, False)
    assert principal([first, face_at(200, 10, 72)], (300, 300, 3)) == (first, True)


def test_a_face_that_is_hardly_one_is_no_rival() -> None:
    """A poster's blur in the background must not keep people out."""
    first = face_at(10, 10, 100)
    assert principal([first, face_at(200, 10, 90, score=0.6)], (300, 300, 3)) == (first, False)


def test_whoever_is_cut_off_by_the_edge_is_not_whom_it_is_about() -> None:
    """Even if larger: a passer-by leaving the picture is not the person in its middle."""
    passing, standing = face_at(-40, 10, 120), face_at(120, 100, 100)
    assert principal([passing, standing], (300, 300, 3)) == (standing, False)
    assert principal([passing], (300, 300, 3)) == (passing, False)


@pytest.mark.shared_data
def test_nearly_every_face_of_news_photographs_is_found(detector: FaceDetector, shared_data: Path) -> None:
    """Measured: 420 of 420 found, the person in the middle chosen in all."""
    paths = sorted((shared_data / "lfw_raw_dev").rglob("*.jpg"))[::4]
    hits = 0
    for path in paths:
        picture = read_picture(path)
        found, _ = principal(detector.detect(picture), picture.shape)
        hits += found is not None and bool(np.linalg.norm(found.centre_px - 125) < 40)
    assert hits >= 0.99 * len(paths)


def test_a_face_turned_in_the_plane_is_still_found(detector: FaceDetector, pictures, faces) -> None:
    """People hold phones and heads at an angle."""
    picture, face = pictures["astronaut"], faces["astronaut"]
    centre = tuple(float(at) for at in face.centre_px)
    turned = cv2.warpAffine(picture, cv2.getRotationMatrix2D(centre, 30, 1.0), picture.shape[1::-1])
    found = detector.detect(turned)
    assert len(found) == 1
    eyes = found[0].keypoints_px[1] - found[0].keypoints_px[0]
    assert abs(np.degrees(np.arctan2(eyes[1], eyes[0])) + 30) < 8
