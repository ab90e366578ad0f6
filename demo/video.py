"""A video rendered from portraits: each person comes into view, moves, is out of focus for a moment, and goes.

Deterministic: the same portraits give the same frames.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.sources import read_picture

WIDTH, HEIGHT = 640, 480
FRAMES_PER_S = 15
PERSON_S = 2.0
GAP_S = 1.5  # longer than a track lives, so that the next face is asked about anew
FACE_SHARE = 0.34  # of the video's height
OUT_OF_FOCUS = (0.4, 0.6)  # of the person's time
BACKGROUND_RGB = (96, 100, 104)

Picture = NDArray[np.uint8]


def write_video(path: Path, portraits: Sequence[Path]) -> int:
    """Write the video (MPEG-4, 640 x 480, 15 frames a second); returns the number of frames."""
    count = 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FRAMES_PER_S)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate = 4_000_000
        for rgb_u8_hwc in frames(portraits):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb_u8_hwc, format="rgb24")))
            count += 1
        container.mux(stream.encode())
    return count


def frames(portraits: Sequence[Path]) -> Iterator[Picture]:
    """Every frame, (480, 640, 3) uint8 RGB."""
    empty = np.full((HEIGHT, WIDTH, 3), BACKGROUND_RGB, np.uint8)
    for portrait in portraits:
        yield from [empty] * round(GAP_S * FRAMES_PER_S)
        picture, middle = _fitted(read_picture(portrait), HEADS[portrait.stem])
        total = round(PERSON_S * FRAMES_PER_S)
        for index in range(total):
            yield _frame(picture, middle, index / total)
    yield from [empty] * round(GAP_S * FRAMES_PER_S)


@dataclass(frozen=True)
class Head:
    """Where the face is in a portrait of demo/portraits.py: middle and side of its box, pixels."""

    x_px: float
    y_px: float
    side_px: float


HEADS = {
    "obama": Head(494, 281, 262),
    "obama2": Head(340, 469, 309),
    "obama3": Head(769, 484, 278),
    "biden": Head(567, 413, 291),
    "astronaut": Head(224, 126, 104),
}


def _fitted(rgb_u8_hwc: Picture, head: Head) -> tuple[Picture, tuple[float, float]]:
    """The portrait scaled so that the face takes a third of the video's height, and the face's middle in it."""
    scale = FACE_SHARE * HEIGHT / head.side_px
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    picture = cv2.resize(rgb_u8_hwc, None, fx=scale, fy=scale, interpolation=interpolation)
    return picture.astype(np.uint8), (head.x_px * scale, head.y_px * scale)


def _frame(picture: Picture, middle: tuple[float, float], moment: float) -> Picture:
    """One frame; moment in [0, 1) of the person's time: pan, zoom, out of focus halfway, changing light."""
    zoom = 1.0 + 0.15 * math.sin(math.pi * moment)
    x_px = WIDTH / 2 + 40.0 * math.sin(2 * math.pi * moment)
    turn = np.array([[zoom, 0.0, x_px - zoom * middle[0]], [0.0, zoom, HEIGHT * 0.45 - zoom * middle[1]]])
    frame = cv2.warpAffine(picture, turn, (WIDTH, HEIGHT), borderValue=BACKGROUND_RGB)
    if OUT_OF_FOCUS[0] < moment < OUT_OF_FOCUS[1]:
        frame = cv2.GaussianBlur(frame, (0, 0), 3.0)
    light = 0.85 + 0.25 * moment
    return np.clip(frame * light, 0, 255).astype(np.uint8)
