"""Pictures come from people: they are missing, empty, no pictures, or bombs."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from duetface.errors import CaptureError, DeviceError
from edge_agent.sources import PICTURE_SPACING_NS, FolderSource, PictureSource, read_picture


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims to be of this size and holds hardly anything."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\x00" * 1000))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a picture"),
        (b"this is a letter, not a picture", "not a picture"),
        (b"\xff\xd8\xff\xe0 a JPEG's beginning", "not a picture|cannot be read"),
        (b"%PDF-1.7 \n", "not a picture"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    """Exit code 2 and a line a person can act on, whatever Pillow thinks of it."""
    path = tmp_path / "face.jpg"
    path.write_bytes(content)
    with pytest.raises(CaptureError, match=message) as refusal:
        read_picture(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not isinstance(refusal.value, DeviceError)


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    """Typing errors are the commonest error."""
    with pytest.raises(CaptureError, match=r"nobody\.jpg: there is no such file"):
        read_picture(tmp_path / "nobody.jpg")


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    """Nor is anything else that cannot be read as a file."""
    with pytest.raises(CaptureError, match="is a folder; give one picture"):
        read_picture(tmp_path)


@pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (8_000, 8_000)])
def test_a_picture_of_huge_dimensions_is_refused_from_its_header(tmp_path: Path, size: tuple[int, int]) -> None:
    """A kilobyte of PNG may claim eleven gigabytes of pixels; none of them is made."""
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(*size))
    with pytest.raises(CaptureError, match=r"million pixels|cannot be read"):
        read_picture(path)


def test_a_picture_that_is_cut_short_is_refused(tmp_path: Path, portraits: dict[str, Path]) -> None:
    """Half a face, grey below, must not be judged as a face."""
    path = tmp_path / "half.jpg"
    content = portraits["obama"].read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CaptureError, match="damaged or cut short"):
        read_picture(path)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_exif_orientation_is_followed(tmp_path: Path, orientation: int) -> None:
    """A phone stores what its sensor saw and says how it was held."""
    upright = np.zeros((60, 40, 3), np.uint8)
    upright[:20] = 255  # bright above
    turns = {1: 0, 3: 2, 6: 1, 8: 3}[orientation]
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(upright, turns)))
    exif = stored.getexif()
    exif[0x0112] = orientation
    path = tmp_path / "phone.png"
    stored.save(path, exif=exif)
    assert np.array_equal(read_picture(path), upright)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1", "I;16"])
def test_every_kind_of_picture_becomes_rgb(tmp_path: Path, mode: str) -> None:
    """Grey, transparent, indexed, printed or 16 bits deep."""
    gradient = np.tile(np.linspace(0, 255, 50).astype(np.uint8), (40, 1))
    if mode == "I;16":
        picture = Image.fromarray(gradient.astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(gradient).convert("RGB").convert(mode)
    path = tmp_path / ("picture.tif" if mode == "CMYK" else "picture.png")
    picture.save(path)
    decoded = read_picture(path)
    assert decoded.shape == (40, 50, 3)
    assert decoded.dtype == np.uint8
    assert decoded[:, :5].mean() < 60 < 190 < decoded[:, -5:].mean()


def test_a_picture_is_one_frame(portraits: dict[str, Path]) -> None:
    """With its name, and read when asked for, not before."""
    frames = list(PictureSource(portraits["astronaut"], monotonic_ns=lambda: 7).frames())
    assert [(frame.index, frame.captured_at_monotonic_ns) for frame in frames] == [(0, 7)]
    assert frames[0].rgb_u8_hwc.shape == (512, 512, 3)
    assert frames[0].name == str(portraits["astronaut"])


def test_a_folder_gives_its_pictures_by_name_and_reports_the_others(tmp_path: Path) -> None:
    """One damaged file must not end the run, nor pass unseen."""
    for name in ("b.png", "a.png"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "aa.jpg").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no picture, and not named like one", encoding="utf-8")
    refused: list[CaptureError] = []
    frames = list(FolderSource(tmp_path, refused.append).frames())
    assert [Path(frame.name).name for frame in frames] == ["a.png", "b.png"]
    assert [frame.position_ns for frame in frames] == [0, PICTURE_SPACING_NS]
    assert len(refused) == 1
    assert "aa.jpg" in str(refused[0])


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    """Empty, or with nothing that can be read."""
    with pytest.raises(CaptureError, match="no pictures in it"):
        FolderSource(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(CaptureError, match="none of its 1 pictures can be read"):
        list(FolderSource(tmp_path).frames())
