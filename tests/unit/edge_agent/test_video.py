"""Videos end early, streams break, and both may be somebody's attempt at something else."""

import itertools
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest

from duetface.errors import CaptureError, DeviceError
from edge_agent.backoff import Backoff
from edge_agent.video import StreamSource, VideoSource, without_secrets

FRAMES = 60
FRAMES_PER_S = 20


def write_video(path: Path, frames: int = FRAMES) -> Path:
    """Frame k is of one grey, 3 * k."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FRAMES_PER_S)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(frames):
            picture = np.full((48, 64, 3), 3 * (index % 80), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_every_frame_of_a_video_comes_in_order(tmp_path: Path) -> None:
    """With its place on the video's own time line, however fast it is read."""
    frames = list(VideoSource(write_video(tmp_path / "v.mp4")).frames())
    assert [frame.index for frame in frames] == list(range(FRAMES))
    assert np.allclose([frame.position_ns / 1e9 for frame in frames], np.arange(FRAMES) / FRAMES_PER_S, atol=1e-3)
    assert all(abs(int(frame.rgb_u8_hwc.mean()) - 3 * frame.index) <= 4 for frame in frames)


@pytest.mark.parametrize("suffix", ["mkv", "avi"])
def test_a_truncated_video_gives_what_it_has_and_then_says_so(tmp_path: Path, suffix: str) -> None:
    """Half a recording must not look like the whole one."""
    whole = write_video(tmp_path / f"v.{suffix}", 200).read_bytes()
    half = tmp_path / f"half.{suffix}"
    half.write_bytes(whole[: len(whole) // 2])
    seen = []
    with pytest.raises(CaptureError, match=r"half\.\w+: (cut short|not a video, or damaged)") as refusal:
        seen.extend(VideoSource(half).frames())
    assert 0 < len(seen) < 200
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"not a video at all, only words" * 50])
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    """An MP4 without its index (cut off at the end) is refused the same way."""
    path = tmp_path / "v.mp4"
    path.write_bytes(content)
    with pytest.raises(CaptureError, match=r"v\.mp4: not a video, or damaged"):
        list(VideoSource(path).frames())
    whole = write_video(tmp_path / "whole.mp4").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CaptureError, match=r"v\.mp4: not a video, or damaged"):
        list(VideoSource(path).frames())


def test_a_missing_video_is_named(tmp_path: Path) -> None:
    """One line, with the name."""
    with pytest.raises(CaptureError, match=r"gone\.mp4: there is no such file"):
        list(VideoSource(tmp_path / "gone.mp4").frames())


def test_a_sound_file_has_no_video(tmp_path: Path) -> None:
    """A container is not enough."""
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(CaptureError, match="no video in it"):
        list(VideoSource(path).frames())


def test_a_file_cannot_make_the_agent_call_out(tmp_path: Path) -> None:
    """A playlist that names an address is a request forged by whoever wrote the file."""
    requests = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with serving(Handler) as address:
        path = tmp_path / "list.m3u8"
        path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}/secret.ts\n#EXT-X-ENDLIST\n", "utf-8")
        with pytest.raises(CaptureError):
            list(VideoSource(path).frames())
    assert requests == []


def test_a_closed_video_ends(tmp_path: Path) -> None:
    """`close` stops a reader in the middle."""
    source = VideoSource(write_video(tmp_path / "v.mp4"))
    frames = source.frames()
    next(frames)
    source.close()
    assert list(frames) == []


class serving:
    """A small HTTP server on the loopback."""

    def __init__(self, handler: type[SimpleHTTPRequestHandler] | partial[SimpleHTTPRequestHandler]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, *unused: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Quiet(SimpleHTTPRequestHandler):
    """A file server that prints nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def test_a_stream_that_ends_is_opened_again(tmp_path: Path) -> None:
    """A camera that was switched off comes back by itself; the indices go on."""
    write_video(tmp_path / "v.mkv", 10)
    lost: list[tuple[str, float]] = []
    with serving(partial(Quiet, directory=str(tmp_path))) as address:
        source = StreamSource(
            f"{address}/v.mkv", Backoff(0.01, 0.01), on_lost=lambda reason, delay_s: lost.append((reason, delay_s))
        )
        frames = list(itertools.islice(source.frames(), 25))
        source.close()
    assert [frame.index for frame in frames] == list(range(25))
    assert len(lost) == 2
    assert all(0 < delay_s < 0.1 for _, delay_s in lost)


def test_a_stream_that_was_never_there_is_an_error(tmp_path: Path) -> None:
    """A wrong address should be told at once: exit code 4."""
    with pytest.raises(DeviceError, match=r"http://127\.0\.0\.1:1/video: the stream cannot be read"):
        list(StreamSource("http://user:secret@127.0.0.1:1/video?token=secret").frames())


@pytest.mark.parametrize("url", ["rtsp://me:pw@host:554/a", "rtsp://me@host:554/a?key=pw", "rtsp://host:554/a#pw"])
def test_a_streams_name_holds_no_secret(url: str) -> None:
    """Names are logged and written into JSON lines."""
    assert without_secrets(url) == "rtsp://host:554/a"
    assert StreamSource(url).name == "rtsp://host:554/a"


def delays(backoff: Backoff) -> Iterator[float]:
    """Every delay."""
    while True:
        yield backoff.next_delay_s()


def test_delays_double_up_to_the_cap_and_start_over_after_a_success() -> None:
    """Means, with chance taken out."""
    backoff = Backoff(0.5, 4.0, uniform=lambda low, high: (low + high) / 2)
    assert list(itertools.islice(delays(backoff), 6)) == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    backoff.reset()
    assert backoff.next_delay_s() == 0.5


def test_a_night_without_network_overflows_nothing() -> None:
    """Ten thousand failures are still at most one and a half caps."""
    backoff = Backoff(0.5, 30.0)
    longest = max(itertools.islice(delays(backoff), 10_000))
    assert 30.0 < longest <= 45.0


def test_two_agents_do_not_return_in_step() -> None:
    """Jitter: after a fallen switch a fleet must not knock as one."""
    first, second = (list(itertools.islice(delays(Backoff()), 5)) for _ in range(2))
    assert first != second
