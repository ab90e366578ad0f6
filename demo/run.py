"""`make demo`: init -> serve -> enrol -> agent on a video -> verify and identify, on real pictures.

Ends with a table and a picture of the way of a face, and with exit code 0 only if every decision was right.
`CAMERA=0 make demo` does the same with a webcam and whoever sits before it.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from demo.realm import DUETFACE, DemoError, Realm, running_realm
from demo.video import FRAMES_PER_S, GAP_S, PERSON_S, write_video
from duetface.client import Client
from duetface.manifest import ModelCatalogue, models_root
from duetface.types import Decision, Probe
from edge_agent.pipeline import Protector
from edge_agent.sources import read_picture
from edge_agent.way_of_a_face import draw_way_of_a_face

PORTRAITS = Path(".cache/portraits")
PAPER_BYTES = 8_128_512  # 162 channels of 112 x 112 float32 values, as the paper sends them
CAMERA_S = 30.0


@dataclass(frozen=True)
class Row:
    """One decision.  device_ms: from picture to probe.  answer_ms: from probe to decision."""

    step: str
    seen: str
    expected: str
    outcome: str
    reason: str
    device_ms: float
    answer_ms: float
    wire_bytes: int

    @property
    def right(self) -> bool:
        """Whether the decision is the expected one."""
        return self.outcome == self.expected


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration; returns 0 only if every decision was right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="folder for video, picture and log")
    parser.add_argument("--camera", help="a webcam's number instead of the rendered video")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        with running_realm(arguments.out) as realm:
            rows = with_camera(realm, arguments.camera) if arguments.camera else with_video(realm, arguments.out)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    show(rows)
    return 0 if all(row.right for row in rows) else 1


def with_video(realm: Realm, out: Path) -> list[Row]:
    """The story on portraits: one person enrolled, one unseen picture of them, two other people."""
    told = realm.command(
        "enroll", "obama", str(PORTRAITS / "obama.jpg"), str(PORTRAITS / "obama3.jpg"), "--consent", "demo-1"
    )
    print(told.strip())
    protector = Protector.load(models_root(), (ModelCatalogue(models_root()).default_split().name,))
    rows = agent_on_video(realm, out)
    with realm.client("verifier") as client:
        draw_way(client, protector, out / "way-of-a-face.png")
        ask = Asking(client, protector)
        rows.append(ask("verify obama", "obama2.jpg", "accept", lambda probe: client.verify("obama", probe)))
        rows.append(ask("verify obama", "biden.jpg", "reject", lambda probe: client.verify("obama", probe)))
        rows.append(ask("identify", "obama2.jpg", "accept", client.identify))
        rows.append(ask("identify", "astronaut.png", "reject", client.identify))
    return rows


def agent_on_video(realm: Realm, out: Path) -> list[Row]:
    """Render the video, run the agent on it, and hold each decision against who was in view."""
    shown = [("obama2", "accept"), ("biden", "reject"), ("astronaut", "reject")]
    video = out / "video.mp4"
    portraits = {path.stem: path for path in PORTRAITS.iterdir()}
    frames = write_video(video, [portraits[name] for name, _ in shown])
    print(f"rendered {frames} frames of {', '.join(name for name, _ in shown)} into {video}")
    realm.command("certs", "issue", "--role", "agent", "--name", "door-1")
    identity = str(realm.state / "clients" / "door-1")
    lines = realm.command("agent", "--source", str(video), "--identity", identity, "--purpose", "door-1")
    (out / "decisions.jsonl").write_text(lines, encoding="utf-8")
    decisions = [line for line in map(json.loads, lines.splitlines()) if line["wire_bytes"]]
    return [row for index, (name, expected) in enumerate(shown) for row in _of_person(decisions, index, name, expected)]


def draw_way(client: Client, protector: Protector, path: Path) -> None:
    """One picture of a face at each stage: crop, what stays, what is sent, masks, decision."""
    picture = read_picture(PORTRAITS / "obama2.jpg")
    outcome = protector.protect(picture)
    if outcome.probe is None:
        raise DemoError(f"no way to draw: {outcome.reason}")
    decision = client.identify(outcome.probe)
    verdict = f"{decision.outcome} {decision.subject_id}: {decision.reason} at FMR {decision.fmr:g}"
    draw_way_of_a_face(picture, outcome, ModelCatalogue(models_root()).default_split(), verdict, path)
    print(f"the way of a face is drawn in {path}")


def _of_person(decisions: list[dict[str, Any]], index: int, name: str, expected: str) -> list[Row]:
    """The decisions taken while one person of the video was in view."""
    first = round(GAP_S * FRAMES_PER_S) * (index + 1) + round(PERSON_S * FRAMES_PER_S) * index
    in_view = range(first, first + round(PERSON_S * FRAMES_PER_S))
    rows = [
        Row(
            "agent", f"{name}, frame {line['frame']}", expected, line["outcome"], line["reason"],
            sum(line["device_ms"].values()), line["round_trip_ms"], line["wire_bytes"],
        )
        for line in decisions if line["frame"] in in_view
    ]  # fmt: skip
    return rows or [Row("agent", name, expected, "none", "never asked", 0.0, 0.0, 0)]


class Asking:
    """Asks about one portrait by the client SDK, and times it."""

    def __init__(self, client: Client, protector: Protector) -> None:
        """client, protector: what any program would use."""
        self._client = client
        self._protector = protector
        self._protector.protect(read_picture(PORTRAITS / "obama.jpg"))  # warm: the first run loads code

    def __call__(self, step: str, picture: str, expected: str, decide: Callable[[Probe], Decision]) -> Row:
        """One row of the table."""
        rgb_u8_hwc = read_picture(PORTRAITS / picture)
        started = time.perf_counter()
        outcome = self._protector.protect(rgb_u8_hwc)
        protected = time.perf_counter()
        if outcome.probe is None:
            return Row(step, picture, expected, "retry", str(outcome.reason), 0.0, 0.0, 0)
        decision = decide(outcome.probe)
        decided = time.perf_counter()
        size = self._client.sign(outcome.probe).ByteSize()
        device_ms, answer_ms = (protected - started) * 1e3, (decided - protected) * 1e3
        return Row(step, picture, expected, str(decision.outcome), decision.reason, device_ms, answer_ms, size)


def with_camera(realm: Realm, camera: str) -> list[Row]:
    """The story at a webcam: guided enrolment, then the agent until its first decision."""
    subprocess.run(
        [DUETFACE, "enroll", "you", "--camera", camera, "--consent", "demo-1", "--state", realm.state], check=True
    )
    realm.command("certs", "issue", "--role", "agent", "--name", "door-1")
    command = [DUETFACE, "agent", "--source", camera, "--identity", realm.state / "clients" / "door-1"]
    with subprocess.Popen([*command, "--state", realm.state], stdout=subprocess.PIPE, text=True) as agent:
        try:
            line = _first_decision(agent, time.monotonic() + CAMERA_S)
        finally:
            agent.terminate()
    return [
        Row("agent", f"camera {camera}", "accept", line["outcome"], line["reason"],
            sum(line["device_ms"].values()), line["round_trip_ms"], line["wire_bytes"])
    ]  # fmt: skip


def _first_decision(agent: "subprocess.Popen[str]", give_up: float) -> dict[str, Any]:
    for text in agent.stdout or ():
        line: dict[str, Any] = json.loads(text)
        if line["wire_bytes"] and line["outcome"] != "retry":
            return line
        if time.monotonic() > give_up:
            break
    raise DemoError("the agent came to no decision")


def show(rows: list[Row]) -> None:
    """The table."""
    enrolled = "Enrolled: obama, from obama.jpg and obama3.jpg" if len(rows) > 1 else "Enrolled: you"
    table = Table(title=enrolled, title_justify="left")
    for column in ("step", "seen", "decision", "reason", "device ms", "answer ms", "bytes sent", ""):
        table.add_column(column, justify="right" if column.endswith("ms") or column.startswith("bytes") else "left")
    for row in rows:
        verdict = "right" if row.right else f"WRONG, expected {row.expected}"
        figures = f"{row.device_ms:.1f}", f"{row.answer_ms:.1f}", f"{row.wire_bytes:,}"
        table.add_row(row.step, row.seen, row.outcome, row.reason, *figures, verdict)
    table.add_row("the paper", "any face", "", "", "", "", f"{PAPER_BYTES:,}", "")
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    wrong = sum(not row.right for row in rows)
    print(f"{len(rows)} decisions, {wrong} wrong; liveness off: a photograph is accepted like a face")


if __name__ == "__main__":
    sys.exit(main())
