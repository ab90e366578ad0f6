"""The splits that a device can code a face for; which of them it uses, the service says."""

from collections.abc import Collection, Sequence
from typing import Protocol

from duetface.manifest import ModelCatalogue, load_split
from duetface.spec import SplitSpec
from duetface.types import AlignedFace, ProtectedFace

MOST_FACES = 4  # of one probe (protos/duetface/v1/face.proto)


class FaceEncoder(Protocol):
    """One split's device half, such as edge_agent.client_network.Encoder."""

    @property
    def spec(self) -> SplitSpec:
        """The split."""

    def encode(self, face: AlignedFace) -> ProtectedFace:
        """Turn a crop into the codes that may leave the device."""


class InstalledEncoders:
    """The client network of each installed split, opened when it is first wanted."""

    def __init__(self, catalogue: ModelCatalogue, split_names: Sequence[str] = (), threads: int = 1) -> None:
        """split_names: only these, in this order; every installed one if empty.

        Raises ModelError, naming file and remedy, if one is missing or altered.
        """
        names = split_names or [spec.name for spec in catalogue.splits()]
        self._folders = {
            load_split(catalogue.split_folder(name)).digest: catalogue.split_folder(name) for name in names
        }
        self._threads = threads
        self._opened: dict[bytes, FaceEncoder] = {}

    @property
    def digests(self) -> tuple[bytes, ...]:
        """Of every split that is installed, 32 bytes each."""
        return tuple(self._folders)

    def of(self, digests: Collection[bytes]) -> tuple[FaceEncoder, ...]:
        """Those of these splits that are installed, at most four.  Raises ModelError for an altered file."""
        return tuple(self._open(digest) for digest in self._folders if digest in digests)[:MOST_FACES]

    def _open(self, digest: bytes) -> FaceEncoder:
        if digest not in self._opened:
            from edge_agent.client_network import Encoder  # ONNX Runtime takes a while to load

            self._opened[digest] = Encoder.load(self._folders[digest], self._threads)
        return self._opened[digest]
