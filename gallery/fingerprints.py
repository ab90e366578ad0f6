"""Looking for bytes that should be gone, without keeping the bytes: keyed fingerprints of their short windows.

A fingerprint is h(w0, w1) = w0 c0 + w1 c1 mod 2^64 of the window's two little-endian words, with secret odd
coefficients.  Two different windows share one by chance less often than once in 2^50, and a whole file is tried at
every byte offset at some 100 MB a second.  Linear fingerprints are only secret while their list is sealed, which
gallery.erasure does.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gallery.unpacking import Searchable, contents_of

Fingerprint64s = NDArray[np.uint64]

WINDOW_BYTES = 16
# Of a long value some windows suffice: SQLite leaves a stale copy whole, or overwritten from one end.
_WINDOWS_A_VALUE = 32
# What a step works on stays in the processor's cache, and a step takes about a millisecond.
_CHUNK_BYTES = 1 << 20
# A table of 2^bits marks lets one window in 64 through to the exact comparison, up to a quarter of a million windows.
_LEAST_BITS, _SPARE_BITS, _MOST_BITS = 20, 6, 24

Rest = Callable[[], None]
"""Called after every step of a search, which may wait in it, or end the search by an exception."""


def no_rest() -> None:
    """Go on at full speed."""


@dataclass(frozen=True)
class Fingerprints:
    """What to look for.  key: 16 secret bytes.  values: (N,) uint64, ascending."""

    key: bytes
    values: Fingerprint64s

    @staticmethod
    def of(key: bytes, secrets: Iterable[bytes]) -> "Fingerprints":
        """Take the fingerprints of values; those shorter than a window are too short to be told from chance."""
        windows = [window for secret in secrets for window in _windows(secret)]
        words = np.frombuffer(b"".join(windows), dtype="<u8").reshape(-1, 2)
        return Fingerprints(key, np.unique(_hash(key, words[:, 0], words[:, 1])))

    @staticmethod
    def merged(lists: Iterable["Fingerprints"]) -> "list[Fingerprints]":
        """One list for each key, so that what was taken under the same key is looked for at once."""
        by_key: dict[bytes, list[Fingerprint64s]] = {}
        for prints in lists:
            by_key.setdefault(prints.key, []).append(prints.values)
        return [Fingerprints(key, np.unique(np.concatenate(values))) for key, values in by_key.items()]

    def to_bytes(self) -> bytes:
        """Key and values, to be sealed."""
        return self.key + self.values.astype("<u8").tobytes()

    @staticmethod
    def from_bytes(data: bytes) -> "Fingerprints":
        """Undo to_bytes."""
        return Fingerprints(data[:16], np.frombuffer(data[16:], dtype="<u8").astype(np.uint64))

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.values)

    def found_in(self, content: Searchable, rest: Rest = no_rest) -> int:
        """How many of the windows occur at any byte offset of the content."""
        return len(self._seen_in([content], rest))

    def found_in_files(self, paths: Sequence[Path], rest: Rest = no_rest) -> dict[Path, int]:
        """The files that hold windows, and how many.  Raises GalleryError for a file whose form hides its bytes."""
        found = {path: self._found_in_file(path, rest) for path in paths}
        return {path: count for path, count in found.items() if count}

    def _found_in_file(self, path: Path, rest: Rest) -> int:
        try:
            return len(self._seen_in(contents_of(path, overlap=WINDOW_BYTES - 1), rest))
        except FileNotFoundError:
            return 0  # a database server removes files of its own at any time

    def _seen_in(self, contents: Iterable[Searchable], rest: Rest) -> set[int]:
        seen = set[int]()
        if not len(self.values):
            return seen
        shift, table = self._table()
        for content in contents:
            for start in range(0, len(content) - WINDOW_BYTES + 1, _CHUNK_BYTES):
                # Chunks overlap by a window less one byte, so that no offset is left out.
                chunk = np.frombuffer(content[start : start + _CHUNK_BYTES + WINDOW_BYTES - 1], dtype=np.uint8)
                for offset in range(min(8, len(chunk) - WINDOW_BYTES + 1)):
                    seen.update(self._held(self._at(chunk, offset), shift, table))
                    rest()
        return seen

    def _table(self) -> tuple[np.uint64, NDArray[np.bool_]]:
        """Which highest bits of a hash any value has, and how far to shift a hash for them."""
        bits = min(max(_LEAST_BITS, len(self.values).bit_length() + _SPARE_BITS), _MOST_BITS)
        shift = np.uint64(64 - bits)
        table = np.zeros(1 << bits, np.bool_)
        table[self.values >> shift] = True
        return shift, table

    def _held(self, hashes: Fingerprint64s, shift: np.uint64, table: NDArray[np.bool_]) -> list[int]:
        """Those of the hashes that are among the values."""
        likely = hashes[table[hashes >> shift]]
        places = np.searchsorted(self.values, likely)
        places[places == len(self.values)] = 0
        found: list[int] = likely[self.values[places] == likely].tolist()
        return found

    def _at(self, chunk: NDArray[np.uint8], offset: int) -> Fingerprint64s:
        """Hashes of the windows that begin at offset, offset + 8, offset + 16, ..."""
        words = chunk[offset : offset + (len(chunk) - offset) // 8 * 8].view("<u8")
        return _hash(self.key, words[:-1], words[1:])


def _windows(secret: bytes) -> list[bytes]:
    """At most _WINDOWS_A_VALUE windows, evenly spread, the first and the last among them."""
    last = len(secret) - WINDOW_BYTES
    if last < 0:
        return []
    count = min(_WINDOWS_A_VALUE, last // WINDOW_BYTES + 2)
    starts = sorted({round(last * n / (count - 1)) for n in range(count)})
    return [secret[start : start + WINDOW_BYTES] for start in starts]


def _hash(key: bytes, first: NDArray[np.uint64], second: NDArray[np.uint64]) -> Fingerprint64s:
    low, high = np.frombuffer(key, dtype="<u8") | np.uint64(1)
    return np.asarray(first * low + second * high, dtype=np.uint64)
