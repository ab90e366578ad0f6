"""`duetface gallery move`: to another database, while the service goes on."""

from dataclasses import asdict
from typing import Annotated

import typer

from cli import output
from cli.connection import existing_state
from cli.options import Json, State
from duetface.errors import ConfigError

EXAMPLE = "Example: `duetface gallery move --to postgresql://duetface@db.example/duetface?sslmode=verify-full`"


def move(
    to: Annotated[str, typer.Option("--to", metavar="URL", help="The new database: postgresql://USER@HOST/DATABASE.")],
    state: State = None,
    as_json: Json = False,
) -> None:
    """Move the realm from SQLite to PostgreSQL while its service goes on; run it on the service's machine.

    Copies, follows, compares every row, then switches in a pause of a moment for whoever writes; searches never stop.
    Names the new database in config.toml.  Stopped or failed, the same command goes on where it was.
    """
    from duetface.identity import RESTORE_IT, PeerIdentity
    from gallery.moving import move as move_realm
    from recognition_service.config import load_config
    from recognition_service.database_setting import check_database_url, name_database

    folder = existing_state(state)
    config = load_config(folder)
    check_database_url(folder, to)
    realm = PeerIdentity.of_file(folder / "server" / "server.crt", RESTORE_IT).realm
    try:
        report = move_realm(config.database_url, to, realm, _tell)
    except KeyboardInterrupt:
        raise ConfigError("stopped before the end: the same command goes on where it was") from None
    name_database(folder, to)
    if as_json:
        output.result_json(asdict(report))
        return
    output.result(f"realm {realm} is in {report.place} now, named in {folder / 'config.toml'}")
    output.result(f"{report.subjects} subjects, {report.templates} templates, revision {report.revision}, all equal")
    output.result(f"whoever writes waited {1000 * report.pause_s:.0f} ms; the old database takes no change any more")
    output.result("Next: `duetface gallery statistics`, a back-up of the new database, then delete the old files")


def _tell(what: str, count: int) -> None:
    output.note(f"{what}: {count}")
