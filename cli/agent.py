"""`duetface agent`: watch a camera, a video or a folder, and have each face decided."""

import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.connection import service_address
from cli.device import installed_splits
from cli.findings import Findings, clock_finding, tell
from cli.logs import logged_on
from cli.options import Json, Purpose, Service, State
from duetface.errors import ConfigError, ContractError, DeviceError

if TYPE_CHECKING:
    from duetface.client import Client
    from edge_agent.config import AgentConfig

app = typer.Typer(invoke_without_command=True, help="Watch a camera, a video or a folder; `agent doctor` checks it.")

EXAMPLES = (
    "Examples: `duetface agent --source 0 --identity clients/door-1 --on-accept open-door`, "
    "`duetface agent --source rtsp://camera/1 --identity door-1 --window`"
)
Source = Annotated[
    str | None, typer.Option("--source", help="Camera 0, /dev/video2, a picture, folder or video, rtsp://...")
]
Device = Annotated[
    Path | None,
    typer.Option("--identity", envvar="DUETFACE_IDENTITY", help="The device's certificate folder, role agent."),
]
Subject = Annotated[str, typer.Option("--subject", help="Decide on this subject only (1:1); everybody if left out.")]
OnAccept = Annotated[str, typer.Option("--on-accept", metavar="COMMAND", help="Run at an accept, without a shell.")]
OnReject = Annotated[str, typer.Option("--on-reject", metavar="COMMAND", help="Run at a reject, without a shell.")]
ShowWindow = Annotated[bool, typer.Option("--window", help="Show the picture with the reason drawn in.")]
PreviewPath = Annotated[Path | None, typer.Option("--preview", help="Write the same picture to this JPEG.")]


@app.callback(epilog=EXAMPLES)
def agent(
    context: typer.Context,
    source: Source = None,
    identity: Device = None,
    service: Service = None,
    subject: Subject = "",
    purpose: Purpose = "",
    on_accept: OnAccept = "",
    on_reject: OnReject = "",
    window: ShowWindow = False,
    preview: PreviewPath = None,
    state: State = None,
) -> None:
    """Watch a source and print one JSON line for each decision.

    What leaves the device is one signed, protected probe a face; pictures stay here.
    Off-line it says so, and never decides by itself.
    """
    if context.invoked_subcommand is not None:
        return
    config = _config(
        source=_needed(source, "--source"),
        address=service_address(service, state),
        identity_folder=Path(_needed(identity, "--identity")),
        subject_id=subject,
        purpose=purpose,
        on_accept=on_accept,
        on_reject=on_reject,
        window=window,
        preview_file=preview,
    )
    _run(config)


def _config(**settings: object) -> "AgentConfig":
    from pydantic import ValidationError

    from edge_agent.config import AgentConfig

    try:
        return AgentConfig.model_validate(settings)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _run(config: "AgentConfig") -> None:
    """Run until the source ends, or SIGINT or SIGTERM asks to stop."""
    from rich.console import Console

    from duetface.manifest import models_root
    from edge_agent.agent import Agent, run_agent
    from edge_agent.report import StatusLine

    def stop_on_signals(running: Agent) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: running.stop())

    console = Console(stderr=True)
    with logged_on(console):
        run_agent(config, models_root(), os.environ, status=StatusLine(console), on_ready=stop_on_signals)


@app.command(epilog="Example: `duetface agent doctor --source 0 --identity clients/door-1`")
def doctor(
    source: Source = None,
    identity: Device = None,
    service: Service = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Check camera, models, certificate, service and clock of this device; each fault with its remedy."""
    findings = Findings()
    if source is not None:
        findings.look("camera", lambda: _camera(source), remote=True)
    findings.look(
        "models", lambda: f"splits {', '.join(split.name for split in installed_splits())}, every digest as written"
    )
    folder = findings.look("certificate", lambda: _certificate(identity))
    if folder:
        findings.look("service", lambda: _service(service, state, identity), remote=True)
        findings.look("clock", lambda: _clock(service, state, identity), remote=True)
    raise typer.Exit(tell(findings, as_json))


def _split_names() -> str:
    return "split " + ", ".join(split.name for split in installed_splits())


def _camera(source: str) -> str:
    from cli.device import camera_frames

    with camera_frames(source) as frames:
        first = next(frames, None)
    if first is None:
        raise DeviceError(f"{source} gave no picture: is it covered, or in use by another program?")
    height, width = first.rgb_u8_hwc.shape[:2]
    return f"{first.name}: {width} x {height} pixels"


def _certificate(identity: Path | None) -> str:
    from duetface.identity import ClientIdentity, Role

    peer = ClientIdentity.load(Path(_needed(identity, "--identity"))).peer
    if Role.AGENT not in peer.roles:
        raise ConfigError(f"{peer.label} is no agent: `duetface certs issue --role agent --name NAME`")
    if peer.not_after < datetime.now(UTC):
        raise ConfigError(f"{peer.label} expired on {peer.not_after:%Y-%m-%d}: `duetface certs issue` a new one")
    return f"{peer.label} in realm {peer.realm}, until {peer.not_after:%Y-%m-%d}"


def _connect(service: str | None, state: Path | None, identity: Path | None) -> "Client":
    from duetface.client import Client
    from duetface.identity import ClientIdentity

    folder = Path(_needed(identity, "--identity"))
    return Client.connect(service_address(service, state), ClientIdentity.load(folder))


def _service(service: str | None, state: Path | None, identity: Path | None) -> str:
    with _connect(service, state, identity) as client:
        info = client.info()
    if not info.split_digests & {split.digest for split in installed_splits()}:
        raise ContractError("the service reads no split of this device: install the same release on both ends")
    return f"realm {info.realm}, version {info.version}, decides at FMR {info.fmr:g}"


def _clock(service: str | None, state: Path | None, identity: Path | None) -> str:
    with _connect(service, state, identity) as client:
        return clock_finding(client.info().clock_offset_s)


def _needed(value: "str | Path | None", option: str) -> str:
    if value is None:
        raise ConfigError(f"{option} is needed; `duetface agent --help` has examples")
    return str(value)
