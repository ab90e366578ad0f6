"""`duetface gallery rotate-keys`: new secrets for a realm, while it is served."""

import contextlib
import signal
import time
from collections.abc import Iterator
from enum import StrEnum
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from cli import output
from cli.connection import local_actor, open_gallery
from cli.options import Json, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from gallery.keys import KeyKind
    from gallery.maintenance import Maintenance
    from gallery.rekeying import Outdated

EXAMPLE = "Examples: `duetface gallery rotate-keys`, `duetface gallery rotate-keys --what realm`"
STOPPED = 128 + signal.SIGINT  # as a shell counts it
TELL_EVERY_S = 2.0


class What(StrEnum):
    """Which secrets get a new version."""

    BOTH = "both"
    REALM = "realm"
    ROTATION = "rotation"


def rotate_keys(
    what: Annotated[What, typer.Option("--what", help="The realm key, the secret rotation, or both.")] = What.BOTH,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Only make the new versions, to copy them to other services first.")
    ] = False,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Make new secrets and move everybody to them, while the service goes on; nobody needs a new picture.

    Every subject gets a fresh key; with a new rotation, every template is re-issued: a stolen copy is worth nothing
    against the new ones.
    Ctrl-C ends it after the subject at hand (exit code 130); the same command goes on where it was.
    """
    with open_gallery(state, erasing=True) as gallery:
        keeper = gallery.maintenance
        if not keeper.rotation_is_due():
            keeper.add_key_versions(_kinds(what))
        if prepare:
            _tell_prepared(as_json)
            return
        keeper.begin_rotation()
        total, done = keeper.outdated().subjects, list[int]()
        with _stopping() as stop:
            left = keeper.rotate_keys(local_actor(), _progress(done, total), stop)
        _tell(keeper, left, as_json, done=len(done))
    if left.subjects or left.templates:
        raise typer.Exit(STOPPED)


def _kinds(what: What) -> "list[KeyKind]":
    kinds: dict[What, list[KeyKind]] = {
        What.BOTH: ["realm", "rotation"],
        What.REALM: ["realm"],
        What.ROTATION: ["rotation"],
    }
    return kinds[what]


def _progress(done: list[int], total: int) -> "Callable[[int], None]":
    """Counts, and tells every other second."""
    told = time.monotonic()

    def progress(count: int) -> None:
        nonlocal told
        done.append(count)
        if time.monotonic() - told >= TELL_EVERY_S:
            told = time.monotonic()
            output.note(f"{count} of {total} subjects")

    return progress


@contextlib.contextmanager
def _stopping() -> "Iterator[Callable[[], bool]]":
    """Whether Ctrl-C or SIGTERM came; a second one ends the process at once, which leaves every subject whole too."""
    asked = list[int]()

    def ask(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        signal.signal(number, before[signal.Signals(number)])
        output.note("stopping after the subject at hand")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell_prepared(as_json: bool) -> None:
    if as_json:
        output.result_json({"prepared": True})
    else:
        output.result("The new secrets are made and not used yet: copy them to every service, then run this again")


def _tell(keeper: "Maintenance", left: "Outdated", as_json: bool, done: int) -> None:
    versions = keeper.key_versions()
    if as_json:
        told = {"subjects_done": done, "subjects_left": left.subjects, "templates_left": left.templates}
        output.result_json({**told, "versions": versions})
        return
    output.result(f"realm key version {versions['realm']}, rotation version {versions['rotation']}")
    if left.subjects or left.templates:
        output.result(f"{left.subjects} subject(s) are still under older secrets: run this again to go on")
        return
    output.result(f"{done} subject(s) moved; nothing is under older secrets any more")
    output.result("Destroy the older rotation; keep the older realm key apart while its receipts may be asked for")
