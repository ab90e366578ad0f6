"""A sealed copy of the indexes on disk, so that a large gallery starts in seconds.

Nothing of it is used before it is authenticated: AES-256-GCM over pieces, each bound to the header and to its place.
The last piece is empty, as no other is: a snapshot of nothing, too, is one that the realm has sealed.
It is a cache: whoever finds it damaged, foreign or of another history rebuilds from the store.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from duetface.errors import GalleryError
from gallery import sealing

_MAGIC = b"DFSN0002"
_PURPOSE = "index snapshots"
# The library seals less than 2 GiB at once; smaller pieces also keep the second copy in memory small.
_PIECE_BYTES = 1 << 26
_LENGTH_BYTES = 8
_PARTIAL = ".partial"


@dataclass(frozen=True)
class Header:
    """What a snapshot is of.

    revision: that its content has followed to.  history: digest of the audit row of that revision, in hexadecimal;
    a store that was set back and went another way has another.  parts: lengths of the plaintext parts, in order.
    names: per part what it is, as the view wrote it.
    """

    realm: str
    realm_key_version: int
    revision: int
    history: str
    names: list[str]
    lengths: list[int]


@dataclass(frozen=True)
class Content:
    """What is to be sealed: under which key, the header, and the plaintext parts that it describes."""

    key: bytes
    header: Header
    parts: Iterator[bytes]


def write(path: Path, collect: Callable[[], Content]) -> None:
    """Seal what `collect` gives into a new file (mode 0600), which takes the old one's place only when it is whole.

    The file is there before anything is collected: a `drop` meanwhile, of a deletion, takes it away.
    Raises GalleryError if that happened, or if it cannot be written.  For one process at a time: what another has
    begun, or a crash has left, is thrown away.
    """
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{_PARTIAL}")
    try:
        _drop_partials(path)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            _seal(file, collect())
            os.fsync(file.fileno())
        if not partial.exists():
            raise GalleryError(f"{path}: something was deleted meanwhile, which no snapshot may keep: write it again")
        partial.replace(path)
    except OSError as error:
        raise GalleryError(f"{path} cannot be written: {error.strerror}; the gallery works without it") from error
    finally:
        partial.unlink(missing_ok=True)


def drop(path: Path) -> None:
    """Delete a snapshot, and every one that is being written: what they hold has been deleted.  Raises OSError."""
    path.unlink(missing_ok=True)
    _drop_partials(path)


def _drop_partials(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}.*{_PARTIAL}"):
        file.unlink(missing_ok=True)


def _seal(file: BinaryIO, content: Content) -> None:
    encoded = json.dumps(asdict(content.header), sort_keys=True).encode()
    file.write(_MAGIC + len(encoded).to_bytes(_LENGTH_BYTES, "little") + encoded)
    for number, piece in enumerate(_pieces(content.parts)):
        sealed = sealing.seal(content.key, piece, _context(encoded, number))
        file.write(len(sealed).to_bytes(_LENGTH_BYTES, "little") + sealed)
    file.flush()


def _pieces(parts: Iterator[bytes]) -> Iterator[bytes]:
    for part in parts:
        for start in range(0, len(part), _PIECE_BYTES):
            yield part[start : start + _PIECE_BYTES]
    yield b""


def _context(encoded_header: bytes, number: int) -> bytes:
    return sealing.context(_PURPOSE, hashlib.sha256(encoded_header).digest(), number)


def is_snapshot(path: Path) -> bool:
    """Whether there is a file that begins as a snapshot does."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False  # whoever reads it next says what is wrong


def read_header(path: Path) -> Header:
    """The header, not yet authenticated: good for choosing the key only.  Raises GalleryError."""
    with path.open("rb") as file:
        return _parse_header(path, _read_encoded(path, file))


def _read_encoded(path: Path, file: BinaryIO) -> bytes:
    start = file.read(len(_MAGIC) + _LENGTH_BYTES)
    length = int.from_bytes(start[len(_MAGIC) :], "little")
    if start[: len(_MAGIC)] != _MAGIC or length > path.stat().st_size:
        raise GalleryError(f"{path} is no snapshot of this release")
    return file.read(length)


def _parse_header(path: Path, encoded: bytes) -> Header:
    try:
        header = Header(**json.loads(encoded))
        numbers = [header.realm_key_version, header.revision, *header.lengths]
        if any(type(number) is not int or number < 0 for number in numbers) or len(header.names) != len(header.lengths):
            raise ValueError
    except (TypeError, ValueError) as error:
        raise GalleryError(f"{path} has a damaged header") from error
    return header


def read(path: Path, key: bytes) -> tuple[Header, list[bytes]]:
    """Open a snapshot.  Raises GalleryError for a flipped bit, a missing piece, or another key."""
    with path.open("rb") as file:
        encoded = _read_encoded(path, file)
        header = _parse_header(path, encoded)
        pieces = _opened(path, key, encoded, file)
        parts = [_take(path, pieces, length) for length in header.lengths]
        if next(pieces, None) != b"":
            raise GalleryError(f"{path} lacks the end that its header calls for")
        if next(pieces, None) is not None:
            raise GalleryError(f"{path} goes on after its end")
    return header, parts


def _opened(path: Path, key: bytes, encoded: bytes, file: BinaryIO) -> Iterator[bytes]:
    number = 0
    while prefix := file.read(_LENGTH_BYTES):
        length = int.from_bytes(prefix, "little")
        if len(prefix) < _LENGTH_BYTES or length > _PIECE_BYTES + sealing.OVERHEAD_BYTES:
            raise GalleryError(f"{path} is cut short or damaged")
        yield sealing.unseal(key, file.read(length), _context(encoded, number), f"piece {number} of {path}")
        number += 1


def _take(path: Path, pieces: Iterator[bytes], length: int) -> bytes:
    """The next part: as many pieces as it was cut into."""
    taken: list[bytes] = []
    while length:
        piece = next(pieces, None)
        if piece is None or len(piece) != min(length, _PIECE_BYTES):
            raise GalleryError(f"{path} is cut short")
        taken.append(piece)
        length -= len(piece)
    return b"".join(taken)
