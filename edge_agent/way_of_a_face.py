"""The way of a face as one picture: what the camera saw, what stays, what is sent, decision.

For people who want to see what leaves the device.  It holds a face: the caller chose where to write it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from duetface.codec import encode_plane
from duetface.errors import ConfigError
from duetface.frequency import RGB_TO_YCBCR, block_dct, centred_ycbcr, inverse_block_dct
from duetface.quantisation import decode
from duetface.spec import SplitSpec
from duetface.splitting import CHANNELS, COMPONENTS, join, split
from duetface.types import Codes, ProtectedFace
from edge_agent.pipeline import CapturedFace, Outcome

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Picture = NDArray[np.uint8]
COEFFICIENTS = "coefficients"
WIDEST_PX = 480
COLUMNS = 4
LONGEST_ROW = 5  # a learned split has five panels: one row, not one left over


def draw_way_of_a_face(rgb_u8_hwc: Picture, outcome: Outcome, spec: SplitSpec, verdict: str, path: Path) -> None:
    """Write the picture; the suffix says which format.

    rgb_u8_hwc, outcome: what `Protector.protect` got and gave, with a probe.  spec: a split of that probe.
    verdict: the decision in words, empty if there is none yet.
    Raises ConfigError if matplotlib is missing or `path` cannot be written.
    """
    try:
        from matplotlib.figure import Figure  # only here: a device has no use for it
    except ImportError as error:
        raise ConfigError("pictures of the way need matplotlib: pip install duetface[report]") from error
    if outcome.probe is None or outcome.face is None:
        raise ValueError("there is no probe whose way could be drawn")
    protected = next(face for face in outcome.probe.faces if face.split_digest == spec.digest)
    panels = list(_panels(rgb_u8_hwc, outcome.face, protected, spec, verdict))
    columns = len(panels) if len(panels) <= LONGEST_ROW else COLUMNS
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(2.6 * columns, 3.0 * rows), layout="constrained")
    for place, (title, picture, below) in enumerate(panels, start=1):
        _show(figure.add_subplot(rows, columns, place), title, picture, below)
    _save(figure, path)


def stays_and_goes(crop_rgb_u8_hwc: Picture, protected: ProtectedFace, spec: SplitSpec) -> tuple[Picture, Picture]:
    """Return the crop as its private channels alone show it, and as the sent codes alone show it.

    Both (112, 112, 3) uint8; the other half's channels are zero, grey.
    Raises ConfigError unless the split sends DCT coefficients.
    """
    if spec.family != "fixed" or COEFFICIENTS not in protected.planes:
        raise ConfigError(f"split {spec.name} sends no DCT coefficients, so there is no picture of them")
    client, server = spec.client_channels, spec.server_channels
    stays = private_picture(crop_rgb_u8_hwc, spec)
    goes = decode(protected.planes[COEFFICIENTS], spec.plane(COEFFICIENTS)).astype(np.float64)
    nothing = np.zeros((COMPONENTS * len(client), *goes.shape[1:]))
    return stays, _picture(join(nothing, goes, client, server), spec.upsampling)


def private_picture(crop_rgb_u8_hwc: Picture, spec: SplitSpec) -> Picture:
    """The crop as the client's channels alone show it, (112, 112, 3) uint8: what its network looks at."""
    client, others = spec.client_channels, [c for c in range(CHANNELS) if c not in spec.client_channels]
    stays, rest = split(block_dct(centred_ycbcr(crop_rgb_u8_hwc), spec.upsampling), client, others)
    return _picture(join(stays, np.zeros_like(rest), client, others), spec.upsampling)


def _picture(channels: NDArray[np.float64], upsampling: int) -> Picture:
    """DCT channels (192, B, B) -> (N, N, 3) uint8 RGB around middle grey."""
    centred = inverse_block_dct(channels, upsampling)
    rgb = np.einsum("rc,chw->hwr", np.linalg.inv(RGB_TO_YCBCR), centred) + 128.0
    return np.asarray(np.clip(np.rint(rgb), 0, 255), np.uint8)


