"""What a site may choose about its gallery."""

from dataclasses import dataclass
from pathlib import Path

from duetface.errors import ContractError, MessageError
from gallery.index import Vectors, check_vectors
from gallery.indexes import faiss_exact
from gallery.view import IndexFactory

DIGEST_BYTES = 32


@dataclass(frozen=True)
class GalleryOptions:
    """What a site may choose.

    dimension: D of every embedding.  templates_per_subject: most templates of one subject in one space.
    spaces: the only template spaces accepted, or None for any.
    index_factory: makes an index of a dimension; gallery.indexes has one of each kind.
    busy_timeout_ms: how long a SQLite write waits for another process's lock.
    snapshot_path: where Maintenance.write_snapshot writes, and open begins with, sealed copies of the indexes.
    follower: name of this process if it is a replica: erasures wait until it has followed (`refresh`).
    indexed: False keeps no index: for an operator's process, which changes and tells and never searches.
    """

    dimension: int = 512
    templates_per_subject: int = 64
    spaces: frozenset[bytes] | None = None
    index_factory: IndexFactory = faiss_exact
    busy_timeout_ms: int = 5000
    snapshot_path: Path | None = None
    follower: str = ""
    indexed: bool = True

    def check_embedding(self, embedding: Vectors, space_digest: bytes) -> Vectors:
        """(1, D) of an embedding (D,); raises MessageError, ContractError for a space that is not accepted."""
        if len(space_digest) != DIGEST_BYTES:
            raise MessageError(f"a space digest has {len(space_digest)} bytes: expected {DIGEST_BYTES}")
        if self.spaces is not None and space_digest not in self.spaces:
            raise ContractError("the template space is not one that this gallery accepts: use a space of the service")
        return check_vectors(embedding[None], self.dimension)
