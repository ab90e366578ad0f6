"""Options that many commands share, each declared once."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from duetface.errors import ConfigError

State = Annotated[
    Path | None,
    typer.Option(
        "--state",
        envvar="DUETFACE_STATE",
        help="State folder of the realm, made by `duetface init`.",
        show_default="duetface in the user's data folder",
    ),
]
Service = Annotated[
    str | None,
    typer.Option(
        "--service",
        envvar="DUETFACE_SERVICE",
        metavar="HOST:PORT",
        help="The recognition service to ask.",
        show_default="the address in the state folder's config.toml",
    ),
]
Identity = Annotated[
    Path | None,
    typer.Option(
        "--identity",
        envvar="DUETFACE_IDENTITY",
        help="Folder with client.crt, client.key and ca.crt, from `duetface certs issue`.",
        show_default="the operator's in the state folder",
    ),
]
AuditorIdentity = Annotated[
    Path | None,
    typer.Option(
        "--identity",
        envvar="DUETFACE_IDENTITY",
        help="Folder with client.crt, client.key and ca.crt of an auditor.",
        show_default="the auditor's in the state folder",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
SubjectId = Annotated[str, typer.Argument(metavar="SUBJECT", help="The subject's id.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Purpose = Annotated[str, typer.Option("--purpose", help="What the decision is for; stands in the audit.")]


def agree(question: str, yes: bool, doing: str) -> None:
    """Go on only when the person said so.  Raises ConfigError; doing: what needs an answer, e.g. "deleting"."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"{doing} needs --yes where nobody can be asked")
    if not typer.confirm(question, err=True):
        raise ConfigError("nothing was done")
