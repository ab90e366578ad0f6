"""`duetface gallery erase`, `receipt`, `purge`, `hold` and `release`: what must go, and what must not.

They work on the state folder itself, beside a running service or without one, and need its keys.
"""

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import output
from cli.connection import existing_state, forget_enrolments, index_outlives_services, local_actor, open_gallery
from cli.gallery_proof import read_receipt
from cli.options import Json, State, SubjectId, Yes, agree
from duetface.errors import ConfigError, ConsentError, GalleryError

if TYPE_CHECKING:
    from gallery.gallery import Gallery
    from gallery.purging import PurgeReport

ERASE = "Examples: `duetface gallery erase alice`, `duetface gallery erase alice --yes --out receipt.json`"
RECEIPT = "Example: `duetface gallery receipt 1234`"
PURGE = "Examples: `duetface gallery purge --dry-run`, `duetface gallery purge --older-than 730 --yes`"
HOLD = "Example: `duetface gallery hold alice`"
RELEASE = "Example: `duetface gallery release alice`"

Out = Annotated[
    Path | None,
    typer.Option(
        "--out", help="File of the receipt.", show_default="receipts/erasure-REVISION.json in the state folder"
    ),
]
Wait = Annotated[float, typer.Option("--wait", min=0, help="Seconds that running services have to follow.")]


def erase(
    subject: SubjectId,
    out: Out = None,
    wait_s: Wait = 60.0,
    yes: Yes = False,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Erase a subject down to the bytes and write a signed receipt; works beside a running service.

    Destroys key, rows, index entries and snapshots, cleans database and write-ahead log, waits until every running
    service has followed, and searches for what may be left.
    `delete` asks a service to do the same in the background, without a receipt; `receipt` fetches it later.
    """
    agree(f"Erase {subject} with everything that is held?", yes, "erasing")
    with open_gallery(state, erasing=True) as gallery:
        try:
            revision = gallery.delete_subject(subject, local_actor())
        except ConsentError as error:
            raise GalleryError(f"{error} (`duetface gallery release {subject}`)") from error
        output.note(f"deleted, revision {revision}; cleaning files and waiting for running services")
        forget_enrolments(state, subject)
        try:
            path = _write_receipt(gallery, revision, out, wait_s, state)
        except (GalleryError, ConfigError) as error:
            raise GalleryError(
                f"{subject} is deleted but not proven gone: {error} (`duetface gallery receipt {revision}` tries again)"
            ) from error
    _tell_receipt(path, as_json)


def receipt(
    revision: Annotated[int, typer.Argument(metavar="REVISION", min=1, help="What the deletion answered.")],
    out: Out = None,
    wait_s: Wait = 60.0,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Write the signed receipt of a deletion: of `gallery delete`, of a purge, or of an `erase` that broke off."""
    with open_gallery(state, erasing=True) as gallery:
        path = _write_receipt(gallery, revision, out, wait_s, state)
    _tell_receipt(path, as_json)


def _write_receipt(gallery: "Gallery", revision: int, out: Path | None, wait_s: float, state: Path | None) -> Path:
    from duetface.identity import write_private

    by_replica = index_outlives_services(state)
    made = gallery.maintenance.erasure_receipt(revision, wait_s, by_replica=by_replica)
    path = out if out is not None else existing_state(state) / "receipts" / f"erasure-{revision}.json"
    write_private(path, made.to_json().encode())
    return path


def _tell_receipt(path: Path, as_json: bool) -> None:
    made = read_receipt(path)
    if as_json:
        told = {name: value for name, value in asdict(made).items() if name != "sealed_fingerprints"}
        output.result_json({"receipt": path, **told})
        return
    whose = made.subject_id or "a partition"
    output.result(f"{whose}: {made.templates} template(s) erased at {made.erased_at}, revision {made.revision}")
    if made.searched:
        output.result(f"searched {len(made.searched)} file(s) for {made.windows} traces, none is left")
    else:
        output.result("cleaned in the database server; `prove-erased RECEIPT FOLDER` searches the files of that")
    output.result(f"followed by {', '.join(made.followers) or 'no running service'}")
    output.result(f"receipt: {path}")


def purge(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what is due.")] = False,
    older_than: Annotated[
        int | None, typer.Option("--older-than", min=1, metavar="DAYS", help="Also templates made longer ago.")
    ] = None,
    yes: Yes = False,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Erase whom no consent covers any more, and templates over age; never anybody under a legal hold.

    Also forgets counters of failed attempts that are older than 30 days.
    """
    from gallery.purging import PurgePolicy

    policy = PurgePolicy(None if older_than is None else timedelta(days=older_than))
    with open_gallery(state, erasing=True) as gallery:
        keeper, actor = gallery.maintenance, local_actor()
        due = keeper.purge(policy, actor, dry_run=True)
        if not dry_run:
            if due.subjects or due.templates:
                what = f"{len(due.subjects)} subject(s) and {len(due.templates)} template(s)"
                agree(f"Erase {what}?", yes, "erasing")
            due = keeper.purge(policy, actor, dry_run=False)
            if left := gallery.complete_erasures():
                output.note(f"a long reader keeps bytes of {left} deletion(s): they go with the next, or at a start")
    _tell_purge(due, dry_run, as_json)
    for subject in () if dry_run else due.subjects:
        forget_enrolments(state, subject)


def _tell_purge(report: "PurgeReport", dry_run: bool, as_json: bool) -> None:
    if as_json:
        output.result_json({"dry_run": dry_run, **asdict(report)})
        return
    verb = "due" if dry_run else "erased"
    for kind, found in (("subject", report.subjects), ("template", report.templates)):
        for one in found:
            output.result(f"{verb}: {kind} {one}")
    for subject in report.held:
        output.result(f"kept under a legal hold: subject {subject}")
    output.note(f"{len(report.subjects)} subject(s), {len(report.templates)} further template(s) {verb}")


def hold(subject: SubjectId, state: State = None, as_json: Json = False) -> None:
    """Put a subject under a legal hold: nothing of it can be erased until it is released."""
    _set_hold(subject, True, state, as_json)


def release(subject: SubjectId, state: State = None, as_json: Json = False) -> None:
    """Lift a legal hold."""
    _set_hold(subject, False, state, as_json)


def _set_hold(subject: str, held: bool, state: Path | None, as_json: bool) -> None:
    with open_gallery(state) as gallery:
        revision = gallery.set_hold(subject, held=held, actor=local_actor())
    if as_json:
        output.result_json({"subject_id": subject, "held": held, "revision": revision})
    else:
        output.result(f"{subject} is {'held' if held else 'released'}; revision {revision}")
