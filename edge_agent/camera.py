"""Cameras, and the one place between a source and the pipeline: the newest frame wins."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from duetface.errors import CaptureError, DeviceError
from edge_agent.sources import PICTURE_SUFFIXES, FolderSource, Frame, FrameSource, MonotonicNs, PictureSource
from edge_agent.video import STREAM_SCHEMES, StreamSource, VideoSource

FAILED_READS: Final = 5  # in a row; a webcam drops a frame now and then

logger = logging.getLogger(__name__)


class Capture(Protocol):
    """What is used of cv2.VideoCapture."""

    def isOpened(self) -> bool:
        """Whether the camera is there."""

    def read(self) -> tuple[bool, NDArray[np.uint8]]:
        """Whether a frame came, and the frame, BGR."""

    def release(self) -> None:
        """Let go of the camera."""


def _system_camera(index: int) -> Capture:
    cv2.utils.logging.setLogLevel(
        cv2.utils.logging.LOG_LEVEL_SILENT
    )  # it would print its own lines about a camera that is not there
    return cast(Capture, cv2.VideoCapture(index))


class CameraSource:
    """A camera of this machine, by index (V4L2 on Linux)."""

    live = True

    def __init__(
        self,
        index: int,
        open_capture: Callable[[int], Capture] = _system_camera,
        monotonic_ns: MonotonicNs = time.monotonic_ns,
    ) -> None:
        """open_capture: opens the camera of an index."""
        self.name = f"camera {index}"
        self._index = index
        self._open_capture = open_capture
        self._monotonic_ns = monotonic_ns
        self._closed = threading.Event()

    def frames(self) -> Iterator[Frame]:
        """Yield frames until closed.  Raises DeviceError if the camera is not there or goes away."""
        capture = self._open_capture(self._index)
        try:
            if not capture.isOpened():
                device = f"/dev/video{self._index}"
                raise DeviceError(f"{self.name} cannot be opened: is it plugged in, free, and is {device} readable?")
            yield from self._read(capture)
        finally:
            capture.release()

    def close(self) -> None:
        """End `frames` after the present one."""
        self._closed.set()

    def _read(self, capture: Capture) -> Iterator[Frame]:
        count, failures = 0, 0
        while not self._closed.is_set():
            arrived, bgr = capture.read()
            if not arrived:
                failures += 1
                if failures >= FAILED_READS:
                    raise DeviceError(f"{self.name} went away after {count} frames: check the cable")
                continue
            failures = 0
            captured_at = self._monotonic_ns()
            yield Frame(np.ascontiguousarray(bgr[:, :, ::-1]), captured_at, captured_at, count, self.name)
            count += 1


def open_source(spec: str) -> FrameSource:
    """Return the source for a camera index, a device path, a URL, a picture, a folder or a video file.

    Raises CaptureError if there is no such file, or the URL's scheme is none of STREAM_SCHEMES.
    """
    if spec.isdecimal():
        return CameraSource(int(spec))
    if spec.startswith("/dev/video") and spec.removeprefix("/dev/video").isdecimal():
        return CameraSource(int(spec.removeprefix("/dev/video")))
    if "://" in spec:
        if spec.split("://", 1)[0].lower() not in STREAM_SCHEMES:
            raise CaptureError(f"unknown kind of stream: expected one of {', '.join(sorted(STREAM_SCHEMES))}")
        return StreamSource(spec)
    path = Path(spec)
    if not path.exists():
        raise CaptureError(f"{path}: there is no such file; expected a camera number, a file, a folder or a URL")
    if path.is_dir():
        return FolderSource(path, _log_refused)
    return PictureSource(path) if path.suffix.lower() in PICTURE_SUFFIXES else VideoSource(path)


def _log_refused(error: CaptureError) -> None:
    logger.warning("picture refused", extra={"reason": str(error)})


class FrameFeed(Protocol):
    """How the agent gets its next frame."""

    live: bool
    dropped: int
    ended: bool

    def take(self, timeout_s: float) -> Frame | None:
        """Return the next frame, or None when none came in time or the source has ended."""

    def close(self) -> None:
        """Close the source."""


class EveryFrame:
    """The frames of a file, each of them, read when asked for."""

    live = False

    def __init__(self, source: FrameSource) -> None:
        self.dropped = 0
        self.ended = False
        self._source = source
        self._frames = source.frames()

    def take(self, timeout_s: float) -> Frame | None:
        """Return the next frame; a file needs no waiting.  Raises CaptureError as the source does."""
        frame = next(self._frames, None)
        self.ended = frame is None
        return frame

    def close(self) -> None:
        """Close the source."""
        self._source.close()


class LatestFrame:
    """Holds one frame of a live source, read by a thread of its own.

    When a frame is not taken before the next one comes, the older is dropped and counted: a decision
    on a face two frames old opens the door for whoever stood there before.
    """

    live = True

    def __init__(self, source: FrameSource) -> None:
        self.dropped = 0
        self.ended = False
        self._source = source
        self._frame: Frame | None = None
        self._error: CaptureError | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._fill, name="capture", daemon=True)
        self._thread.start()

    def take(self, timeout_s: float) -> Frame | None:
        """Return the newest frame once, waiting for it; None if none came in time or the source ended.

        Raises the source's CaptureError after its last frame was taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self.ended, timeout_s)
            frame, self._frame = self._frame, None
            if frame is None and self._error is not None:
                raise self._error
            return frame

    def close(self) -> None:
        """Close the source and wait a moment for its thread; a blocked driver is left behind."""
        self._source.close()
        self._thread.join(timeout=2.0)

    def _fill(self) -> None:
        try:
            for frame in self._source.frames():
                with self._changed:
                    self.dropped += self._frame is not None
                    self._frame = frame
                    self._changed.notify_all()
        except CaptureError as error:
            self._error = error
        finally:
            with self._changed:
                self.ended = True
                self._changed.notify_all()


def open_feed(source: FrameSource) -> FrameFeed:
    """Return the newest frame of a live source, or every frame of a file."""
    return LatestFrame(source) if source.live else EveryFrame(source)
