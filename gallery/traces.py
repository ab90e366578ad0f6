"""Looking for bytes that should be gone: in the files of a store, whatever the database says."""

import mmap
from collections.abc import Iterable, Sequence
from pathlib import Path

# Long enough that chance cannot produce it, short enough to find what is left of a value after one end was overwritten.
WINDOW_BYTES = 16


def windows(value: bytes) -> list[bytes]:
    """The value cut into windows of WINDOW_BYTES, and one at its end; a shorter value is its own window."""
    starts = [*range(0, max(len(value) - WINDOW_BYTES, 0), WINDOW_BYTES), max(len(value) - WINDOW_BYTES, 0)]
    return [value[start : start + WINDOW_BYTES] for start in starts]


def find_traces(erased: Sequence[bytes], paths: Iterable[Path]) -> list[Path]:
    """The files that still hold one of the values: its first, middle or last window.

    A value that SQLite moved within a page is left whole, or overwritten from one end: three windows find it.
    """
    wanted = {window for value in erased for window in _telling(windows(value))}
    return [path for path in paths if path.exists() and _holds(path, wanted)]


def _telling(cut: list[bytes]) -> list[bytes]:
    return [cut[0], cut[len(cut) // 2], cut[-1]]


def _holds(path: Path, wanted: set[bytes]) -> bool:
    if path.stat().st_size == 0:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(window) >= 0 for window in wanted)
