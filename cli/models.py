"""`duetface models`: which splits and template spaces are shipped, and on which terms."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from cli import output
from cli.options import Json

if TYPE_CHECKING:
    from duetface.manifest import SpaceManifest
    from duetface.spec import SplitSpec

app = typer.Typer(
    no_args_is_help=True,
    help="The models that are shipped: splits, template spaces, licences.",
    epilog="Example: `duetface models list`",
)


@app.command("list", epilog="Example: `duetface models list --json`")
def list_(as_json: Json = False) -> None:
    """List splits and template spaces with digests and licences; every file's SHA-256 is checked."""
    from duetface.manifest import ModelCatalogue, models_root

    catalogue = ModelCatalogue(models_root())
    default_split, default_space = catalogue.default_split().name, catalogue.default_space().name
    shipped = catalogue.splits()
    named = {split.digest: split.name for split in shipped}
    splits = [_split(split, default_split) for split in shipped]
    spaces = [_space(space, named, default_space) for space in catalogue.spaces()]
    if as_json:
        output.result_json({"splits": splits, "spaces": spaces})
        return
    output.result("Splits: what stays on the device, and how the rest is coded")
    _table(("name", "family", "upsampling", "bytes", "digest", "use"), splits)
    output.result("\nTemplate spaces: a split and one server network; templates compare only inside one")
    _table(("name", "split", "precision", "dimension", "digest", "licence", "use"), spaces)


def _table(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    output.result_table(columns, ([row[key] for key in columns] for row in rows))


def _split(split: "SplitSpec", default: str) -> dict[str, Any]:
    return {
        "name": split.name,
        "version": split.version,
        "family": split.family,
        "upsampling": split.upsampling,
        "bytes": sum(plane.packed_length for plane in split.planes),
        "planes": [plane.name for plane in split.planes],
        "digest": split.digest.hex()[:16],
        "use": "default" if split.name == default else "comparison only" if split.interpolated else "",
    }


def _space(space: "SpaceManifest", splits: Mapping[bytes, str], default: str) -> dict[str, Any]:
    return {
        "name": space.name,
        "split": splits.get(space.split_digest, "not shipped"),
        "split_digest": space.split_digest.hex()[:16],
        "precision": space.precision,
        "dimension": space.dimension,
        "teacher": space.teacher,
        "data": space.data,
        "licence": space.licence,
        "digest": space.digest.hex()[:16],
        "use": "default" if space.name == default else "",
    }
