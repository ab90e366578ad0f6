"""What the agent sees, drawn for people: the face's box, and in words what is wrong or was decided."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from duetface.errors import ConfigError
from duetface.types import Outcome
from edge_agent.detector import Detection

Picture = NDArray[np.uint8]
RGB: Final = {Outcome.ACCEPT: (60, 200, 90), Outcome.REJECT: (230, 70, 60), Outcome.RETRY: (240, 190, 50)}
NEUTRAL_RGB: Final = (220, 220, 220)
WIDEST_PX: Final = 960
FILE_EVERY_S: Final = 0.5


class Preview(Protocol):
    """Somewhere to show pictures."""

    def show(self, rgb_u8_hwc: Picture) -> bool:
        """Show one picture; false if the person has closed the preview."""

    def close(self) -> None:
        """Take it away."""


def draw(rgb_u8_hwc: Picture, detection: Detection | None, text: str, outcome: Outcome | None) -> Picture:
    """Return a copy at most WIDEST_PX wide with the box and a line of text."""
    scale = min(1.0, WIDEST_PX / rgb_u8_hwc.shape[1])
    size = max(1, round(rgb_u8_hwc.shape[1] * scale)), max(1, round(rgb_u8_hwc.shape[0] * scale))
    canvas = np.ascontiguousarray(cv2.resize(rgb_u8_hwc, size, interpolation=cv2.INTER_AREA))
    colour = NEUTRAL_RGB if outcome is None else RGB[outcome]
    if detection is not None:
        left, top, right, bottom = (round(float(value) * scale) for value in detection.box_xyxy_px)
        cv2.rectangle(canvas, (left, top), (right, bottom), colour, 2)
    cv2.rectangle(canvas, (0, size[1] - 34), (size[0], size[1]), (20, 20, 20), cv2.FILLED)
    plain = text.encode("ascii", "replace").decode("ascii")  # OpenCV's drawn letters are ASCII only
    cv2.putText(canvas, plain, (10, size[1] - 11), cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, 1, cv2.LINE_AA)
    return np.asarray(canvas, np.uint8)


class PreviewFile:
    """Keeps one JPEG up to date, replaced as a whole so that a reader never sees half of it."""

    def __init__(self, path: Path, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic_s = monotonic_s
        self._next_s = 0.0
        if not path.parent.is_dir():
            raise ConfigError(f"--preview {path}: there is no folder {path.parent}")

    def show(self, rgb_u8_hwc: Picture) -> bool:
        """Write the picture unless the last one is younger than FILE_EVERY_S."""
        now_s = self._monotonic_s()
        if now_s < self._next_s:
            return True
        self._next_s = now_s + FILE_EVERY_S
        encoded = cv2.imencode(".jpg", rgb_u8_hwc[:, :, ::-1])[1].tobytes()
        try:
            # Only the owner may read it (0600): it is the one file with a face that the agent writes.
            with tempfile.NamedTemporaryFile(dir=self._path.parent, suffix=".part", delete=False) as file:
                file.write(encoded)
            Path(file.name).replace(self._path)
        except OSError as error:
            raise ConfigError(f"--preview {self._path}: {error.strerror or error}") from error
        return True

    def close(self) -> None:
        """Remove the file: it shows a person."""
        self._path.unlink(missing_ok=True)


class Window:
    """A window of the desktop by tkinter; the headless OpenCV that is installed has none."""

    def __init__(self, title: str) -> None:
        """Raises ConfigError if there is no tkinter or no display."""
        try:
            import tkinter
        except ImportError as error:
            raise ConfigError("--window needs tkinter: install python3-tk, or use --preview FILE") from error
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise ConfigError("--window needs a display ($DISPLAY); without one use --preview FILE") from error
        self._root.title(title)
        self._open = True
        self._root.protocol("WM_DELETE_WINDOW", self._on_delete)
        self._label = tkinter.Label(self._root)
        self._label.pack()
        self._photo: Any = None  # tkinter keeps no reference of its own

    def show(self, rgb_u8_hwc: Picture) -> bool:
        """Show the picture and let the window answer; false once it was closed."""
        from PIL import Image, ImageTk

        if self._open:
            self._photo = ImageTk.PhotoImage(Image.fromarray(rgb_u8_hwc))
            self._label.configure(image=self._photo)
            self._root.update()
        return self._open

    def close(self) -> None:
        """Close the window."""
        if self._open:
            self._on_delete()

    def _on_delete(self) -> None:
        self._open = False
        self._root.destroy()
