"""What cameras, codecs and alignment do to a crop, applied to the student's picture only.

The teacher always sees the clean crop: the student learns to answer as if nothing had happened.
A split lives on high frequencies, so what changes them (blur, sharpening, JPEG, rescaling, noise)
matters more here than for a plain recogniser. Probabilities are moderate and untuned.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Random = np.random.Generator


def augment(rgb: Picture, region: Picture, random: Random) -> tuple[Picture, Picture]:
    """(112, 112, 3) and its (112, 112) region, 0 or 1 -> the same shapes, changed together."""
    if random.random() < 0.5:
        rgb, region = rgb[:, ::-1], region[:, ::-1]
    rgb, region = np.ascontiguousarray(rgb), np.ascontiguousarray(region)
    rgb, region = misalign(rgb, region, random)
    for chance, change in ((0.5, relight), (0.1, blur), (0.25, sharpen), (0.1, rescale), (0.15, add_noise)):
        if random.random() < chance:
            rgb = change(rgb, random)
    if random.random() < 0.2:
        rgb = recode(rgb, random)
    if random.random() < 0.05:
        rgb = cover(rgb, random)
    return rgb, region


def misalign(rgb: Picture, region: Picture, random: Random) -> tuple[Picture, Picture]:
    """Half the time whole pixels (nothing is resampled), a quarter a small turn and zoom too."""
    kind = random.random()
    if kind < 0.25:
        return rgb, region
    shift = random.integers(-3, 4, 2).astype(np.float64)
    turn, zoom = (random.normal(0, 2), random.normal(1, 0.02)) if kind > 0.75 else (0.0, 1.0)
    matrix = cv2.getRotationMatrix2D((55.5, 55.5), turn, zoom)
    matrix[:, 2] += shift
    moved = cv2.warpAffine(rgb, matrix, (112, 112), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return moved, cv2.warpAffine(region, matrix, (112, 112), flags=cv2.INTER_NEAREST)


def relight(rgb: Picture, random: Random) -> Picture:
    """Contrast 0.7 to 1.3, brightness +- 25, each colour +- 5 %."""
    gain = random.uniform(0.7, 1.3) * random.uniform(0.95, 1.05, 3)
    return _clip((rgb.astype(np.float32) - 128) * gain + 128 + random.uniform(-25, 25))


def blur(rgb: Picture, random: Random) -> Picture:
    """Gaussian of sigma 0.4 to 1.1 px: defocus, or an upscaled distant face."""
    return cv2.GaussianBlur(rgb, (0, 0), random.uniform(0.4, 1.1))


def sharpen(rgb: Picture, random: Random) -> Picture:
    """Unsharp mask, as camera firmware does it; many training sources are softer than a camera."""
    soft = cv2.GaussianBlur(rgb, (0, 0), random.uniform(0.7, 1.5)).astype(np.float32)
    return _clip(rgb + random.uniform(0.2, 1.2) * (rgb - soft))


def rescale(rgb: Picture, random: Random) -> Picture:
    """Down to 48..96 px and up again: a face farther from the camera."""
    size = int(random.integers(48, 97))
    small = cv2.resize(rgb, (size, size), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (112, 112), interpolation=cv2.INTER_LINEAR)


def add_noise(rgb: Picture, random: Random) -> Picture:
    """Sensor noise, sigma 1 to 8 levels."""
    return _clip(rgb + random.normal(0, random.uniform(1, 8), rgb.shape).astype(np.float32))


def recode(rgb: Picture, random: Random) -> Picture:
    """JPEG of quality 40 to 95; its blocks fall anywhere, as in a real crop, since misalign came before."""
    quality = int(random.integers(40, 96))
    _, coded = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)


def cover(rgb: Picture, random: Random) -> Picture:
    """A flat patch over up to a fifth of the picture: hand, hair, scarf, the edge of a frame."""
    height, width = random.integers(16, 51, 2)
    top, left = random.integers(0, 112 - height), random.integers(0, 112 - width)
    covered = rgb.copy()
    covered[top : top + height, left : left + width] = random.integers(0, 256, 3)
    return covered


def _clip(values: NDArray[np.floating]) -> Picture:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
