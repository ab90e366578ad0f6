"""`duetface audit`: what was decided and changed, and by whom."""

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cli import output
from cli.connection import connect
from cli.options import AuditorIdentity, Json, Service, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from duetface.client import AuditRecord

POLL_S = 1.0

app = typer.Typer(
    no_args_is_help=True,
    help="The audit: every decision, change and refusal.",
    epilog="Examples: `duetface audit tail --follow`, `duetface audit verify`",
)


@app.command(epilog="Examples: `duetface audit tail --follow`, `duetface audit tail -n 5 --json`")
def tail(
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=1000, help="How many records.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    state: State = None,
    service: Service = None,
    identity: AuditorIdentity = None,
    as_json: Json = False,
) -> None:
    """Print the newest records, oldest first; JSON is one record a line."""
    with connect(state, service, identity, "auditor") as client:
        records = client.audit(limit=lines, newest=True)
        _print(records, as_json)
        while follow:
            time.sleep(POLL_S)
            last = records[-1].record_id if records else 0
            newer = client.audit(after_id=last, limit=1000)
            _print(newer, as_json)
            records = newer or records


@app.command(epilog="Example: `duetface audit verify`")
def verify(state: State = None, as_json: Json = False) -> None:
    """Recompute the chain over every record of the state folder; a removed or changed record is named."""
    from cli.connection import open_gallery

    with open_gallery(state) as gallery:
        count = gallery.verify_audit()
    if as_json:
        output.result_json({"records": count, "whole": True})
        return
    output.result(f"{count} record(s), none removed or changed")


def _print(records: "Sequence[AuditRecord]", as_json: bool) -> None:
    for record in records:
        if as_json:
            output.result_json(asdict(record))
        else:
            output.result(_line(record))


def _line(record: "AuditRecord") -> str:
    when = f"{record.recorded_at.astimezone():%Y-%m-%d %H:%M:%S}"
    words = [when, f"#{record.record_id}", record.event, record.actor, record.subject_id, record.outcome, record.reason]
    if record.revision:
        words.append(f"revision {record.revision}")
    return "  ".join(word for word in words if word)
