"""The kinds of index by name, and what each needs to be made; a server's packages are imported when asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from duetface.errors import ConfigError
from gallery.faiss_exact import FaissExactIndex
from gallery.faiss_rabitq import FaissRabitqIndex
from gallery.index import GalleryIndex


class IndexKind(StrEnum):
    """What searches a gallery: see docs/operations.md for when to move on."""

    FAISS_EXACT = "faiss-exact"
    FAISS_RABITQ = "faiss-rabitq"
    PGVECTOR = "pgvector"
    MILVUS = "milvus"


@dataclass(frozen=True)
class IndexSettings:
    """threads: that one search uses (FAISS).

    url: of PostgreSQL, or http(s)://HOST:PORT of Milvus.  token: USER:PASSWORD or API key of Milvus.
    certificates: folder with client.crt, client.key and ca.crt for mutual TLS with Milvus; None: no TLS.
    server_name: as it stands in Milvus's certificate.  replica: told apart from others that share one Milvus.
    """

    kind: IndexKind = IndexKind.FAISS_EXACT
    threads: int = 1
    url: str = ""
    token: str = ""
    certificates: Path | None = None
    server_name: str = ""
    replica: str = ""


def faiss_exact(dimension: int, _name: str) -> GalleryIndex:
    """The default: every template compared in float32."""
    return FaissExactIndex(dimension)


def index_factory(settings: IndexSettings) -> Callable[[int, str], GalleryIndex]:
    """A maker of indexes of one kind.  Raises ConfigError for a missing URL or package."""
    if settings.kind in (IndexKind.PGVECTOR, IndexKind.MILVUS) and not settings.url:
        raise ConfigError(f"the index {settings.kind} needs the URL of its server")
    if settings.kind is IndexKind.PGVECTOR:
        return _pgvector(settings)
    if settings.kind is IndexKind.MILVUS:
        return _milvus(settings)
    if settings.kind is IndexKind.FAISS_RABITQ:
        return lambda dimension, _: FaissRabitqIndex(dimension, settings.threads)
    return lambda dimension, _: FaissExactIndex(dimension, settings.threads)


def _pgvector(settings: IndexSettings) -> Callable[[int, str], GalleryIndex]:
    from gallery.pgvector import PgVectorIndexes
    from gallery.postgres import Postgres

    return PgVectorIndexes(Postgres(settings.url))


def _milvus(settings: IndexSettings) -> Callable[[int, str], GalleryIndex]:
    from gallery.milvus import MilvusIndexes
    from gallery.milvus_collections import Milvus, MutualTls

    folder, tls = settings.certificates, None
    if folder is not None:
        tls = MutualTls(folder / "client.crt", folder / "client.key", folder / "ca.crt", settings.server_name)
    return MilvusIndexes(Milvus(settings.url, settings.token, tls), settings.replica)
