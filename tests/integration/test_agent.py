"""The whole agent on real faces: video in, decisions and commands out, with the shipped networks."""

import io
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from rich.console import Console

from duetface.alignment import warp
from duetface.authority import Authority
from duetface.client import Client, Consent
from duetface.errors import CaptureError, DeviceError, DuetFaceError
from duetface.identity import ClientIdentity, Role
from duetface.manifest import models_root
from edge_agent.agent import Agent, Tally, run_agent
from edge_agent.config import AgentConfig
from edge_agent.detector import Detection, FaceDetector
from edge_agent.pipeline import Protector
from edge_agent.report import JsonLines, StatusLine
from edge_agent.sources import read_picture
from recognition_service.config import load_config
from recognition_service.models import load_network
from recognition_service.running import RunningService
from recognition_service.state import create_state

RATE = 10  # frames a second


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, portraits: dict[str, Path]) -> Iterator[tuple[str, Path]]:
    """Address of a service that knows one person, and the folder of an agent's certificate."""
    state = tmp_path_factory.mktemp("site") / "state"
    now = datetime.now(UTC)
    create_state(state, "site.example", now)
    authority = Authority.load(state / "ca")
    authority.issue_client([Role.AGENT], "door-1", state / "clients" / "door-1", now)
    config = load_config(state)
    with RunningService(config, load_network(config.models)) as service:
        protector = Protector.load(models_root())
        with Client.connect(service.address, ClientIdentity.load(state / "clients" / "operator"), 60.0) as client:
            client.create_subject("obama", "", Consent("tests", "1", now))
            for name in ("obama", "obama2"):
                probe = protector.protect(read_picture(portraits[name])).probe
                assert probe is not None
                client.add_template("obama", probe)
        yield service.address, state / "clients" / "door-1"


Run = Callable[..., tuple[Tally | DuetFaceError, list[dict[str, Any]], str]]


@pytest.fixture
def run(site: tuple[str, Path]) -> Run:
    """Runs an agent to its end; returns its tally or error, its lines, and what it said."""

    def ran(source: object, on_ready: Callable[[Agent], None] = lambda agent: None, **settings: Any):
        address, identity = site
        settings = {"address": address, "identity_folder": identity, **settings}
        config = AgentConfig(source=str(source), **settings)
        lines, said = io.StringIO(), io.StringIO()
        status = StatusLine(Console(file=said, force_terminal=False, width=200))
        end: Tally | DuetFaceError
        try:
            end = run_agent(config, models_root(), {}, JsonLines(lines), status, on_ready)
        except DuetFaceError as error:
            end = error
        return end, [json.loads(line) for line in lines.getvalue().splitlines()], said.getvalue()

    return ran


def film(path: Path, scenes: list[tuple[Path | None, float]]) -> Path:
    """A video of portraits (or nobody), each for so many seconds; the face takes 180 of 480 px and drifts."""
    detector = FaceDetector.load(models_root())
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 640, 480, "yuv420p", 4_000_000
        for portrait, seconds in scenes:
            face = None if portrait is None else read_picture(portrait)
            to_frame = None if face is None else placed(detector.detect(face)[0])
            for index in range(round(seconds * RATE)):
                picture = np.full((480, 640, 3), 100, np.uint8)
                if face is not None:
                    moved = to_frame + np.array([[0, 0, 4.0 * index], [0, 0, 0]])
                    picture = warp(face, moved, 640)[:480]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def placed(face: Detection) -> np.ndarray:
    """The transform that brings a portrait's face to the left of the frame's middle."""
    scale = 180.0 / face.width_px
    return np.array([[scale, 0, 250 - scale * face.centre_px[0]], [0, scale, 240 - scale * face.centre_px[1]]])


def test_each_person_of_a_video_is_decided_once_and_rightly(
    run: Run, portraits: dict[str, Path], tmp_path: Path
) -> None:
    """The one who is enrolled by name, the other not, and the door's command for the first only.

    How well new pictures of a person are recognised is test_portraits' question, not the loop's.
    """
    video = film(
        tmp_path / "v.mp4",
        [(None, 0.5), (portraits["obama"], 1.5), (None, 1.5), (portraits["biden"], 1.5), (None, 0.5)],
    )
    program = f"import os; open({str(tmp_path / 'door')!r}, 'a').write(os.environ['DUETFACE_SUBJECT_ID'] + '.')"
    end, lines, said = run(
        video, on_accept=f'{sys.executable} -c "{program}"', preview_file=tmp_path / "preview.jpg", purpose="door-1"
    )
    assert isinstance(end, Tally)
    decided = [line for line in lines if line["wire_bytes"]]
    assert [(line["outcome"], line["subject_id"]) for line in decided] == [("accept", "obama"), ("reject", None)]
    assert all(0 < line["wire_bytes"] <= 16_384 for line in decided)
    assert (tmp_path / "door").read_text("utf-8") == "obama."
    assert not (tmp_path / "preview.jpg").exists()
    assert "connected to" in said


def test_a_truncated_video_gives_its_decisions_and_then_says_what_is_wrong(
    run: Run, portraits: dict[str, Path], tmp_path: Path
) -> None:
    """Exit code 2 and one line, but nothing that was seen is lost."""
    whole = film(tmp_path / "v.mkv", [(portraits["obama"], 2.0), (None, 8.0)]).read_bytes()
    (tmp_path / "half.mkv").write_bytes(whole[: len(whole) // 2])
    end, lines, _ = run(tmp_path / "half.mkv")
    assert isinstance(end, CaptureError)
    assert not isinstance(end, DeviceError)
    assert "half.mkv" in str(end)
    assert lines[0]["outcome"] == "accept"


@pytest.mark.parametrize(("source", "kind"), [("97", DeviceError), ("http://127.0.0.1:1/v", DeviceError)])
def test_a_camera_that_is_not_there_is_told_at_once(source: str, kind: type[DuetFaceError], run: Run) -> None:
    """Exit code 4 and one line."""
    end, lines, _ = run(source)
    assert isinstance(end, kind)
    assert "\n" not in str(end)
    assert lines == []


def test_a_file_that_is_no_video_is_told_at_once(run: Run, tmp_path: Path) -> None:
    """Exit code 2."""
    (tmp_path / "empty.mp4").write_bytes(b"")
    end, _, _ = run(tmp_path / "empty.mp4")
    assert isinstance(end, CaptureError)
    assert not isinstance(end, DeviceError)


def test_without_a_service_the_agent_waits_says_so_and_can_be_stopped(run: Run, portraits: dict[str, Path]) -> None:
    """No decision of its own, and no hang at the end."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    started = time.monotonic()
    end, lines, said = run(portraits["obama3"], lambda agent: threading.Timer(2.0, agent.stop).start(), address=address)
    assert isinstance(end, Tally)
    assert lines == []
    assert f"off-line, no decisions: no service answers at {address}" in said
    assert time.monotonic() - started < 15


def test_an_unknown_split_is_refused_before_anything_is_opened(run: Run, portraits: dict[str, Path]) -> None:
    """A model that is not there is named."""
    end, _, _ = run(portraits["obama3"], split_names=("nonesuch",))
    assert isinstance(end, DuetFaceError)
    assert "nonesuch" in str(end)
