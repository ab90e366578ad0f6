"""From the shipped models to a network that runs: every file checked before anything is served."""

from duetface.errors import ConfigError
from duetface.manifest import ModelCatalogue, SpaceManifest, load_space, models_root
from duetface.spec import SplitSpec
from gallery.calibration import Calibration
from recognition_service.config import COMPARISON_SPLIT, Models
from recognition_service.embedder import Embedder
from recognition_service.network import Network


def load_network(models: Models, catalogue: ModelCatalogue | None = None) -> Network:
    """The network that the settings name, or the shipped default.

    catalogue: where the models lie; those that came with the code unless given.
    Raises ConfigError for a name that is not there or the comparison split unasked, ModelError for a damaged file.
    """
    catalogue = catalogue or ModelCatalogue(models_root())
    space = _space(catalogue, models.space)
    split = catalogue.split_by_digest(space.split_digest)
    _check_split(split, models.split, space.name)
    embedder = Embedder.load(catalogue.space_folder(space.name), split, threads=models.threads)
    return Network(
        embedder=embedder,
        split=split,
        space_digest=embedder.space_digest,
        space_name=space.name,
        calibration=Calibration.from_dict(space.calibration),
        licence=space.licence,
    )


def _space(catalogue: ModelCatalogue, name: str) -> SpaceManifest:
    if not name:
        return catalogue.default_space()
    folder = catalogue.space_folder(name)
    if folder.name != name or not folder.is_dir():
        known = [space.name for space in catalogue.spaces()]
        raise ConfigError(f"config.toml: models.space {name!r} is not there; there are {known}")
    return load_space(folder)


def _check_split(split: SplitSpec, wanted: str, space_name: str) -> None:
    if wanted and split.name != wanted:
        raise ConfigError(f"config.toml: models.space {space_name} reads split {split.name}, models.split is {wanted}")
    if split.name == COMPARISON_SPLIT and wanted != COMPARISON_SPLIT:
        raise ConfigError(
            f"split {COMPARISON_SPLIT} gives the picture away and is for comparison only: "
            f'to serve it all the same, set models.split = "{COMPARISON_SPLIT}"'
        )
