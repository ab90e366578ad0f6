"""The way of a face on the device."""

import inspect
import subprocess
import sys

import numpy as np
import pytest

import edge_agent
from duetface.alignment import CROP_PX
from duetface.types import LivenessLevel
from edge_agent.pipeline import Protector
from edge_agent.quality import RetryReason

from . import scenes


def test_the_package_gives_its_entry_point_without_loading_it_for_everybody() -> None:
    """`from edge_agent import Protector`; the log of an enrolment must not cost OpenCV."""
    assert edge_agent.Protector is Protector
    assert not hasattr(edge_agent, "Protectors")
    light = "import sys, edge_agent.enrolment_log; sys.exit('cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", light], timeout=60, check=False).returncode == 0


def test_a_portrait_becomes_a_probe(protector: Protector, pictures) -> None:
    """Codes of the split, quality, the time of capture, and liveness said to be off."""
    outcome = protector.protect(pictures["obama"], captured_at_monotonic_ns=1234)
    assert outcome.reason is None
    assert outcome.probe is not None
    assert outcome.probe.captured_at_monotonic_ns == 1234
    assert outcome.probe.liveness is LivenessLevel.OFF
    assert outcome.probe.quality.unified > 0.5
    assert tuple(face.split_digest for face in outcome.probe.faces) == protector.split_digests


def test_a_probe_holds_codes_and_nothing_else(protector: Protector, pictures) -> None:
    """No picture, no landmark: whatever is added to a probe must be looked at here first."""
    probe = protector.protect(pictures["obama"]).probe
    assert probe is not None
    assert set(vars(probe)) == {"faces", "captured_at_monotonic_ns", "quality", "liveness"}
    assert set(vars(probe.faces[0])) == {"split_digest", "planes"}


def test_the_crop_stays_on_the_device_for_a_preview(protector: Protector, pictures) -> None:
    """What is drawn for people is not what is sent."""
    face = protector.protect(pictures["obama"]).face
    assert face is not None
    assert face.aligned.rgb_u8_hwc.shape == (CROP_PX, CROP_PX, 3)
    assert face.aligned.hull_px.shape[1] == 2
    assert 0 < face.aligned.hull_px[:, 0].min() < face.aligned.hull_px[:, 0].max() < CROP_PX


def test_stages_are_timed_in_their_order(protector: Protector, pictures) -> None:
    """The figures of `make bench` and of each JSON line."""
    assert list(protector.protect(pictures["obama"]).timings_ms) == ["detect", "align", "quality", "encode"]
    nobody = protector.protect(np.zeros((100, 100, 3), np.uint8))
    assert list(nobody.timings_ms) == ["detect"]
    assert nobody.reason is RetryReason.NO_FACE


def test_the_same_picture_makes_the_same_codes(protector: Protector, pictures) -> None:
    """No hidden state, no chance."""
    first, second = (protector.protect(pictures["biden"], 0).probe for _ in range(2))
    assert first is not None
    assert second is not None
    for name, codes in first.faces[0].planes.items():
        assert np.array_equal(codes, second.faces[0].planes[name])


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 3000, 3), (64, 64, 3)])
def test_pictures_of_odd_shape_are_retries_not_errors(shape: tuple[int, int, int], protector: Protector) -> None:
    """Smallest and thinnest."""
    assert protector.protect(np.zeros(shape, np.uint8)).reason is RetryReason.NO_FACE


def test_a_huge_picture_is_no_trouble(protector: Protector, pictures) -> None:
    """A phone's 24 million pixels; the face fills a third of it."""
    large = scenes.scaled(pictures["astronaut"], 10.0)
    outcome = protector.protect(large)
    assert outcome.face is not None
    assert outcome.face.aligned.rgb_u8_hwc.shape == (CROP_PX, CROP_PX, 3)


def test_protect_reads_as_one_call_a_stage() -> None:
    """docs/way-of-a-face.md shows this function; its order is the way."""
    source = inspect.getsource(Protector.protect)
    stages = [source.index(f'watch.stage("{name}")') for name in ("detect", "align", "quality", "encode")]
    assert stages == sorted(stages)
