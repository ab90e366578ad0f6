"""Where frames come from: a picture, a folder, a video, a camera, a network stream.

`open_source` picks by what it is given; each source yields `Frame`s and says clearly why it cannot.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from duetface.errors import CaptureError

PICTURE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm"})
PICTURE_FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")
PICTURE_BYTES: Final = 64 * 1024 * 1024
PICTURE_PIXELS: Final = 50_000_000  # 150 MB decoded; the largest phone sensors give this many
PICTURE_SPACING_NS: Final = 3600 * 10**9  # pictures of a folder are scenes of their own, an hour apart

MonotonicNs = Callable[[], int]


@dataclass(frozen=True)
class Frame:
    """One picture of a source.

    rgb_u8_hwc: (H, W, 3) uint8, RGB, upright.
    captured_at_monotonic_ns: when it was taken or read, by the source's clock; the probe's age counts from it.
    position_ns: on the source's own time line: tracks and cooldowns follow it, however fast a file is read.
    index: counts frames from 0.  name: the file's name, or the source's.
    """

    rgb_u8_hwc: NDArray[np.uint8]
    captured_at_monotonic_ns: int
    position_ns: int
    index: int
    name: str


class FrameSource(Protocol):
    """Something that gives frames.

    live: frames come by themselves and older ones lose their worth; otherwise every frame counts.
    """

    name: str
    live: bool

    def frames(self) -> Iterator[Frame]:
        """Yield frames until the source ends; raises CaptureError (DeviceError for a device)."""

    def close(self) -> None:
        """Let go of the device or file; a blocked `frames` ends soon after."""


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a picture as (H, W, 3) uint8 RGB, turned upright as its EXIF data say.

    Raises CaptureError if it is missing, empty, no picture, cut short, or larger than the limits;
    size is read from the header, before memory grows.
    """
    try:
        if path.stat().st_size > PICTURE_BYTES:
            raise CaptureError(f"{path}: larger than {PICTURE_BYTES >> 20} MiB; give a smaller picture")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of bombs and odd metadata; the limit here is stricter
            with Image.open(path, formats=PICTURE_FORMATS) as picture:
                return _decoded(path, picture)
    except CaptureError:
        raise
    except FileNotFoundError as error:
        raise CaptureError(f"{path}: there is no such file") from error
    except IsADirectoryError as error:
        raise CaptureError(f"{path}: is a folder; give one picture") from error
    except Image.DecompressionBombError as error:
        raise CaptureError(f"{path}: {_TOO_MANY_PIXELS}") from error
    except UnidentifiedImageError as error:
        raise CaptureError(f"{path}: not a picture; expected JPEG, PNG, WebP, BMP, TIFF or PPM") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # Pillow's ways to say that data are damaged
        raise CaptureError(f"{path}: the picture cannot be read, it is damaged or cut short ({error})") from error


_TOO_MANY_PIXELS: Final = f"more than {PICTURE_PIXELS // 1_000_000} million pixels; give a smaller picture"


def _decoded(path: Path, picture: Image.Image) -> NDArray[np.uint8]:
    if picture.width * picture.height > PICTURE_PIXELS:
        raise CaptureError(f"{path}: {_TOO_MANY_PIXELS}")
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith(("I", "F")):  # 16 bits a pixel: Pillow's own conversion would clip, not scale
        deep = np.asarray(upright, np.float64)
        grey = np.clip(deep / max(float(deep.max()), 1.0) * 255.0, 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.asarray(upright.convert("RGB"), np.uint8).copy()


class PictureSource:
    """One picture, one frame."""

    live = False

    def __init__(self, path: Path, monotonic_ns: MonotonicNs = time.monotonic_ns) -> None:
        self.name = str(path)
        self._path = path
        self._monotonic_ns = monotonic_ns

    def frames(self) -> Iterator[Frame]:
        """Yield the one frame.  Raises CaptureError as `read_picture`."""
        yield Frame(read_picture(self._path), self._monotonic_ns(), 0, 0, self.name)

    def close(self) -> None:
        """Nothing to let go of."""


class FolderSource:
    """The pictures of a folder by name; a damaged one is passed over and reported."""

    live = False

    def __init__(
        self,
        folder: Path,
        on_refused: Callable[[CaptureError], None] = lambda error: None,
        monotonic_ns: MonotonicNs = time.monotonic_ns,
    ) -> None:
        """on_refused: told of each file that has a picture's name but is none."""
        self.name = str(folder)
        self._paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)
        self._on_refused = on_refused
        self._monotonic_ns = monotonic_ns
        if not self._paths:
            raise CaptureError(f"{folder}: no pictures in it; expected {', '.join(sorted(PICTURE_SUFFIXES))}")

    def frames(self) -> Iterator[Frame]:
        """Yield every readable picture.  Raises CaptureError if there is none."""
        index = 0
        for path in self._paths:
            try:
                rgb_u8_hwc = read_picture(path)
            except CaptureError as error:
                self._on_refused(error)
                continue
            yield Frame(rgb_u8_hwc, self._monotonic_ns(), index * PICTURE_SPACING_NS, index, str(path))
            index += 1
        if index == 0:
            raise CaptureError(f"{self.name}: none of its {len(self._paths)} pictures can be read")

    def close(self) -> None:
        """Nothing to let go of."""
