"""Looking a realm over: does the index equal the store, and do its people tell apart at the threshold in use?"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from gallery.index import Vectors
from gallery.ledger import verify_audit
from gallery.realm import Realm
from gallery.schema import subjects, templates
from gallery.templates import StoredTemplate, read_templates
from gallery.view import View

BIN_WIDTH = 0.01
_EDGES = np.linspace(-1, 1, round(2 / BIN_WIDTH) + 1)
_BLOCK = 1024


@dataclass
class Scores:
    """Histograms over [-1, 1] in bins of 0.01: (200,) int64 counts of pairs of templates.

    genuine: of one subject.  impostor: of two.
    """

    genuine: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(_EDGES) - 1, np.int64))
    impostor: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(_EDGES) - 1, np.int64))


@dataclass(frozen=True)
class CheckReport:
    """audit_rows: verified.  templates: opened.

    missing, stale: template ids that the index lacks, or has too many.
    alike: pairs of subject ids with templates above the threshold: one may be accepted as the other, or both are one
    person.  false_matches: pairs of their templates.
    odd: subject id and template id where a template resembles none of its subject's others at the threshold.
    poor: the same, of a quality below the one that was asked for.
    """

    audit_rows: int
    templates: int
    missing: tuple[int, ...]
    stale: tuple[int, ...]
    alike: tuple[tuple[str, str], ...]
    false_matches: int
    odd: tuple[tuple[str, int], ...]
    poor: tuple[tuple[str, int], ...]
    scores: Scores


def check(realm: Realm, view: View, space_digest: bytes, threshold: float, good_quality: float = 0.0) -> CheckReport:
    """Open and compare all templates of a space in the main partition; a view without an index is not compared.

    Compares every pair: about 2 seconds for 10,000 templates.  Raises GalleryError where the audit or a template was
    tampered with.
    """
    with realm.store.reading() as connection:
        audit_rows = verify_audit(connection, realm.realm_id)
        every = read_templates(connection, realm.realm_id, subjects.c.partition == "", by_id=True)
        stored = [template for template in every if template.place.space_digest == space_digest]
        poor = _poor(connection, realm.realm_id, space_digest, good_quality)
    ids = {template.place.template_id for template in stored}
    held = view.held("", space_digest) if view.indexed else ids
    found = _Found()
    for rotation_version in {template.place.rotation_version for template in stored}:
        members = [template for template in stored if template.place.rotation_version == rotation_version]
        _compare(members, np.stack([template.open(realm.vault) for template in members]), threshold, found)
    return CheckReport(
        audit_rows,
        len(stored),
        tuple(sorted(ids - held)),
        tuple(sorted(held - ids)),
        tuple(sorted(found.alike)),
        found.false_matches,
        tuple(sorted(found.odd)),
        poor,
        found.scores,
    )


def _poor(
    connection: Connection, realm_id: int, space_digest: bytes, good_quality: float
) -> tuple[tuple[str, int], ...]:
    mine = (templates.c.realm_id == subjects.c.realm_id) & (templates.c.subject_key == subjects.c.subject_key)
    rows = connection.execute(
        select(subjects.c.subject_id, templates.c.template_id)
        .join(templates, mine)
        .where(
            subjects.c.realm_id == realm_id,
            subjects.c.partition == "",
            templates.c.space_digest == space_digest,
            templates.c.quality < good_quality,
        )
        .order_by(subjects.c.subject_id, templates.c.template_id)
    )
    return tuple((row.subject_id, row.template_id) for row in rows)


@dataclass
class _Found:
    """What the comparisons have told so far; see CheckReport."""

    scores: Scores = field(default_factory=Scores)
    alike: set[tuple[str, str]] = field(default_factory=set)
    false_matches: int = 0
    odd: list[tuple[str, int]] = field(default_factory=list)


def _compare(members: list[StoredTemplate], vectors: Vectors, threshold: float, found: _Found) -> None:
    """Add one comparable set, block by block; vectors: (N, D)."""
    owners = np.array([template.place.subject_key for template in members])
    names = [template.subject.place.subject_id for template in members]
    for start in range(0, len(members), _BLOCK):
        rows = slice(start, start + _BLOCK)
        cosines = np.clip(vectors[rows] @ vectors.T, -1, 1)  # (block, N)
        own = owners[rows, None] == owners[None]
        itself = np.arange(len(members))[rows, None] == np.arange(len(members))[None]
        later = np.arange(len(members))[rows, None] < np.arange(len(members))[None]
        found.scores.genuine += np.histogram(cosines[own & later], _EDGES)[0]
        found.scores.impostor += np.histogram(cosines[~own & later], _EDGES)[0]
        for row, column in np.argwhere(~own & later & (cosines >= threshold)):
            first, second = sorted((names[start + row], names[column]))
            found.alike.add((first, second))
            found.false_matches += 1
        others = own & ~itself
        best = np.where(others, cosines, -2).max(axis=1)
        for row in np.flatnonzero(others.any(axis=1) & (best < threshold)):
            found.odd.append((names[start + row], members[start + row].place.template_id))
