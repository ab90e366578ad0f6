"""Video files and network streams by PyAV (FFmpeg): never trusted, always with a time limit."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from duetface.errors import CaptureError, DeviceError
from edge_agent.backoff import Backoff
from edge_agent.sources import PICTURE_PIXELS, Frame, MonotonicNs

STREAM_SCHEMES: Final = frozenset({"rtsp", "rtsps", "http", "https"})
OPEN_TIMEOUT_S: Final = 10.0
READ_TIMEOUT_S: Final = 10.0
# A file may end this much before the length that its header tells, seconds and share: audio often runs longer.
SHORTFALL_S: Final = 1.0
SHORTFALL_SHARE: Final = 0.05

logger = logging.getLogger(__name__)


class VideoSource:
    """A video file, every frame in order."""

    live = False

    def __init__(self, path: Path, monotonic_ns: MonotonicNs = time.monotonic_ns) -> None:
        self.name = str(path)
        self._path = path
        self._monotonic_ns = monotonic_ns
        self._closed = threading.Event()

    def frames(self) -> Iterator[Frame]:
        """Yield every frame.  Raises CaptureError if it is no video, is damaged, or ends before its time."""
        last_s = 0.0
        # "file:" and the list of protocols: neither a name nor a playlist may reach into the network.
        with _opened(f"file:{self._path}", self.name, {"protocol_whitelist": "file"}, CaptureError) as container:
            for index, picture in enumerate(_pictures(container, self.name)):
                if self._closed.is_set():
                    return
                last_s = picture.time or last_s
                yield Frame(_upright(picture), self._monotonic_ns(), round(last_s * 1e9), index, self.name)
            expected_s = container.duration / av.time_base if container.duration else 0.0
        missing_s = expected_s - last_s
        if missing_s > max(SHORTFALL_S, SHORTFALL_SHARE * expected_s):
            raise CaptureError(f"{self.name}: cut short, it ends after {last_s:.1f} s of {expected_s:.1f} s")

    def close(self) -> None:
        """End `frames` after the present one."""
        self._closed.set()


class StreamSource:
    """An RTSP or HTTP stream that is opened again, with back-off, whenever it breaks."""

    live = True

    def __init__(
        self,
        url: str,
        backoff: Backoff | None = None,
        monotonic_ns: MonotonicNs = time.monotonic_ns,
        on_lost: Callable[[str, float], None] = lambda reason, delay_s: None,
    ) -> None:
        """on_lost: told why the stream broke and in how many seconds it is tried again."""
        self.name = without_secrets(url)
        self._url = url
        self._backoff = backoff or Backoff()
        self._monotonic_ns = monotonic_ns
        self._on_lost = on_lost
        self._closed = threading.Event()
        self._index = 0

    def frames(self) -> Iterator[Frame]:
        """Yield frames until closed.

        Raises DeviceError only if the first opening fails: a wrong address should be told, a camera
        that went away is waited for.
        """
        while not self._closed.is_set():
            try:
                yield from self._connection()
                reason = "the stream ended"
            except DeviceError as error:
                if self._index == 0:
                    raise
                reason = str(error)
            delay_s = self._backoff.next_delay_s()
            logger.warning("stream lost", extra={"source": self.name, "delay_s": round(delay_s, 1)})
            self._on_lost(reason, delay_s)
            self._closed.wait(delay_s)

    def close(self) -> None:
        """End `frames`; at the latest when a read times out."""
        self._closed.set()

    def _connection(self) -> Iterator[Frame]:
        options = {"rtsp_transport": "tcp", "fflags": "nobuffer"}  # late packets are of no use to a decision
        with _opened(self._url, self.name, options, DeviceError) as container:
            for picture in _pictures(container, self.name):
                if self._closed.is_set():
                    return
                self._backoff.reset()
                captured_at = self._monotonic_ns()
                yield Frame(_upright(picture), captured_at, captured_at, self._index, self.name)
                self._index += 1


def without_secrets(url: str) -> str:
    """Return scheme, host, port and path only: user, password and query may hold secrets."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


@contextmanager
def _opened(address: str, name: str, options: dict[str, str], kind: type[CaptureError]) -> Iterator[InputContainer]:
    """Open a container and turn each failure of FFmpeg inside into one line of `kind`."""
    try:
        with av.open(address, options=options, timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S)) as container:
            yield container
    except FileNotFoundError as error:
        raise kind(f"{name}: there is no such file") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        detail = getattr(error, "strerror", None) or str(error)
        wanted = "the stream cannot be read" if kind is DeviceError else "not a video, or damaged"
        raise kind(f"{name}: {wanted} ({detail})") from error


def _pictures(container: InputContainer, name: str) -> Iterator[av.VideoFrame]:
    if not container.streams.video:
        raise CaptureError(f"{name}: there is no video in it")
    stream = container.streams.video[0]
    if stream.codec_context.width * stream.codec_context.height > PICTURE_PIXELS:
        raise CaptureError(f"{name}: more than {PICTURE_PIXELS // 1_000_000} million pixels a frame")
    stream.codec_context.thread_count = 1  # the device's other work needs its cores
    return container.decode(stream)


def _upright(picture: av.VideoFrame) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 RGB, turned as the video's display matrix says."""
    rgb = np.asarray(picture.to_ndarray(format="rgb24"), np.uint8)
    quarter_turns = round(getattr(picture, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(rgb, quarter_turns)) if quarter_turns else rgb
