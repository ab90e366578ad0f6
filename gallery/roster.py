"""Which subject a template belongs to and until when its consent holds: small arrays beside each index.

One writer, any number of readers without a lock: arrays only grow beyond what readers see, or change one number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]

_GONE = 0  # no subject has this number


@dataclass(frozen=True)
class _Rows:
    """`used` of each array are visible; ids ascend."""

    ids: Int64s
    subjects: Int64s
    expires_us: Int64s
    used: int


class Roster:
    """Template id -> subject number and expiry, 24 bytes a template."""

    def __init__(self) -> None:
        """An empty roster."""
        self._rows = _allocate(16)

    def __len__(self) -> int:
        """How many templates are left, whatever their consent."""
        rows = self._rows
        return int(np.count_nonzero(rows.subjects[: rows.used]))

    @property
    def empty(self) -> bool:
        """Whether no template is left."""
        return len(self) == 0

    def to_bytes(self) -> bytes:
        """The roster as a snapshot holds it."""
        rows = self._rows
        live = rows.subjects[: rows.used] != _GONE
        columns = (rows.ids, rows.subjects, rows.expires_us)
        return b"".join(column[: rows.used][live].astype("<i8").tobytes() for column in columns)

    @staticmethod
    def from_bytes(data: bytes) -> "Roster":
        """Undo to_bytes; the bytes were authenticated before."""
        roster = Roster()
        ids, subjects, expires_us = np.frombuffer(data, dtype="<i8").astype(np.int64).reshape(3, -1)
        roster._rows = _Rows(ids.copy(), subjects.copy(), expires_us.copy(), len(ids))
        return roster

    def put(self, template_ids: Sequence[int], subject_keys: Sequence[int], expires_us: Sequence[int]) -> None:
        """Add or replace templates."""
        ids = np.asarray(template_ids, np.int64)
        order = np.argsort(ids)
        new = (ids[order], np.asarray(subject_keys, np.int64)[order], np.asarray(expires_us, np.int64)[order])
        rows = self._rows
        if not len(ids):
            return
        if rows.used and new[0][0] <= rows.ids[rows.used - 1]:
            self._merge(*new)
            return
        end = rows.used + len(ids)
        if end > len(rows.ids):
            rows = _copy(rows, np.ones(rows.used, bool), max(end, 2 * len(rows.ids)))
        for column, values in zip((rows.ids, rows.subjects, rows.expires_us), new, strict=True):
            column[rows.used : end] = values
        self._rows = _Rows(rows.ids, rows.subjects, rows.expires_us, end)

    def _merge(self, ids: Int64s, subjects: Int64s, expires_us: Int64s) -> None:
        """Put ids that do not all come after the last: a new set of arrays."""
        rows = self._rows
        kept = ~np.isin(rows.ids[: rows.used], ids)
        columns = [
            np.concatenate([old[: rows.used][kept], new])
            for old, new in ((rows.ids, ids), (rows.subjects, subjects), (rows.expires_us, expires_us))
        ]
        order = np.argsort(columns[0])
        self._rows = _Rows(columns[0][order], columns[1][order], columns[2][order], len(order))

    def remove(self, template_ids: Sequence[int]) -> None:
        """Forget templates; unknown ids are no error."""
        rows = self._rows
        places = self._places(rows, np.asarray(template_ids, np.int64))
        rows.subjects[places[places >= 0]] = _GONE
        live = rows.subjects[: rows.used] != _GONE
        if int(live.sum()) * 2 < rows.used:
            self._rows = _copy(rows, live, max(16, rows.used))

    def held(self, template_ids: Sequence[int]) -> set[int]:
        """Those of the ids that are there, whatever their consent."""
        rows = self._rows
        ids = np.asarray(template_ids, np.int64)
        places = self._places(rows, ids)
        there = (places >= 0) & (rows.subjects[places] != _GONE)
        return {int(i) for i in ids[there]}

    def of_subject(self, subject_key: int) -> list[int]:
        """The templates of one subject."""
        rows = self._rows
        return [int(i) for i in rows.ids[: rows.used][rows.subjects[: rows.used] == subject_key]]

    def all_ids(self) -> list[int]:
        """Every template."""
        rows = self._rows
        return [int(i) for i in rows.ids[: rows.used][rows.subjects[: rows.used] != _GONE]]

    def subjects_of(self, template_ids: Int64s, now_us: int) -> Int64s:
        """(N,) subject numbers; 0 for a template that is gone or whose consent has ended."""
        rows = self._rows
        places = self._places(rows, template_ids)
        valid = (places >= 0) & (rows.expires_us[places] > now_us)
        return np.where(valid, rows.subjects[places], _GONE)

    @staticmethod
    def _places(rows: _Rows, template_ids: Int64s) -> Int64s:
        """(N,) positions, -1 where the id is not there."""
        places = np.searchsorted(rows.ids[: rows.used], template_ids)
        found = places < rows.used
        found[found] = rows.ids[places[found]] == template_ids[found]
        return np.where(found, places, -1)


def _allocate(capacity: int) -> _Rows:
    return _Rows(np.zeros(capacity, np.int64), np.zeros(capacity, np.int64), np.zeros(capacity, np.int64), 0)


def _copy(rows: _Rows, kept: NDArray[np.bool_], capacity: int) -> _Rows:
    copy = _allocate(capacity)
    used = int(kept.sum())
    for old, new in zip(
        (rows.ids, rows.subjects, rows.expires_us), (copy.ids, copy.subjects, copy.expires_us), strict=True
    ):
        new[:used] = old[: rows.used][kept]
    return _Rows(copy.ids, copy.subjects, copy.expires_us, used)
