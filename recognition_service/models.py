"""From the shipped models to a network that runs: every file checked before anything is served."""

from dataclasses import dataclass

from duetface.errors import ConfigError
from duetface.manifest import ModelCatalogue, SpaceManifest, load_space, models_root
from duetface.spec import SplitSpec
from gallery.calibration import Calibration
from recognition_service.config import Models
from recognition_service.embedder import Embedder
from recognition_service.network import Network


@dataclass(frozen=True)
class _Wanted:
    """Names of the configuration and the keys that they stand under."""

    split: str
    space: str
    split_key: str
    space_key: str


def load_network(models: Models, catalogue: ModelCatalogue | None = None) -> Network:
    """The network that the settings name, or the shipped default.

    catalogue: where the models lie; those that came with the code unless given.
    Raises ConfigError for a name that is not there or the comparison split unasked, ModelError for a damaged file.
    """
    wanted = _Wanted(models.split, models.space, "models.split", "models.space")
    return _load(wanted, models.threads, catalogue or ModelCatalogue(models_root()))


def load_upcoming_network(models: Models, catalogue: ModelCatalogue | None = None) -> Network | None:
    """The network of the space that the gallery moves to; None if it stays.  Raises as `load_network`."""
    if not models.next_space:
        return None
    wanted = _Wanted(models.next_split, models.next_space, "models.next_split", "models.next_space")
    return _load(wanted, models.threads, catalogue or ModelCatalogue(models_root()))


def _load(wanted: _Wanted, threads: int, catalogue: ModelCatalogue) -> Network:
    space = _space(catalogue, wanted)
    split = catalogue.split_by_digest(space.split_digest)
    _check_split(split, wanted, space.name)
    embedder = Embedder.load(catalogue.space_folder(space.name), split, threads=threads)
    return Network(
        embedder=embedder,
        split=split,
        space_digest=embedder.space_digest,
        space_name=space.name,
        calibration=Calibration.from_dict(space.calibration),
        licence=space.licence,
    )


def _space(catalogue: ModelCatalogue, wanted: _Wanted) -> SpaceManifest:
    if not wanted.space:
        return catalogue.default_space()
    folder = catalogue.space_folder(wanted.space)
    if folder.name != wanted.space or not folder.is_dir():
        known = [space.name for space in catalogue.spaces()]
        raise ConfigError(f"config.toml: {wanted.space_key} {wanted.space!r} is not there; there are {known}")
    return load_space(folder)


def _check_split(split: SplitSpec, wanted: _Wanted, space_name: str) -> None:
    if wanted.split and split.name != wanted.split:
        raise ConfigError(
            f"config.toml: {wanted.space_key} {space_name} reads split {split.name}, "
            f"{wanted.split_key} is {wanted.split}"
        )
    if split.interpolated and wanted.split != split.name:
        raise ConfigError(
            f"split {split.name} gives the picture away and is for comparison only: "
            f'to serve it all the same, set {wanted.split_key} = "{split.name}"'
        )