def _panels(
    rgb_u8_hwc: Picture, face: CapturedFace, protected: ProtectedFace, spec: SplitSpec, verdict: str
) -> Iterator[tuple[str, NDArray[Any], str]]:
    """Yield title, picture and the line below, in the order of the way."""
    yield "camera", _with_outline(rgb_u8_hwc, face), "stays here"
    yield "crop", face.aligned.rgb_u8_hwc, f"stays here: {face.aligned.rgb_u8_hwc.nbytes:,} bytes"
    yield from _sent_panels(face.aligned.rgb_u8_hwc, protected, spec)
    if verdict:
        yield "decision", np.full((112, 112, 3), 255, np.uint8), verdict


def _sent_panels(crop: Picture, protected: ProtectedFace, spec: SplitSpec) -> Iterator[tuple[str, NDArray[Any], str]]:
    """What stays and what is sent, as the split's family cuts it."""
    sizes = {plane.name: len(encode_plane(protected.planes[plane.name], plane)) for plane in spec.planes}
    if spec.family == "learned":
        seen = private_picture(crop, spec)
        yield f"looked at: {len(spec.client_channels)} of 64 channels", seen, "stays here, like the others"
        for plane in spec.planes:
            yield f"sent: {plane.name}", _as_cells(protected.planes[plane.name]), f"{sizes[plane.name]:,} bytes"
        return
    stays, goes = stays_and_goes(crop, protected, spec)
    yield f"private: {len(spec.client_channels)} of 64 channels", stays, "stays here"
    yield f"sent: {len(spec.server_channels)} of 64 channels", goes, f"{sizes[COEFFICIENTS]:,} bytes"
    for name in spec.mask_grids:
        yield f"sent: {name}", decode(protected.planes[name], spec.plane(name))[0], f"{sizes[name]:,} bytes"


def _as_cells(codes: Codes) -> NDArray[np.float64]:
    """Codes that have no place in a picture as a sheet of grey cells in [0, 1], near to square."""
    values = codes.astype(np.float64).reshape(-1)
    height = max(side for side in range(1, int(len(values) ** 0.5) + 1) if len(values) % side == 0)
    low, high = values.min(), values.max()
    return np.asarray((values.reshape(height, -1) - low) / max(high - low, 1.0))


def _with_outline(rgb_u8_hwc: Picture, face: CapturedFace) -> Picture:
    """The surroundings of the face, at most WIDEST_PX wide, with box and five points drawn in."""
    centre, half = face.detection.centre_px, 1.2 * max(face.detection.width_px, face.detection.height_px)
    low = np.clip(np.floor(centre - half), 0, None).astype(int)
    high = np.ceil(centre + half).astype(int)
    part = np.ascontiguousarray(rgb_u8_hwc[low[1] : high[1], low[0] : high[0]])
    scale = min(1.0, WIDEST_PX / part.shape[1])
    canvas = np.ascontiguousarray(cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    left, top, right, bottom = (np.rint((face.detection.box_xyxy_px - np.tile(low, 2)) * scale)).astype(int).tolist()
    cv2.rectangle(canvas, (left, top), (right, bottom), (90, 200, 250), 2)
    for x, y in np.rint((face.five_points_px - low) * scale).astype(int).tolist():
        cv2.circle(canvas, (x, y), 3, (250, 220, 60), cv2.FILLED)
    return np.asarray(canvas, np.uint8)


def _show(axes: Any, title: str, picture: NDArray[Any], below: str) -> None:
    """Draw one panel; masks are grey from 0 to 1."""
    if title == "decision":
        axes.text(0.5, 0.5, below, ha="center", va="center", wrap=True, transform=axes.transAxes, fontsize=12)
        axes.set_axis_off()
        return
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1 if picture.ndim == 2 else 255, interpolation="nearest")
    axes.set(title=title, xlabel=below, xticks=[], yticks=[])
    axes.title.set_fontsize(9)
    axes.xaxis.label.set_fontsize(9)


def _save(figure: "Figure", path: Path) -> None:
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:  # ValueError: a suffix that matplotlib cannot write
        raise ConfigError(f"{path}: the picture cannot be written ({error})") from error
