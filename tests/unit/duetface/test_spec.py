"""What agent, service and weights must agree on."""

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from duetface.errors import ModelError
from duetface.spec import PlaneSpec, SplitSpec

PLANE = PlaneSpec("coefficients", (6, 2, 2), 8, True, "deflate", (2.0,))
SPEC = SplitSpec(
    name="small",
    version=1,
    family="fixed",
    crop=16,
    colour="ycbcr-full-range",
    upsampling=1,
    block=8,
    client_channels=(0, 1),
    server_channels=(2, 3),
    planes=(PLANE,),
    client_network_sha256="",
)
OTHER: dict[str, Any] = {
    "name": "other",
    "version": 2,
    "family": "learned",
    "crop": 32,
    "colour": "rgb",
    "upsampling": 2,
    "block": 4,
    "client_channels": (1, 0),
    "server_channels": (3, 2),
    "planes": (replace(PLANE, scale=(3.0,)),),
    "client_network_sha256": "00",
}


def test_a_spec_survives_json() -> None:
    """split.json is how the two ends get it."""
    assert SplitSpec.from_dict(json.loads(json.dumps(SPEC.to_dict()))) == SPEC


def test_the_digest_is_this_one() -> None:
    """A stored digest: another serialisation would cut every agent off from its service."""
    assert SPEC.digest.hex() == "735bf6aa20f19889aca3d7551c7bc449c0c2b30562a636212e995434f6f14f38"


@pytest.mark.parametrize("field", [field.name for field in fields(SplitSpec)])
def test_every_field_changes_the_digest(field: str) -> None:
    """Two ends that differ in anything must find out at the first message."""
    assert replace(SPEC, **{field: OTHER[field]}).digest != SPEC.digest


@pytest.mark.parametrize(
    "change",
    [{"shape": (6, 2, 1)}, {"bits": 7}, {"signed": False}, {"codec": "stored"}, {"scale": (2.5,)}, {"offset": 0.5}],
    ids=lambda change: next(iter(change)),
)
def test_every_field_of_a_plane_changes_the_digest(change: dict[str, Any]) -> None:
    """A different step decodes to a different face."""
    assert replace(SPEC, planes=(replace(PLANE, **change),)).digest != SPEC.digest


def test_unknown_keys_are_refused() -> None:
    """A newer spec read by an older agent must not be half understood."""
    with pytest.raises(ModelError, match=r"split: unknown keys \['noise'\]"):
        SplitSpec.from_dict({**SPEC.to_dict(), "noise": 1})
    plane = {**SPEC.to_dict()["planes"][0], "gain": 1}
    with pytest.raises(ModelError, match=r"plane 0: unknown keys \['gain'\]"):
        SplitSpec.from_dict({**SPEC.to_dict(), "planes": [plane]})


def test_missing_keys_are_refused() -> None:
    """Defaults would let two ends disagree in silence."""
    raw = SPEC.to_dict()
    del raw["block"]
    with pytest.raises(ModelError, match="block"):
        SplitSpec.from_dict(raw)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 9}, "9 bits a value, expected 1 to 8"),
        ({"codec": "zip"}, "codec 'zip', expected one of"),
        ({"scale": (1.0, 2.0)}, "2 scales, expected 1 or 6"),
        ({"scale": (0.0,)}, "all above zero"),
        ({"shape": (6, 0, 2)}, "shape"),
        ({"offset": float("nan")}, "offset"),
    ],
)
def test_a_plane_that_no_message_could_hold_is_refused(change: dict[str, Any], message: str) -> None:
    """Checked once, where the manifest is read."""
    with pytest.raises(ModelError, match=message):
        replace(PLANE, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"server_channels": (1, 2)}, "listed twice"),
        ({"server_channels": (64,)}, "channels lie in 0..63"),
        ({"family": "new"}, "family 'new'"),
        ({"colour": "bgr"}, "colour 'bgr'"),
        ({"planes": (PLANE, PLANE)}, "a plane is listed twice"),
    ],
)
def test_a_split_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    """A channel on both sides, above all, would leave the device."""
    with pytest.raises(ModelError, match=message):
        replace(SPEC, **change)


def test_lengths_follow_from_the_shape() -> None:
    """Lengths are checked before memory grows, so they must be known beforehand."""
    plane = PlaneSpec("mask_7", (1, 7, 7), 4, False, "stored", (1 / 15,))
    assert (plane.count, plane.packed_length, plane.wire_limit) == (49, 25, 25)
    assert PLANE.wire_limit > PLANE.packed_length  # deflate may grow what it cannot shrink


def test_an_unknown_plane_is_named() -> None:
    """A KeyError would not say which split lacks it."""
    with pytest.raises(ModelError, match="split small has no plane 'mask_9'"):
        SPEC.plane("mask_9")
