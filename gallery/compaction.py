"""Writing an index's segments anew, beside its readers and its writer: functions from content to content."""

from dataclasses import dataclass

import numpy as np

from gallery.index import TemplateIds
from gallery.scan_code import Rows
from gallery.segments import Content, Delta, Segment

# A delta of fewer rows is searched in less time than it costs to write a segment.
SEAL_ROWS = 4096
FIRST_DELTA_ROWS = 64
# Bounds the memory that a step takes when a purge touched every segment.
_REMOVALS_A_STEP = 4


@dataclass(frozen=True)
class Step:
    """`built` takes the place of the segments at `sources` and of the delta's first `sealed` rows."""

    sources: tuple[int, ...]
    sealed: int
    built: tuple[Segment, ...]


def build(ids: TemplateIds, rows: Rows, segment_rows: int) -> tuple[Segment, ...]:
    """Segments of at most `segment_rows` from (N,) ids and (N, D) rows; copies, so that those can be freed."""
    parts = [slice(start, start + segment_rows) for start in range(0, len(ids), segment_rows)]
    return tuple(Segment.build(ids[part].copy(), rows[part].copy()) for part in parts)


def next_step(content: Content, segment_rows: int) -> Step | None:
    """Write anew a few segments with removed rows, all small segments, and a delta that is long or has removed rows.

    Returns None when there is nothing to do.
    """
    dirty = [place for place, segment in enumerate(content.segments) if segment.removed is not None]
    delta = content.delta
    long = delta.used >= min(SEAL_ROWS, segment_rows)
    sealed = delta.used if long or bool(delta.removed.any()) else 0
    if not dirty and not sealed:
        return None
    small = [place for place, segment in enumerate(content.segments) if 2 * segment.kept.sum() < segment_rows]
    sources = tuple(sorted({*small, *dirty[:_REMOVALS_A_STEP]}))
    ids, rows = content.kept(sources, sealed)
    return Step(sources, sealed, build(ids, rows, segment_rows))


def merge(step: Step, before: Content, now: Content) -> Content:
    """The step, made from `before`, put into what writers have made of it meanwhile.

    Writers only mark rows as removed and append: segments keep their places and the delta's rows theirs.
    """
    removed = [
        now.segments[place].ids[~now.segments[place].kept & before.segments[place].kept] for place in step.sources
    ]
    if not step.sealed:
        delta = now.delta
    else:
        first = slice(0, step.sealed)
        removed.append(now.delta.ids[first][now.delta.removed[first] & ~before.delta.removed[first]])
        delta = now.delta.tail(step.sealed, FIRST_DELTA_ROWS)
    # Looked for in the new segments only: a removed id may have been given anew to a row behind them.
    built, _ = Content(step.built, Delta.empty(0, delta.vectors.shape[1])).without(
        np.concatenate([np.empty(0, np.int64), *removed])
    )
    untouched = [segment for place, segment in enumerate(now.segments) if place not in step.sources]
    return Content((*untouched, *built.segments), delta)
