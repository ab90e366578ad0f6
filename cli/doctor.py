"""`duetface doctor`: what is wrong with this installation, and what to do."""

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import typer

from cli.connection import connect, existing_state, state_folder
from cli.findings import Findings, clock_finding, tell
from cli.options import Identity, Json, Service, State
from duetface.errors import ConfigError

EXPIRES_SOON = timedelta(days=30)
FREE_BYTES = 200_000_000


def doctor(state: State = None, service: Service = None, identity: Identity = None, as_json: Json = False) -> None:
    """Check models, state folder, certificates, disk, service and clock; each fault with its remedy."""
    findings = Findings()
    findings.look("models", _models)
    if identity is None or state_folder(state).exists():
        findings.look("state", lambda: _state(state))
        findings.look("certificates", lambda: _certificates(state))
        findings.look("disk", lambda: _disk(state))
    findings.look("service", lambda: _service(state, service, identity), remote=True)
    findings.look("clock", lambda: _clock(state, service, identity), remote=True)
    raise typer.Exit(tell(findings, as_json))


def _models() -> str:
    from duetface.manifest import ModelCatalogue, models_root

    catalogue = ModelCatalogue(models_root())
    splits, spaces = catalogue.splits(), catalogue.spaces()
    return f"{len(splits)} split(s), {len(spaces)} template space(s), every digest as written"


def _state(state: Path | None) -> str:
    from gallery.key_settings import open_keys
    from recognition_service.config import load_config

    folder = existing_state(state)
    config = load_config(folder)
    open_keys(config.key_settings, os.environ.copy())  # a copy: the service is told later what it may take out
    open_to_others = [path for path in (*folder.rglob("*.key"), *folder.glob("*.db")) if path.stat().st_mode & 0o077]
    if open_to_others:
        raise ConfigError(f"{open_to_others[0]} can be read by others: chmod 600 {open_to_others[0]}")
    return f"{folder}: configuration and keys ({config.keys.source}) are readable and private"


def _certificates(state: Path | None) -> str:
    from duetface.authority import issued_certificates
    from duetface.identity import RESTORE_IT, PeerIdentity, server_credentials

    folder = existing_state(state)
    issued = issued_certificates(folder / "clients", folder / "revoked.json")
    server_credentials(folder / "server")
    server = PeerIdentity.of_file(folder / "server" / "server.crt", RESTORE_IT)
    holders = [server, *(one.peer for one in issued if not one.revoked)]
    first = min(holders, key=lambda peer: peer.not_after)
    left = first.not_after - datetime.now(UTC)
    if left < EXPIRES_SOON:
        remedy = "`duetface certs renew`" if first is server else "issue a new one with `duetface certs issue`"
        raise ConfigError(f"{first.label} expires in {left.days} days: {remedy}")
    return f"{len(issued)} client(s); the first to expire is {first.label}, on {first.not_after:%Y-%m-%d}"


def _disk(state: Path | None) -> str:
    free = shutil.disk_usage(existing_state(state)).free
    if free < FREE_BYTES:
        raise ConfigError(f"{free // 1_000_000} MB free, expected {FREE_BYTES // 1_000_000}: free some space")
    return f"{free // 1_000_000} MB free"


def _service(state: Path | None, service: str | None, identity: Path | None) -> str:
    with connect(state, service, identity) as client:
        if not client.healthy():
            raise ConfigError("the service answers but does not serve: see its log")
        info = client.info()
    splits = ", ".join(split.name for split in info.splits)
    return f"realm {info.realm}, version {info.version}, splits {splits}, decides at FMR {info.fmr:g}"


def _clock(state: Path | None, service: str | None, identity: Path | None) -> str:
    with connect(state, service, identity) as client:
        return clock_finding(client.info().clock_offset_s)
