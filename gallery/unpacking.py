"""The bytes of a file as a search must see them: as they lie, and what a format or a spelling hides.

Parquet is decoded column by column; in text (SQL dumps, JSON, CSV) long runs of hexadecimal, of
base64 and of numbers are undone.
A form that would hide its bytes is refused: a search of it would find nothing and prove nothing.
"""

import base64
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from duetface.errors import GalleryError

Searchable = bytes | mmap.mmap | memoryview

_PARQUET = b"PAR1"
_HIDING = {
    b"\x1f\x8b": "compressed (gzip): unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed (zstd): unpack it first",
    b"\x04\x22\x4d\x18": "compressed (lz4): unpack it first",
    b"BZh": "compressed (bzip2): unpack it first",
    b"\xfd7zXZ": "compressed (xz): unpack it first",
    b"PK\x03\x04": "compressed (zip): unpack it first",
    b"PGDMP": "a compressed dump of PostgreSQL: `pg_restore -f FILE.sql` unpacks it",
    b"DFSN": "a sealed snapshot of an index: delete it",
}
# A window of 16 bytes is 32 hexadecimal digits; runs shorter than two windows are names and numbers.
_HEXADECIMAL = re.compile(rb"[0-9A-Fa-f]{64,}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{44,}")
# A list of numbers, as pg_dump prints a vector: the shortest decimal that gives the float32 back.
_NUMBERS = re.compile(rb"[-+0-9.eE, ]{200,}")
_NUMBER = re.compile(rb"[-+]?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_LOOKED_AT = 1 << 16
_PIECE_BYTES = 1 << 20


def contents_of(path: Path, overlap: int = 0) -> Iterator[Searchable]:
    """Everything in a file that can be searched, piece by piece; each piece is to be used before the next is taken.

    overlap: bytes that a piece of the file as it lies shares with the one before.
    Raises GalleryError for a file that cannot be read or whose form hides its bytes, FileNotFoundError.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_LOOKED_AT)
            _refuse_hiding(path, start)
            yield from _pieces(file, overlap)
            if start[:4] == _PARQUET:
                yield from _columns(path)
            elif start and b"\x00" not in start:
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    yield from undone(content)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise GalleryError(f"{path} cannot be searched: {error.strerror or error}") from error


def _pieces(file: BinaryIO, overlap: int) -> Iterator[bytes]:
    """The file as it lies.  Read and not mapped: another process may cut a database short while it is searched,
    and a map ends where the file does, by a signal that kills.
    """
    place = 0
    while True:
        file.seek(place)
        piece = file.read(_PIECE_BYTES + overlap)
        if piece:
            yield piece
        if len(piece) < _PIECE_BYTES + overlap:
            return
        place += _PIECE_BYTES


def _refuse_hiding(path: Path, start: bytes) -> None:
    for magic, why in _HIDING.items():
        if start.startswith(magic):
            raise GalleryError(f"{path} cannot be searched, it is {why}")


def _columns(path: Path) -> Iterator[Searchable]:
    """The values of every column of a Parquet file, one batch of rows after the other."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for column in batch.columns:
                    for buffer in column.buffers():
                        if buffer is not None:
                            content = memoryview(buffer).cast("B")
                            yield content
                            if b"\x00" not in bytes(content[:_LOOKED_AT]):
                                yield from undone(content)
    except pyarrow.ArrowException as error:
        raise GalleryError(f"{path} is no whole Parquet file: its columns cannot be searched") from error


def undone(text: Searchable) -> Iterator[bytes]:
    """What long runs of hexadecimal digits, of base64 and of numbers stand for, wherever in a run they begin."""
    for run in _HEXADECIMAL.finditer(text):
        for start in range(2):
            digits = run[0][start:]
            yield bytes.fromhex(digits[: len(digits) // 2 * 2].decode())
    for run in _BASE64.finditer(text):
        for start in range(4):
            letters = run[0][start:].translate(_URL_SAFE)
            yield base64.b64decode(letters[: len(letters) // 4 * 4])
    for run in _NUMBERS.finditer(text):
        numbers = np.array([float(number) for number in _NUMBER.findall(run[0])], np.float64)
        with np.errstate(over="ignore"):  # what is no float32 was no vector
            yield numbers.astype("<f4").tobytes()
