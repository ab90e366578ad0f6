"""`duetface gallery upgrade`: to another template space, without losing anybody."""

from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import output
from cli.connection import existing_state, local_actor, open_gallery
from cli.options import Json, State, Yes, agree
from duetface.errors import ConfigError

if TYPE_CHECKING:
    from duetface.manifest import SpaceManifest
    from recognition_service.config import Models

app = typer.Typer(
    no_args_is_help=True,
    help="Move to another template space: who is there already, and when the old one can go.",
    epilog="Examples: `duetface gallery upgrade status`, `duetface gallery upgrade finish`",
)

SHOWN = 20  # of those who would be lost, before a number says how many more


@app.command(epilog="Example: `duetface gallery upgrade status --until 2027-03-31`")
def status(
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="DATE", help="Judge as of that day.", show_default="models.until, else today"),
    ] = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Show how many people each template space knows, and who has yet to move to the one that stays.

    Whose consent ends before DATE need not move.
    """
    models = _models(state)
    target = _target(models)
    on = _moment("--until", until) if until else _after(models.until)
    with open_gallery(state) as gallery:
        spaces = gallery.maintenance.coverage()
        left = gallery.maintenance.left_behind(target.digest, on)
    rows = [
        (_name(space.space_digest), space.subjects, space.templates, space.only_here, space.newest_at)
        for space in spaces
    ]
    if as_json:
        named = [
            dict(zip(("space", "subjects", "templates", "only_here", "newest_at"), row, strict=True)) for row in rows
        ]
        output.result_json({"to": target.name, "on": on, "spaces": named, "left_behind": left})
        return
    output.result_table(("space", "subjects", "templates", "only here", "newest"), rows)
    output.result(f"to move to {target.name} by {on:%Y-%m-%d}: {len(left)} subject(s)")
    _show(left)
    if all(space.space_digest == target.digest for space in spaces):
        output.note("There is no other space to leave; name one to move to as models.next_space in config.toml")
    elif not left:
        output.note("The old space can go: `duetface gallery upgrade finish`")


@app.command(epilog="Examples: `duetface gallery upgrade finish`, `duetface gallery upgrade finish --lose 3 --yes`")
def finish(
    lose: Annotated[
        int, typer.Option("--lose", min=0, help="Go on although up to this many people have not moved.")
    ] = 0,
    yes: Yes = False,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Erase every template of other spaces than the one that stays; refuses while people would be lost.

    Then set models.space to the new space, clear models.next_space, and restart the service.
    """
    models = _models(state)
    target, now = _target(models), datetime.now(UTC)
    if models.until and now < _moment("models.until", models.until):
        raise ConfigError(f"the old space stays until {models.until}: change models.until in config.toml first")
    with open_gallery(state, erasing=True) as gallery:
        left = gallery.maintenance.left_behind(target.digest, now)
        if len(left) > lose:
            _show(left)
            raise ConfigError(
                f"{len(left)} people have not moved to {target.name} and would be lost: wait, enrol them anew, "
                f"or say --lose {len(left)}"
            )
        agree(f"Erase everything but {target.name}, and lose {len(left)} people?", yes, "erasing a space")
        gone = gallery.maintenance.finish_upgrade(target.digest, left, local_actor())
    if as_json:
        output.result_json({"to": target.name, "templates_erased": gone, "lost": left})
        return
    output.result(f"erased {gone} template(s); {target.name} stays, {len(left)} subject(s) without a template")
    if models.next_space:
        output.note(f'Next: space = "{target.name}" and next_space = "" under [models] in config.toml, then restart')


def _models(state: Any) -> "Models":
    from recognition_service.config import load_config

    return load_config(existing_state(state)).models


def _target(models: "Models") -> "SpaceManifest":
    """The space that stays: the next one while the gallery moves, else the one that is served."""
    from duetface.manifest import ModelCatalogue, load_space, models_root

    catalogue = ModelCatalogue(models_root())
    name = models.next_space or models.space
    return load_space(catalogue.space_folder(name)) if name else catalogue.default_space()


def _name(digest: bytes) -> str:
    """Of a space that is installed here, or its digest."""
    from duetface.manifest import ModelCatalogue, models_root

    names = {space.digest: space.name for space in ModelCatalogue(models_root()).spaces()}
    return names.get(digest, digest.hex()[:12])


def _moment(option: str, day: str) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(day), time(), UTC)
    except ValueError as error:
        raise ConfigError(f"{option} {day}: expected a day such as 2027-03-31") from error


def _after(until: str) -> datetime:
    """The day on which the old space may go, or now."""
    return max(_moment("models.until", until), datetime.now(UTC)) if until else datetime.now(UTC)


def _show(subjects: list[str]) -> None:
    for subject_id in subjects[:SHOWN]:
        output.result(f"  {subject_id}")
    if len(subjects) > SHOWN:
        output.result(f"  and {len(subjects) - SHOWN} more: --json lists them all")
