from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from duetface.errors import ConfigError, ContractError, MessageError
from duetface.v1 import face_pb2
from networks.registry import SPLITS
from privacy.messages import PlainDevice, device_for, message_of, read_messages, write_messages
from privacy.observation import Observed, observe
from privacy.people import Capture, portraits_as_crops
from privacy.published_split import published_split

TWIN = PlainDevice(SPLITS["twin"])


def test_a_spy_reads_the_codes_that_the_device_made(captures: list[Capture]) -> None:
    """Attackers must not be weakened by a wrong reading."""
    observed = observe([message_of(capture, TWIN) for capture in captures], TWIN.spec)
    for row, capture in enumerate(captures):
        sent = TWIN.encode(capture.aligned).planes["rgb"]
        assert (observed.codes["rgb"][row] == sent).all()
    assert observed.values("rgb").dtype == np.float32


def test_quality_is_part_of_what_is_seen(captures: list[Capture]) -> None:
    """It tells of light and pose, so it counts as leak."""
    observed = observe([message_of(captures[0], TWIN)], TWIN.spec)
    quality = captures[0].quality
    assert observed.quality[0] == pytest.approx(
        [quality.unified, quality.sharpness, quality.illumination, quality.pose, quality.size]
    )


def test_an_observation_holds_no_picture_and_no_landmark() -> None:
    """What is not a field cannot leak into an attack by mistake."""
    assert {field.name for field in fields(Observed)} == {"split", "codes", "quality", "wire_bytes"}


def test_a_message_of_another_split_is_refused(captures: list[Capture]) -> None:
    """Codes read by the wrong manifest would look like protection."""
    with pytest.raises(ContractError, match="observe again for this split"):
        observe([message_of(captures[0], TWIN)], published_split())


@pytest.mark.parametrize("broken", [b"\xff\xff\xff", b""])
def test_broken_messages_are_refused(broken: bytes) -> None:
    """Neither garbage nor an empty probe may pass for an observation."""
    with pytest.raises((MessageError, ContractError)):
        observe([broken], TWIN.spec)


def test_a_cut_plane_is_refused(captures: list[Capture]) -> None:
    """As the service would."""
    probe = face_pb2.Probe.FromString(message_of(captures[0], TWIN))
    probe.faces[0].planes[0].data = probe.faces[0].planes[0].data[:-20]
    with pytest.raises(MessageError):
        observe([probe.SerializeToString()], TWIN.spec)


def test_no_messages_are_refused() -> None:
    """A figure over nothing is no figure."""
    with pytest.raises(MessageError, match="at least one"):
        observe([], TWIN.spec)


def test_an_unknown_split_lists_the_known_ones(models: Path) -> None:
    """The remedy is in the message."""
    with pytest.raises(ConfigError, match=r"no device for split 'r9'.*paper"):
        device_for("r9", models)


def test_a_split_with_masks_cannot_do_without_its_network() -> None:
    """Messages without masks would be another split's."""
    with pytest.raises(ConfigError, match="needs its client network"):
        PlainDevice(SPLITS["r1"])


def test_messages_on_disk_are_read_again_and_not_made_again(
    captures: list[Capture], models: Path, tmp_path: Path
) -> None:
    """A run of minutes resumes; a changed file would be seen at once by its split digest."""
    crops = portraits_as_crops(captures, ["biden", "obama", "astronaut"])
    made = write_messages(crops, TWIN, models, tmp_path, lambda _done, _all: None)
    before = (tmp_path / "000000.npz").stat().st_mtime_ns
    again = write_messages(crops, TWIN, models, tmp_path, lambda _done, _all: None)
    assert made == again == read_messages(tmp_path)
    assert (tmp_path / "000000.npz").stat().st_mtime_ns == before


def test_reading_messages_that_were_never_made_says_how_to_make_them(tmp_path: Path) -> None:
    """Named command instead of a bare file error."""
    with pytest.raises(ConfigError, match="python -m privacy observe"):
        read_messages(tmp_path)
