"""`duetface verify` and `duetface identify`: ask about one picture."""

from pathlib import Path
from typing import Annotated

import typer

from cli.connection import connect
from cli.device import load_protector, protect_picture, tell_decision, tell_retry
from cli.options import Identity, Json, Purpose, Service, State
from duetface.errors import ConfigError

Picture = Annotated[Path, typer.Argument(metavar="PICTURE", help="Of one face; it stays here.", show_default=False)]


def verify(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="Who it is said to be.", show_default=False)],
    picture: Picture,
    purpose: Purpose = "",
    state: State = None,
    service: Service = None,
    identity: Identity = None,
    as_json: Json = False,
) -> None:
    """Ask whether a picture shows a subject (1:1).

    An unknown subject gets the answer of a subject that does not match.
    """
    if not subject.strip():
        raise ConfigError("SUBJECT is empty; `duetface verify --help` has an example, `duetface identify` asks without")
    with connect(state, service, identity) as client:
        info = client.info()  # is it there, and what does it serve: before a face is looked at
        probe, reason = protect_picture(load_protector(info), picture)
        if probe is None:
            raise typer.Exit(tell_retry(picture, reason, as_json))
        decision = client.verify(subject, probe, purpose)
    raise typer.Exit(tell_decision(decision, as_json))


def identify(
    picture: Picture,
    purpose: Purpose = "",
    state: State = None,
    service: Service = None,
    identity: Identity = None,
    as_json: Json = False,
) -> None:
    """Ask who is in a picture (1:N); a stranger is rejected, not given the nearest name."""
    with connect(state, service, identity) as client:
        probe, reason = protect_picture(load_protector(client.info()), picture)
        if probe is None:
            raise typer.Exit(tell_retry(picture, reason, as_json))
        decision = client.identify(probe, purpose)
    raise typer.Exit(tell_decision(decision, as_json))
