"""A decision must be about who stands there now, and a camera that is gone must be noticed."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from duetface.errors import CaptureError, DeviceError
from edge_agent.camera import CameraSource, EveryFrame, LatestFrame, open_feed, open_source
from edge_agent.sources import FolderSource, Frame, PictureSource
from edge_agent.video import StreamSource, VideoSource

BLACK = np.zeros((4, 4, 3), np.uint8)


class ScriptedCamera:
    """What OpenCV's capture does, by a list: a frame, or None for a read that failed."""

    def __init__(self, script: list[np.ndarray | None], *, there: bool = True) -> None:
        self.released = False
        self._script = iter(script)
        self._there = there

    def isOpened(self) -> bool:
        return self._there

    def read(self) -> tuple[bool, np.ndarray]:
        frame = next(self._script, None)
        return frame is not None, BLACK if frame is None else frame

    def release(self) -> None:
        self.released = True


class ScriptedSource:
    """Yields frames as the test lets it."""

    name = "scripted"
    live = True

    def __init__(self, error: CaptureError | None = None) -> None:
        self.closed = threading.Event()
        self._error = error
        self._next = threading.Semaphore(0)
        self._sent = 0

    def let(self, count: int) -> None:
        """Let `count` frames come."""
        for _ in range(count):
            self._next.release()

    def frames(self) -> Iterator[Frame]:
        while True:
            self._next.acquire()
            if self.closed.is_set():
                return
            if self._error is not None and self._sent == 3:
                raise self._error
            yield Frame(BLACK, 0, 0, self._sent, self.name)
            self._sent += 1

    def close(self) -> None:
        self.closed.set()
        self._next.release()


def wait_until(condition) -> None:
    """For at most two seconds."""
    give_up = time.monotonic() + 2
    while not condition() and time.monotonic() < give_up:
        time.sleep(0.002)
    assert condition()


def test_colours_come_in_the_order_that_names_say() -> None:
    """OpenCV gives BGR; a red face recognised as blue is recognised badly."""
    blue_first = np.zeros((2, 2, 3), np.uint8)
    blue_first[:, :, 0] = 255
    camera = ScriptedCamera([blue_first])
    frame = next(CameraSource(0, lambda index: camera, monotonic_ns=lambda: 42).frames())
    assert frame.rgb_u8_hwc[0, 0].tolist() == [0, 0, 255]
    assert frame.captured_at_monotonic_ns == frame.position_ns == 42


def test_a_camera_that_is_not_there_is_a_device_error() -> None:
    """Exit code 4 and what to look at."""
    camera = ScriptedCamera([], there=False)
    with pytest.raises(DeviceError, match=r"camera 3 cannot be opened: .*plugged in.*/dev/video3"):
        list(CameraSource(3, lambda index: camera).frames())
    assert camera.released


def test_a_camera_that_goes_away_is_noticed() -> None:
    """Some lost reads are normal, many in a row are a pulled cable."""
    camera = ScriptedCamera([BLACK, None, None, BLACK, *[None] * 5])
    seen = []
    with pytest.raises(DeviceError, match="camera 0 went away after 2 frames"):
        seen.extend(CameraSource(0, lambda index: camera).frames())
    assert len(seen) == 2
    assert camera.released


def test_a_real_camera_that_is_not_there_prints_nothing_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    """OpenCV would write warnings; a person gets our one line only."""
    with pytest.raises(DeviceError):
        list(CameraSource(97).frames())
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_the_newest_frame_wins_and_the_others_are_counted() -> None:
    """The pipeline is slower than the camera."""
    source = ScriptedSource()
    feed = LatestFrame(source)
    source.let(5)
    wait_until(lambda: feed.dropped == 4)
    frame = feed.take(1.0)
    assert frame is not None
    assert frame.index == 4
    assert feed.take(0.01) is None  # no frame is seen twice
    assert not feed.ended
    feed.close()


def test_a_frame_is_awaited() -> None:
    """And then given at once."""
    source = ScriptedSource()
    feed = LatestFrame(source)
    threading.Timer(0.05, source.let, [1]).start()
    frame = feed.take(2.0)
    assert frame is not None
    feed.close()
    assert source.closed.is_set()


def test_a_cameras_end_is_told_after_its_last_frame() -> None:
    """No frame is lost to an error, and no error to a frame."""
    source = ScriptedSource(DeviceError("camera 0 went away"))
    feed = LatestFrame(source)
    source.let(4)
    wait_until(lambda: feed.ended)
    frame = feed.take(1.0)
    assert frame is not None
    assert frame.index == 2
    with pytest.raises(DeviceError, match="went away"):
        feed.take(1.0)


def test_every_frame_of_a_file_is_taken(tmp_path: Path) -> None:
    """A file waits; a camera does not."""
    for name in "abc":
        Image.fromarray(BLACK).save(tmp_path / f"{name}.png")
    feed = open_feed(FolderSource(tmp_path))
    assert isinstance(feed, EveryFrame)
    frames = [feed.take(0.0) for _ in range(4)]
    assert [frame and frame.index for frame in frames] == [0, 1, 2, None]
    assert feed.ended
    assert feed.dropped == 0


def test_the_source_is_chosen_by_what_is_given(tmp_path: Path) -> None:
    """One option, six kinds."""
    Image.fromarray(BLACK).save(tmp_path / "a.PNG")
    (tmp_path / "v.mp4").write_bytes(b"")
    assert open_source("0").name == "camera 0"
    assert open_source("/dev/video2").name == "camera 2"
    assert isinstance(open_source("rtsp://host/stream"), StreamSource)
    assert isinstance(open_source(str(tmp_path)), FolderSource)
    assert isinstance(open_source(str(tmp_path / "a.PNG")), PictureSource)
    assert isinstance(open_source(str(tmp_path / "v.mp4")), VideoSource)


@pytest.mark.parametrize("spec", ["ftp://host/x", "file:///etc/passwd", "concat:a|b", "nobody.jpg", ""])
def test_what_is_no_source_is_refused(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg knows many more protocols than anybody should hand it."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CaptureError, match="expected"):
        open_source(spec)
