"""`duetface unlock`: end the lock-out of a device or a subject."""

from typing import Annotated

import typer

from cli import output
from cli.connection import connect
from cli.options import Identity, Json, Service, State
from duetface.errors import ConfigError

EXAMPLES = "Examples: `duetface unlock --device door-1`, `duetface unlock --subject alice`"


def unlock(
    device: Annotated[str, typer.Option("--device", metavar="NAME", help="The name in its certificate.")] = "",
    subject: Annotated[str, typer.Option("--subject", metavar="ID", help="The id that was claimed.")] = "",
    state: State = None,
    service: Service = None,
    identity: Identity = None,
    as_json: Json = False,
) -> None:
    """Set the counters of consecutive failures to zero; who did it stands in the audit.

    Look first why there were so many: `duetface audit tail`.
    """
    if not device and not subject:
        raise ConfigError("unlock whom? Give --device NAME, --subject ID, or both")
    with connect(state, service, identity) as client:
        before = client.unlock(subject, device)
    counts = {
        name: count for name, count in ((subject, before.subject_failures), (device, before.device_failures)) if name
    }
    if as_json:
        output.result_json({"failures_before": counts})
        return
    for name, count in counts.items():
        output.result(f"{name}: {count} failure(s) forgotten")
