"""The pictures of the report: portraits, what is on the wire of each, and what attacks make of it."""

from __future__ import annotations

import base64
import html
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from duetface.errors import ConfigError
from privacy import linear
from privacy.fit import variant
from privacy.messages import device_for, message_of
from privacy.observation import Observed, observe
from privacy.people import portrait_captures
from privacy.ridge import Arrays
from privacy.scene import embedder_of, stored_templates
from privacy.untrained import best_linear

PORTRAITS = ("biden.jpg", "obama.jpg", "astronaut.png")
CROP = 112


Columns = dict[str, NDArray[np.generic]]
"""Title -> (portraits, 112, 112, 3)."""


def portrait_columns(split: str, folder: Path, models: Path, runs: Sequence[Path]) -> Columns:
    """Portraits, what is on the wire of each, and what each attack makes of the message.

    runs: decoders of any split; those of this one are shown.
    Raises ConfigError if the portraits are absent.
    """
    pictures = [folder / name for name in PORTRAITS]
    if not all(path.exists() for path in pictures):
        raise ConfigError(f"{folder} lacks portraits: run `make portraits`")
    captures = portrait_captures(pictures, models)
    device = device_for(split, models)
    observed = observe([message_of(capture, device) for capture in captures], device.spec)
    real = np.stack([capture.aligned.rgb_u8_hwc for capture in captures])
    columns: Columns = {
        "crop": real,
        "on the wire": np.stack([wire_picture(observed, row) for row in range(len(observed))]),
    }
    for name in device.spec.mask_grids:
        columns[name] = np.stack([tiled(codes) for codes in observed.codes[name]])
    if linear.is_linear(device.spec):
        colour = real.reshape(len(real), -1, 3).mean(axis=1)
        columns["linear, mean colour known"] = best_linear(observed, real, colour)[0]
    for run in runs:
        settings = _settings_of(run, device.spec.digest.hex())
        if settings is not None:
            title = ", ".join(filter(None, (f"decoder from the {settings['view']}", variant(settings))))
            columns[title] = _decoded(run, observed, models)
    return columns


def portraits_table(columns: Columns) -> str:
    """A row a portrait."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{_image(picture)}</td>" for picture in row) + "</tr>"
        for row in zip(*columns.values(), strict=True)
    )
    return f"<table><tr>{head}</tr>{rows}</table>"


def portraits_picture(columns: Columns, path: Path) -> None:
    """The same as one PNG, for a page that cannot hold HTML."""
    from matplotlib.figure import Figure

    count = len(next(iter(columns.values())))
    figure = Figure(figsize=(1.5 * len(columns), 1.55 * count + 0.4))
    places = figure.subplots(count, len(columns), squeeze=False)
    for column, (title, pictures) in zip(places.T, columns.items(), strict=True):
        column[0].set_title(textwrap.fill(title, 18), fontsize=8)
        for axes, picture in zip(column, pictures, strict=True):
            axes.imshow(_as_bytes(picture))
            axes.axis("off")
    figure.savefig(path, dpi=110, bbox_inches="tight")


def wire_picture(observed: Observed, row: int) -> NDArray[np.uint8]:
    """(112, 112, 3): the message shown as well as it can be without an attack.

    A fixed split: zero-filled inverse transform about mid-grey. Any other: its codes as grey cells side by side.
    """
    spec = observed.split
    if spec.colour == "rgb":
        return _as_bytes((observed.values("rgb")[row].transpose(1, 2, 0) + 1) * 127.5)
    if linear.is_linear(spec):
        values = observed.values(spec.planes[0].name, slice(row, row + 1)).astype(np.float64)
        shown = linear.solve(spec, values, np.full(3, 128.0), smoothness=0.0, iterations=1)[0]
        return _as_bytes(shown)
    return tiled(observed.codes[spec.planes[0].name][row])


def tiled(codes: NDArray[np.generic]) -> NDArray[np.uint8]:
    """(C, H, W) codes as one grey picture, channels side by side, scaled to the crop's size."""
    channels, height, width = codes.shape
    across = int(np.ceil(np.sqrt(channels)))
    sheet = np.zeros((across * height, across * width))
    for channel in range(channels):
        top, left = divmod(channel, across)
        sheet[top * height : (top + 1) * height, left * width : (left + 1) * width] = codes[channel]
    low, high = float(sheet.min()), float(sheet.max())
    grey = np.rint((sheet - low) / max(high - low, 1e-9) * 255).astype(np.uint8)
    scaled = cv2.resize(grey, (CROP, CROP), interpolation=cv2.INTER_NEAREST)
    return np.repeat(scaled[..., None], 3, axis=2).astype(np.uint8)


def _settings_of(run: Path, split_digest: str) -> dict[str, Any] | None:
    """Of a decoder of this split; None for any other run."""
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    settings: dict[str, Any] = result["settings"]
    return settings if result["split_digest"] == split_digest and "view" in settings else None


def _decoded(run: Path, observed: Observed, models: Path) -> NDArray[np.uint8]:
    """What a finished decoder run makes of the portraits' messages."""
    from privacy.decoder import reconstruct
    from privacy.pack import Group
    from privacy.trained import load_decoder

    none = np.zeros((len(observed), 0), np.float32)
    template = stored_templates(observed, embedder_of(observed.split, models), lambda _line: None)
    names = tuple(str(row) for row in range(len(observed)))
    group = Group(names, observed.codes, observed.quality, template, none, observed.wire_bytes)
    decoder, view = load_decoder(run)
    looked_at: Arrays = group.view(view)
    return reconstruct(decoder, looked_at)


def _image(rgb: NDArray[np.generic]) -> str:
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(_as_bytes(rgb)[..., ::-1]))
    return f"<img class='face' alt='' src='data:image/png;base64,{base64.b64encode(encoded.tobytes()).decode()}'>"


def _as_bytes(rgb: NDArray[np.generic]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(np.rint(np.asarray(rgb, np.float64)), 0, 255), np.uint8)
