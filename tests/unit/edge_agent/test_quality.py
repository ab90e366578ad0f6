"""What is refused, is refused for the right reason: the person is told what to do about it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent.detector import Detection
from edge_agent.landmarks import FaceMesh
from edge_agent.pipeline import Outcome, Protector
from edge_agent.quality import (
    ENROLMENT,
    VERIFICATION,
    Measurement,
    RetryReason,
    components,
    fine_detail_ratio,
    outline_mask,
    visible_share,
    yaw_deg,
)
from edge_agent.sources import read_picture

from . import scenes
from .scenes import Picture

GOOD = Measurement(
    crop_side_px=130,
    visible_share=1.0,
    presence=1.0,
    yaw_deg=0,
    pitch_deg=0,
    luma_p5=60,
    luma_p95=190,
    saturated_share=0,
    fine_detail_ratio=0.4,
)
NAMES = ("obama", "obama2", "obama3", "biden", "astronaut")
SPOILED: dict[str, tuple[Callable[[Picture, Detection], Picture], set[RetryReason]]] = {
    "out of focus": (lambda p, f: scenes.blurred(scenes.with_face_width(p, f, 130), 3.0), {RetryReason.BLURRED}),
    "moved": (lambda p, f: scenes.moved(scenes.with_face_width(p, f, 110), 11), {RetryReason.BLURRED}),
    "dark": (lambda p, f: scenes.lit(p, 0.12), {RetryReason.TOO_DARK}),
    "overexposed": (lambda p, f: scenes.lit(p, 3.0, 20.0), {RetryReason.TOO_BRIGHT, RetryReason.NO_FACE}),
    "behind haze": (lambda p, f: scenes.hazed(p), {RetryReason.LOW_CONTRAST}),
    "cut off": (lambda p, f: scenes.cut_at(p, f, 0.3), {RetryReason.FACE_CUT_OFF}),
    "tiny": (
        lambda p, f: scenes.in_frame(p, f, 34, (640, 360)),
        {RetryReason.FACE_TOO_SMALL, RetryReason.NO_FACE},
    ),
    "beside another": (lambda p, f: scenes.side_by_side(p, p), {RetryReason.SEVERAL_FACES}),
}


@pytest.mark.parametrize("name", NAMES)
def test_portraits_pass_both_policies(name: str, gate: Protector, pictures: dict[str, Picture]) -> None:
    """People whose pictures are good must not be sent away."""
    outcome = gate.protect(pictures[name])
    assert outcome.reason is None
    assert outcome.measured is not None
    assert ENROLMENT.refusal(outcome.measured) is None


@pytest.mark.parametrize("name", ["obama", "biden", "astronaut"])
@pytest.mark.parametrize("spoiled", SPOILED)
def test_a_spoiled_portrait_is_refused_for_what_is_wrong(
    spoiled: str, name: str, gate: Protector, pictures: dict[str, Picture], faces: dict[str, Detection]
) -> None:
    """Each way to spoil a picture that a camera knows."""
    spoil, expected = SPOILED[spoiled]
    outcome = gate.protect(spoil(pictures[name], faces[name]))
    assert outcome.reason in expected
    assert outcome.probe is None


def test_a_head_turned_away_is_refused(gate: Protector, pictures: dict[str, Picture], mesh: FaceMesh) -> None:
    """A head drawn again from the side; from the front, drawn the same way, it passes."""

    def seen_from(angle_deg: float) -> Outcome:
        face = gate.protect(pictures["obama"]).detection
        assert face is not None
        small = scenes.with_face_width(pictures["obama"], face, 110)
        front = gate.protect(small).face
        assert front is not None
        return gate.protect(scenes.turned(small, front.mesh, angle_deg))

    assert seen_from(0).reason is None
    assert seen_from(-60).reason is RetryReason.TURNED_AWAY


@pytest.mark.parametrize("turn_deg", [-40, -20, 0, 20, 40])
def test_yaw_is_the_angle_of_a_head_with_a_nose_of_half_the_eyes_distance(turn_deg: float) -> None:
    """The geometry that the estimate states."""
    turn = np.radians(turn_deg)
    solid = np.array([[-30, 0, 0], [30, 0, 0], [0, 20, -30]], np.float64)  # eyes, nose; smaller z is nearer
    seen = np.column_stack([solid[:, 0] * np.cos(turn) - solid[:, 2] * np.sin(turn), solid[:, 1]])
    keypoints = np.concatenate([seen, np.zeros((3, 2))]).astype(np.float32)
    assert abs(yaw_deg(keypoints) - turn_deg) < 0.1
    rolled = keypoints @ np.array([[0.8, 0.6], [-0.6, 0.8]], np.float32)
    assert yaw_deg(rolled) == pytest.approx(yaw_deg(keypoints), abs=20)  # a roll is no yaw


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"presence": 0.4}, RetryReason.NO_FACE),
        ({"presence": 0.8}, RetryReason.OCCLUDED),
        ({"visible_share": 0.8}, RetryReason.FACE_CUT_OFF),
        ({"crop_side_px": 40.0}, RetryReason.FACE_TOO_SMALL),
        ({"yaw_deg": -60.0}, RetryReason.TURNED_AWAY),
        ({"pitch_deg": 40.0}, RetryReason.TURNED_AWAY),
        ({"luma_p95": 50.0, "luma_p5": 5.0}, RetryReason.TOO_DARK),
        ({"saturated_share": 0.5}, RetryReason.TOO_BRIGHT),
        ({"luma_p5": 180.0}, RetryReason.LOW_CONTRAST),
        ({"fine_detail_ratio": 0.2}, RetryReason.BLURRED),
        ({}, None),
    ],
)
def test_each_limit_has_its_reason(change: dict[str, float], reason: RetryReason | None) -> None:
    """One bad value, one reason."""
    assert VERIFICATION.refusal(replace(GOOD, **change)) is reason


def test_enrolment_is_never_laxer_than_verification() -> None:
    """Else a template could be made of what a door would not look at."""
    for name, value in vars(ENROLMENT).items():
        loose = getattr(VERIFICATION, name)
        assert value >= loose if name.startswith("minimum") else value <= loose, name


def test_every_reason_has_its_advice() -> None:
    """And a name that JSON lines may carry."""
    for reason in RetryReason:
        assert reason.advice.endswith(".")
        assert reason.value.isidentifier()


def test_components_are_within_their_range_and_ranked() -> None:
    """The contract refuses anything outside [0, 1]; the weakest is the unified figure."""
    best = components(GOOD)
    assert best.unified == min(best.sharpness, best.illumination, best.pose, best.size) > 0.9
    worst = components(replace(GOOD, fine_detail_ratio=0.0, luma_p95=0, luma_p5=0, yaw_deg=180.0, crop_side_px=0))
    assert vars(worst) == dict.fromkeys(vars(worst), 0.0)
    assert components(replace(GOOD, fine_detail_ratio=0.2)).sharpness < best.sharpness


def test_sharpness_does_not_depend_on_light() -> None:
    """A dark sharp face is dark, not blurred."""
    random = np.random.default_rng(0)
    luma = random.normal(0, 30, (112, 112)).astype(np.float32) + 128
    inside = np.ones((112, 112), bool)
    assert fine_detail_ratio(luma, inside) == pytest.approx(fine_detail_ratio(luma * 0.3, inside), rel=0.05)


def test_a_flat_crop_is_not_sharp() -> None:
    """Nothing over nothing must not look like detail."""
    assert fine_detail_ratio(np.full((112, 112), 90, np.float32), np.ones((112, 112), bool)) == 0.0


def test_an_outline_of_nothing_measures_the_whole_crop() -> None:
    """A mesh gone wrong must not make a mean of no pixel."""
    nothing = np.full((4, 2), 500, np.float32)
    assert outline_mask(nothing).all()
    assert visible_share(nothing, (100, 100, 3)) == 0.0


def test_visible_share_is_the_part_inside() -> None:
    """Half of a square beyond the edge is half."""
    square = np.array([[-50, 10], [50, 10], [50, 60], [-50, 60]], np.float32)
    assert visible_share(square, (100, 100, 3)) == pytest.approx(0.5)


@pytest.mark.shared_data
def test_few_news_photographs_are_refused(gate: Protector, shared_data: Path) -> None:
    """Failure to acquire below 5 % of lfw_raw_dev (every fourth picture here).

    `python -m benchmarks.capture_quality` counts all.
    """
    paths = sorted((shared_data / "lfw_raw_dev").rglob("*.jpg"))[::4]
    outcomes = [gate.protect(read_picture(path)) for path in paths]
    assert sum(outcome.reason is not None for outcome in outcomes) / len(paths) < 0.05
    refused = sum(outcome.measured is None or ENROLMENT.refusal(outcome.measured) is not None for outcome in outcomes)
    assert refused / len(paths) < 0.05
