"""`duetface consent`: what a subject agrees to, and until when."""

from datetime import UTC, date, datetime, time
from typing import Annotated

import typer

from cli import output
from cli.connection import connect
from cli.options import Identity, Json, Service, State, SubjectId, Yes, agree
from duetface.errors import ConfigError

app = typer.Typer(
    no_args_is_help=True,
    help="Consent of people who are enrolled: add, renew, withdraw, list.",
    epilog="Examples: `duetface consent add alice --consent 2027-01`, `duetface consent withdraw alice`",
)

Expires = Annotated[
    str | None, typer.Option("--expires", metavar="DATE", help="The day it ends, in UTC.", show_default="no end")
]


@app.command(epilog="Example: `duetface consent add alice --consent 2027-01 --purpose parking --expires 2028-01-31`")
def add(
    subject: SubjectId,
    version: Annotated[str, typer.Option("--consent", metavar="VERSION", help="Version of the text agreed to.")],
    purpose: Annotated[str, typer.Option("--purpose", help="What templates may be used for.")] = "access",
    expires: Expires = None,
    state: State = None,
    service: Service = None,
    identity: Identity = None,
    as_json: Json = False,
) -> None:
    """Record a further consent: later templates are stored under it, those that are there stay under theirs."""
    from duetface.client import Consent

    given = Consent(purpose, version, datetime.now(UTC), _end(expires))
    with connect(state, service, identity) as client:
        revision = client.add_consent(subject, given)
    _tell(subject, "consent added", revision, as_json)


@app.command(epilog="Example: `duetface consent renew alice --expires 2028-01-31`")
def renew(
    subject: SubjectId,
    expires: Expires = None,
    state: State = None,
    service: Service = None,
    identity: Identity = None,
    as_json: Json = False,
) -> None:
    """Give the consent that holds now another end; its templates answer until then."""
    with connect(state, service, identity) as client:
        revision = client.renew_consent(subject, _end(expires))
    _tell(subject, "consent renewed", revision, as_json)


@app.command(epilog="Example: `duetface consent withdraw alice --yes`")
def withdraw(
    subject: SubjectId,
    yes: Yes = False,
    state: State = None,
    service: Service = None,
    identity: Identity = None,
    as_json: Json = False,
) -> None:
    """End every consent of a subject now: it stops being recognised, and `gallery purge` erases it."""
    agree(f"End every consent of {subject}?", yes, "ending a consent")
    with connect(state, service, identity) as client:
        revision = client.withdraw_consents(subject)
    _tell(subject, "consents withdrawn", revision, as_json)


@app.command("list", epilog="Example: `duetface consent list alice`")
def list_(
    subject: SubjectId, state: State = None, service: Service = None, identity: Identity = None, as_json: Json = False
) -> None:
    """List every consent of a subject, oldest first."""
    with connect(state, service, identity) as client:
        records = client.consents(subject)
    rows = [
        (
            record.consent.purpose,
            record.consent.text_version,
            record.consent.given_at,
            record.consent.expires_at or "never",
            record.withdrawn_at or "",
        )
        for record in records
    ]
    if as_json:
        names = ("purpose", "text_version", "given_at", "expires_at", "withdrawn_at")
        output.result_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    output.result_table(("purpose", "consent", "given", "ends", "withdrawn"), rows)


def _end(day: str | None) -> datetime | None:
    """The last moment of a day, UTC."""
    if day is None:
        return None
    try:
        return datetime.combine(date.fromisoformat(day), time(23, 59, 59), UTC)
    except ValueError as error:
        raise ConfigError(f"--expires {day}: expected a day such as 2028-01-31") from error


def _tell(subject: str, what: str, revision: int, as_json: bool) -> None:
    if as_json:
        output.result_json({"subject_id": subject, "revision": revision})
    else:
        output.result(f"{what} for {subject}; revision {revision}")
