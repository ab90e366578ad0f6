"""`duetface gallery prove-erased`: search again, at any time and anywhere, for what a receipt says is gone."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import output
from cli.connection import connect, existing_state, open_gallery
from cli.exits import ExitCode
from cli.options import Identity, Json, State
from duetface.errors import ConfigError, ServiceError

if TYPE_CHECKING:
    from gallery.receipt import Receipt

EXAMPLE = (
    "Examples: `duetface gallery prove-erased receipt.json`, "
    "`duetface gallery prove-erased receipt.json /backup/gallery.db /var/lib/milvus --json`"
)

# Keys and certificates; a snapshot that is being written now is thrown away if it holds what was erased.
_NOTHING_OF_ANYBODY = (".key", ".crt", ".partial")


def prove_erased(
    receipt_file: Annotated[Path, typer.Argument(metavar="RECEIPT", help="File that `erase` wrote.")],
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATHS]...", help="Copies, dumps, Parquet files, folders of a database server."),
    ] = None,
    service: Annotated[
        list[str] | None,
        typer.Option(
            "--service",
            metavar="HOST:PORT",
            help="A running service whose memory is searched; repeatable.",
            show_default="the address in the state folder's config.toml, if one answers",
        ),
    ] = None,
    state: State = None,
    identity: Identity = None,
    as_json: Json = False,
) -> None:
    """Search for what a receipt says is gone: state folder, database, snapshots, running services, further files.

    Exit code 0: nothing was found.  1: something was, and where is told.
    Parquet is decoded; hexadecimal, base64 and lists of numbers in text are undone; a compressed file is refused.
    """
    receipt = read_receipt(receipt_file)
    searched, found = _search_files(receipt, state, [*(paths or ())])
    named: list[str | None] = [*(service or ())]
    for address in named or [None]:
        in_memory = _ask(address, receipt, state, identity)
        searched += in_memory[0]
        found |= in_memory[1]
    if as_json:
        output.result_json({"subject_id": receipt.subject_id, "searched": searched, "found": found})
    else:
        for place, windows in found.items():
            output.result(f"FOUND {windows} trace(s) in {place}")
        output.result(f"{len(searched)} place(s) searched, traces in {len(found)}")
    raise typer.Exit(ExitCode.REJECTED if found else ExitCode.DONE)


def read_receipt(path: Path) -> "Receipt":
    """Raises ConfigError or GalleryError if it is none."""
    from gallery.receipt import Receipt

    try:
        return Receipt.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def _search_files(receipt: "Receipt", state: Path | None, paths: list[Path]) -> tuple[list[str], dict[str, int]]:
    folder = existing_state(state)
    kept = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in _NOTHING_OF_ANYBODY)
    with open_gallery(state) as gallery:
        proof = gallery.maintenance.search_erased(receipt, [*kept, *paths])
    return list(proof.searched), dict(proof.found)


def _ask(
    address: str | None, receipt: "Receipt", state: Path | None, identity: Path | None
) -> tuple[list[str], dict[str, int]]:
    """Have a service search its memory; one that was not named may be absent: then it has none."""
    with connect(state, address, identity) as client:
        try:
            return client.search_erased(receipt.to_json())
        except ServiceError as error:
            if address is not None or error.reason or error.status not in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                raise
            output.note(f"no memory was searched: {error}")
            return [], {}
