"""`duetface init` and `duetface serve`: make a realm, run its service."""

import asyncio
import logging
import os
from typing import Annotated, Any

import typer

from cli import output
from cli.connection import existing_state, service_address, state_folder
from cli.options import Json, State
from duetface.address import check_address, check_host
from duetface.errors import ConfigError

Listen = Annotated[
    str | None,
    typer.Option(
        "--listen", metavar="HOST:PORT", help="Where to listen.", show_default="127.0.0.1:50061, or config.toml's"
    ),
]


def init(
    state: State = None,
    realm: Annotated[
        str, typer.Option("--realm", help="Name of the site, like a host name; stands in every certificate.")
    ] = "local",
    host: Annotated[
        list[str] | None,
        typer.Option("--host", help="A further name or address under which devices reach the service; repeatable."),
    ] = None,
    listen: Listen = None,
    as_json: Json = False,
) -> None:
    """Make a realm: state folder with certificates, keys, database and commented configuration."""
    from datetime import UTC, datetime

    from recognition_service.state import create_state

    folder = state_folder(state)
    if (folder / "config.toml").exists():
        raise ConfigError(f"{folder} holds a realm already: `duetface serve` runs it; another needs another --state")
    hosts = [check_host(name, "--host") for name in host or ()]
    address = None if listen is None else check_address(listen, "--listen")
    create_state(folder, realm, datetime.now(UTC), hosts=hosts, address=address)
    if as_json:
        output.result_json({"state": folder, "realm": realm, "address": service_address(None, folder)})
        return
    output.result(f"realm {realm} in {folder}")
    output.result("  ca/ server/ clients/  certificates; keep ca/ca.key to yourself")
    output.result("  keys/                 back these up apart from gallery.db: without them nothing can be read")
    output.result("  config.toml           every setting with its meaning")
    output.result("Next: duetface serve")


def serve(
    state: State = None,
    listen: Listen = None,
    target_fmr: Annotated[
        float | None,
        typer.Option("--target-fmr", help="False match rate to decide at.", show_default="1e-4, or config.toml's"),
    ] = None,
    log_level: Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")] = "info",
) -> None:
    """Run the recognition service until SIGTERM or Ctrl-C; logs go to standard error as JSON lines."""
    from gallery.key_settings import open_keys
    from recognition_service.config import load_config
    from recognition_service.server import serve as run_service

    _set_up_logging(log_level)
    config = load_config(existing_state(state), _overrides(listen, target_fmr))
    asyncio.run(run_service(config, open_keys(config.key_settings, os.environ)))


def _overrides(listen: str | None, target_fmr: float | None) -> dict[str, dict[str, Any]]:
    """Sections of the configuration that the command line sets."""
    given: dict[str, dict[str, Any]] = {}
    if listen is not None:
        given["listen"] = {"address": check_address(listen, "--listen")}
    if target_fmr is not None:
        given["decisions"] = {"target_fmr": target_fmr}
    return given


def _set_up_logging(level: str) -> None:
    levels = logging.getLevelNamesMapping()
    if level.upper() not in levels:
        raise ConfigError(f"--log-level {level}: expected debug, info, warning or error")
    logging.getLogger().setLevel(levels[level.upper()])
