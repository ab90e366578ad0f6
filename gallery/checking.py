"""Looking a realm over: does the index equal the store, and do its people tell apart at the threshold in use?

Every template is opened.  Pairs grow with the square, so beyond a bound those of a random sample of people are
compared, and the report says so.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from gallery.index import Vectors
from gallery.ledger import verify_audit
from gallery.realm import Realm
from gallery.schema import subjects, templates
from gallery.templates import read_templates
from gallery.vault import TemplatePlace
from gallery.view import View

BIN_WIDTH = 0.01
_EDGES = np.linspace(-1, 1, round(2 / BIN_WIDTH) + 1)
_BLOCK = 1024
COMPARED_AT_MOST = 20_000


@dataclass
class Scores:
    """Histograms over [-1, 1] in bins of 0.01: (200,) int64 counts of pairs of templates.

    genuine: of one subject.  impostor: of two.
    """

    genuine: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(_EDGES) - 1, np.int64))
    impostor: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(_EDGES) - 1, np.int64))


@dataclass(frozen=True)
class CheckReport:
    """audit_rows: verified.  templates, people: in the space, every template opened.

    templates_compared, people_compared: those whose pairs were looked at; as many as above unless the realm is large.
    missing, stale: template ids that the index lacks, or has too many.
    alike: pairs of subject ids with templates above the threshold: one may be accepted as the other, or both are one
    person.  false_matches: pairs of their templates.
    odd: subject id and template id where a template resembles none of its subject's others at the threshold.
    poor: the same, of a quality below the one that was asked for.
    """

    audit_rows: int
    templates: int
    people: int
    templates_compared: int
    people_compared: int
    missing: tuple[int, ...]
    stale: tuple[int, ...]
    alike: tuple[tuple[str, str], ...]
    false_matches: int
    odd: tuple[tuple[str, int], ...]
    poor: tuple[tuple[str, int], ...]
    scores: Scores


@dataclass(frozen=True)
class Sample:
    """Whose templates are compared: everybody's up to `templates` of them, above that a sample of people.

    seed: the same one draws the same people, as long as nobody comes or goes.
    """

    templates: int = COMPARED_AT_MOST
    seed: int = 0

    def of(self, counts: dict[int, int]) -> set[int]:
        """Subject numbers, of a dict that tells each one's templates; at least one, so that something is compared."""
        if sum(counts.values()) <= self.templates:
            return set(counts)
        drawn = np.random.default_rng(self.seed).permutation(sorted(counts))
        fitting = np.cumsum([counts[int(number)] for number in drawn]) <= self.templates
        return set(drawn[: max(1, int(fitting.sum()))].tolist())


def check(
    realm: Realm, view: View, space_digest: bytes, threshold: float, good_quality: float, sample: Sample
) -> CheckReport:
    """Open all templates of a space in the main partition and compare them; a view without an index is not compared.

    Raises GalleryError where the audit or a template was tampered with.
    """
    with realm.store.reading() as connection:
        audit_rows = verify_audit(connection, realm.realm_id)
        counts = _counts(connection, realm.realm_id, space_digest)
        chosen = sample.of(counts)
        ids, opened = _opened(connection, realm, space_digest, chosen)
        poor = _poor(connection, realm.realm_id, space_digest, good_quality)
    held = view.held("", space_digest) if view.indexed else ids
    found = _Found()
    for rotation_version in {one.place.rotation_version for one in opened}:
        _compare([one for one in opened if one.place.rotation_version == rotation_version], threshold, found)
    return CheckReport(
        audit_rows,
        len(ids),
        len(counts),
        len(opened),
        len(chosen),
        tuple(sorted(ids - held)),
        tuple(sorted(held - ids)),
        tuple(sorted(found.alike)),
        found.false_matches,
        tuple(sorted(found.odd)),
        poor,
        found.scores,
    )


@dataclass(frozen=True)
class _Opened:
    """A template to be compared.  vector: (D,), rotated."""

    place: TemplatePlace
    subject_id: str
    vector: Vectors


def _counts(connection: Connection, realm_id: int, space_digest: bytes) -> dict[int, int]:
    """Subject number -> its templates of the space in the main partition."""
    mine = (templates.c.realm_id == subjects.c.realm_id) & (templates.c.subject_key == subjects.c.subject_key)
    rows = connection.execute(
        select(templates.c.subject_key, func.count().label("held"))
        .join(subjects, mine)
        .where(templates.c.realm_id == realm_id, subjects.c.partition == "", templates.c.space_digest == space_digest)
        .group_by(templates.c.subject_key)
    )
    return {row.subject_key: row.held for row in rows}


def _opened(
    connection: Connection, realm: Realm, space_digest: bytes, chosen: set[int]
) -> tuple[set[int], list[_Opened]]:
    """The ids of all templates, each opened, and what is to be compared; only that is kept in memory."""
    wanted = subjects.c.partition == "", templates.c.space_digest == space_digest
    ids, opened = set[int](), list[_Opened]()
    for template in read_templates(connection, realm.realm_id, *wanted, by_id=True):
        vector, place = template.open(realm.vault), template.place
        ids.add(place.template_id)
        if place.subject_key in chosen:
            opened.append(_Opened(place, template.subject.place.subject_id, vector))
    return ids, opened


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


def _compare(members: list[_Opened], threshold: float, found: _Found) -> None:
    """Add one comparable set, block by block."""
    vectors = np.stack([member.vector for member in members])  # (N, D)
    owners = np.array([member.place.subject_key for member in members])
    names = [member.subject_id for member in members]
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
