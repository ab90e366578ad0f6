"""The models that are shipped: splits and template spaces, each file checked against its digest.

models/splits/NAME/{split.json, client.onnx}   what agent and service agree on
models/spaces/NAME/{space.json, server.onnx}   one server network for one split, and its calibration
models/default.json                            {"split": NAME, "space": NAME}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from duetface.errors import ModelError
from duetface.spec import SplitSpec, build_strictly, canonical_digest

Manifest = TypeVar("Manifest", SplitSpec, "SpaceManifest")

REMEDY = "restore it (git checkout models, or reinstall duetface)"


@dataclass(frozen=True)
class SpaceManifest:
    """One template space: templates compare only inside it.

    split_digest: 32 bytes, whose messages the server network reads.  server_file: name in the space's folder.
    precision: "float32" or "int8".  dimension: of an embedding.
    calibration: plain JSON, see gallery.calibration.  teacher, data, licence: what the weights come from.
    """

    name: str
    split_digest: bytes
    server_file: str
    server_sha256: str
    precision: str
    dimension: int
    calibration: Mapping[str, Any]
    teacher: str
    data: str
    licence: str

    @property
    def digest(self) -> bytes:
        """32 bytes that name the space: split, server file and precision. Calibrating again changes no template."""
        return canonical_digest(
            {
                "split_digest": self.split_digest.hex(),
                "server_sha256": self.server_sha256,
                "precision": self.precision,
                "dimension": self.dimension,
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, every field; the split's digest as hex."""
        return {**asdict(self), "split_digest": self.split_digest.hex()}

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> SpaceManifest:
        """The inverse of to_dict. Raises ModelError for an unknown, missing or malformed field."""
        try:
            digest = bytes.fromhex(raw["split_digest"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError("space: split_digest must be 64 hex digits") from error
        return build_strictly(SpaceManifest, {**raw, "split_digest": digest}, "space")


@dataclass(frozen=True)
class ModelCatalogue:
    """Every split and space below one models folder; each call reads and checks anew."""

    root: Path

    def splits(self) -> list[SplitSpec]:
        """By name."""
        return [load_split(path.parent) for path in sorted(self.root.glob("splits/*/split.json"))]

    def spaces(self) -> list[SpaceManifest]:
        """By name."""
        return [load_space(path.parent) for path in sorted(self.root.glob("spaces/*/space.json"))]

    def split_by_digest(self, digest: bytes) -> SplitSpec:
        """Raises ModelError if no split here has that digest."""
        for split in self.splits():
            if split.digest == digest:
                return split
        raise ModelError(f"no split with digest {digest.hex()[:16]} in {self.root}: update the older end")

    def default_split(self) -> SplitSpec:
        """The split that agents use unless told otherwise."""
        return load_split(self.split_folder(self._default("split")))

    def default_space(self) -> SpaceManifest:
        """The space in which the service makes templates unless told otherwise."""
        return load_space(self.space_folder(self._default("space")))

    def split_folder(self, name: str) -> Path:
        """Folder of the split of that name."""
        return self.root / "splits" / name

    def space_folder(self, name: str) -> Path:
        """Folder of the space of that name."""
        return self.root / "spaces" / name

    def _default(self, kind: str) -> str:
        name = _read_json(self.root / "default.json").get(kind)
        if not isinstance(name, str):
            raise ModelError(f"{self.root / 'default.json'} names no {kind}: {REMEDY}")
        return name


def models_root() -> Path:
    """The models folder: the checkout's, or the one inside the installed package."""
    package = Path(__file__).resolve().parent
    for folder in (package.parent / "models", package / "models"):
        if (folder / "default.json").is_file():
            return folder
    raise ModelError(f"no models beside or in {package}: reinstall duetface")


def load_split(folder: Path) -> SplitSpec:
    """Read split.json and check client.onnx. Raises ModelError naming the file and the remedy."""
    path = folder / "split.json"
    split = _naming(path, SplitSpec.from_dict)
    if split.client_network_sha256:
        check_digest(folder / "client.onnx", split.client_network_sha256)
    return split


def load_space(folder: Path) -> SpaceManifest:
    """Read space.json and check its server network. Raises ModelError naming the file and the remedy."""
    path = folder / "space.json"
    space = _naming(path, SpaceManifest.from_dict)
    if Path(space.server_file).name != space.server_file:
        raise ModelError(f"{path}: server_file must be a plain name, got {space.server_file!r}")
    check_digest(folder / space.server_file, space.server_sha256)
    return space


def check_digest(path: Path, sha256: str) -> None:
    """Raises ModelError if the file is missing or its SHA-256 (hex) is another."""
    try:
        got = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}): {REMEDY}") from error
    if got != sha256:
        raise ModelError(f"{path} is damaged or another file: SHA-256 {got[:16]}, expected {sha256[:16]}; {REMEDY}")


def _naming(path: Path, build: Callable[[Mapping[str, Any]], Manifest]) -> Manifest:
    try:
        return build(_read_json(path))
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}): {REMEDY}") from error
    if not isinstance(raw, dict):
        raise ModelError(f"{path} holds no JSON object: {REMEDY}")
    return raw
