"""The searchable view of one realm: an index and a roster per space, kept in step by following the change feed.

The store is the truth.  Every change is seen here by reading it back from the store after its commit, so a crash
or a failure in between heals at the next look, and a replica follows exactly as the writer does.
"""

import hashlib
import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection

from duetface.errors import GalleryError
from gallery.index import GalleryIndex, IndexChange, LastingIndexes, Vectors
from gallery.ledger import read_changes
from gallery.realm import Realm, Writing, not_arrived, revision_of
from gallery.records import Change, ChangeKind, SpaceStatistics
from gallery.roster import Roster
from gallery.schema import templates
from gallery.store import SqlStore
from gallery.templates import StoredTemplate, read_templates
from gallery.vault import Vault

logger = logging.getLogger(__name__)

IndexFactory = Callable[[int, str], GalleryIndex]
"""Makes an index of a dimension, under a name of [a-z0-9_] that is always the same for what it holds.

It is empty, unless it outlives the process: then it may hold what an earlier run has left.
"""

Progress = Callable[[int], None]
"""Told the number of templates loaded so far."""

# After these, a copy of the index made before holds what is gone.
_REMOVALS = frozenset(
    {
        ChangeKind.SUBJECT_DELETED,
        ChangeKind.TEMPLATE_DELETED,
        ChangeKind.TEMPLATE_REISSUED,
        ChangeKind.PARTITION_DROPPED,
    }
)
_PAGE = 1000
_BATCH = 4096
_OVERFETCH = 4


@dataclass(frozen=True)
class SpaceKey:
    """What may be compared with one another: one partition, one space, one rotation."""

    partition: str
    space_digest: bytes
    rotation_version: int


@dataclass(frozen=True)
class Space:
    """An index and whose its templates are."""

    index: GalleryIndex
    roster: Roster

    def rank(self, rotated: Vectors, k: int, now_us: int) -> dict[int, float]:
        """Subject number -> best cosine, of at least the k best subjects (or all).

        rotated: (1, D).  Fetches more templates than k, and again more, until k different subjects are among them.
        """
        wanted = k * _OVERFETCH
        while True:
            matches = self.index.search(rotated, wanted)[0]
            ids = np.fromiter((match.template_id for match in matches), np.int64, len(matches))
            best: dict[int, float] = {}
            for subject, match in zip(self.roster.subjects_of(ids, now_us), matches, strict=True):
                if subject:
                    best.setdefault(int(subject), match.cosine_similarity)
            if len(best) >= k or len(matches) < wanted:
                return best
            wanted *= _OVERFETCH


class View:
    """All spaces of a realm.  One thread at a time follows; any number search meanwhile, without a lock."""

    def __init__(
        self,
        store: SqlStore,
        realm_id: int,
        vault: Vault,
        factory: IndexFactory,
        dimension: int,
        *,
        indexed: bool = True,
    ) -> None:
        """Empty until the first catch_up; for ever if not `indexed`: such a view is never searched."""
        self._indexed = indexed
        self._store = store
        self._realm_id = realm_id
        self._vault = vault
        self._factory = factory
        self._dimension = dimension
        self._following = threading.Lock()
        # Replaced as a whole when a space comes or goes: readers iterate over it.
        self._spaces: dict[SpaceKey, Space] = {}
        self.applied_revision = 0
        self.removals = 0  # changes followed that took something away
        self._committed = 0
        self._leaving: list[Space] = []  # nobody searches them any more, but they may not be empty yet

    def follow_commit(self, revision: int) -> None:
        """Follow a change of this process that was just committed.

        A failure to follow must not make the caller believe that nothing was written: it is logged, and the next
        search follows first, or fails.
        """
        self._committed = max(self._committed, revision)
        try:
            self.catch_up()
        except Exception as error:  # noqa: BLE001 - whatever it is, an error here would deny a commit
            logger.error("index is behind the store", extra={"kind": type(error).__name__})

    def require(self, revision: int) -> None:
        """Follow to a revision, and to what this process committed, before a search.

        Raises OverloadedError if the store itself has not got there yet: a replica of the database is behind.
        """
        if not self._indexed:
            raise GalleryError("this gallery was opened without an index: ask the service")
        revision = max(revision, self._committed)
        if self.applied_revision < revision and self.catch_up() < revision:
            raise not_arrived(revision)

    def catch_up(self, progress: Progress | None = None) -> int:
        """Follow the change feed to its end; returns the revision reached.  The first time, load everything."""
        if not self._indexed:
            return 0
        with self._following:
            self._empty_leaving()
            # Before the store is looked at: what is made from now on belongs to a change that comes after.
            there = self._lasting_names() if self.applied_revision == 0 else []
            self._catch_up(there, progress)
        return self.applied_revision

    def _catch_up(self, there: list[str], progress: Progress | None) -> None:
        """there: names of the indexes that an earlier run has left."""
        with self._store.reading() as connection:
            if self.applied_revision == 0:
                self._load(connection, progress)
                self._discard_unknown(there)
            while changes := read_changes(connection, self._realm_id, self.applied_revision, _PAGE):
                self._follow(connection, changes)
                self.removals += sum(change.kind in _REMOVALS for change in changes)
                self.applied_revision = changes[-1].revision
                if len(changes) < _PAGE:
                    break  # the transaction sees no more

    def _lasting_names(self) -> list[str]:
        return self._factory.names(self._prefix) if isinstance(self._factory, LastingIndexes) else []

    def _discard_unknown(self, there: list[str]) -> None:
        """Indexes of spaces that the store no longer has: their partition was dropped while this process was away.

        What cannot be taken away now is told, and is tried again at the next start: it answers nobody.
        """
        if not isinstance(self._factory, LastingIndexes):
            return
        for name in sorted(set(there) - {self._name(key) for key in self._spaces}):
            try:
                self._factory.discard(name)
                self.removals += 1
                logger.info("index taken away", extra={"index": name, "why": "the store has nothing of it"})
            except GalleryError as error:
                logger.warning("index left over", extra={"index": name, "why": str(error)})

    def _load(self, connection: Connection, progress: Progress | None) -> None:
        self._spaces = {}
        revision = revision_of(connection, self._realm_id)
        stored = read_templates(connection, self._realm_id, by_id=True)
        loaded = 0
        while batch := list(itertools.islice(stored, _BATCH)):
            self._put(batch)
            loaded += len(batch)
            if progress is not None:
                progress(loaded)
        for space in self._spaces.values():
            # What an earlier run left in an index that outlives it, and the store has deleted since.
            stale = set(space.index.ids().tolist()) - set(space.roster.all_ids())
            self.removals += space.index.remove(sorted(stale))
        self.applied_revision = revision

    def _follow(self, connection: Connection, changes: list[Change]) -> None:
        """Bring every template that these changes touched to what the store says of it now.

        The store may be ahead of `changes` already: then later pages find nothing left to do.
        """
        touched: set[int] = set()
        for change in changes:
            if change.kind is ChangeKind.PARTITION_DROPPED:
                self._forget_partition(change.partition)
            elif change.template_id:
                touched.add(change.template_id)
            elif change.kind in (ChangeKind.SUBJECT_DELETED, ChangeKind.SUBJECT_CHANGED):
                touched.update(self._of_subject(change.partition, change.subject_key))
        stored = list(self._stored(connection, sorted(touched)))
        # New places first, old ones after: a template that moves is never missing in between.
        self._put(stored)
        self._drop_all_but(touched, {template.place.template_id: _key(template) for template in stored})

    def _stored(self, connection: Connection, ids: list[int]) -> Iterable[StoredTemplate]:
        for start in range(0, len(ids), _PAGE):
            page = templates.c.template_id.in_(ids[start : start + _PAGE])
            yield from read_templates(connection, self._realm_id, page)

    def _put(self, stored: list[StoredTemplate]) -> None:
        by_space: dict[SpaceKey, list[StoredTemplate]] = {}
        for template in stored:
            by_space.setdefault(_key(template), []).append(template)
        for key, members in by_space.items():
            space = self._space(key)
            held = space.roster.held([template.place.template_id for template in members])
            new = [template for template in members if template.place.template_id not in held]
            if new:
                vectors = np.stack([template.open(self._vault) for template in new])
                ids = tuple(template.place.template_id for template in new)
                space.index.replay([IndexChange((), ids, vectors)])
            space.roster.put(
                [template.place.template_id for template in members],
                [template.place.subject_key for template in members],
                [template.expires_at_us for template in members],
            )

    def _space(self, key: SpaceKey) -> Space:
        if key not in self._spaces:
            self._spaces = self._spaces | {key: self.new_space(key)}
        return self._spaces[key]

    def _drop_all_but(self, touched: set[int], current: dict[int, SpaceKey]) -> None:
        for key, space in self._spaces.items():
            gone = space.roster.held([i for i in touched if current.get(i) != key])
            if gone:
                # The roster last: it is how a removal that failed half-way is found again.
                space.index.remove(sorted(gone))
                space.roster.remove(sorted(gone))
        self._keep(lambda _, space: not space.roster.empty)

    def _forget_partition(self, partition: str) -> None:
        self._keep(lambda key, _: key.partition != partition)

    def _keep(self, wanted: Callable[[SpaceKey, Space], bool]) -> None:
        gone = [space for key, space in self._spaces.items() if not wanted(key, space)]
        self._spaces = {key: space for key, space in self._spaces.items() if wanted(key, space)}
        self._leaving += gone
        self._empty_leaving()

    def _empty_leaving(self) -> None:
        """Empty the indexes that nobody searches any more; a server that is away is asked again at the next look."""
        while self._leaving:
            space = self._leaving[0]
            # An index that outlives the process may have got new templates from another one: only ours are removed.
            space.index.remove(space.roster.all_ids())
            space.index.compact()
            self._leaving.pop(0)

    def _of_subject(self, partition: str, subject_key: int) -> list[int]:
        spaces = (space for key, space in self._spaces.items() if key.partition == partition)
        return [i for space in spaces for i in space.roster.of_subject(subject_key)]

    def rank(
        self, partition: str, space_digest: bytes, embedding: Vectors, k: int, now_us: int
    ) -> list[tuple[int, float]]:
        """The k best subject numbers with their cosine; embedding: (1, D), not rotated."""
        best: dict[int, float] = {}
        for key, space in self._spaces.items():
            if (key.partition, key.space_digest) == (partition, space_digest):
                rotated = self._vault.rotate(embedding, key.rotation_version)
                for subject, similarity in space.rank(rotated, k, now_us).items():
                    best[subject] = max(similarity, best.get(subject, -2.0))
        return sorted(best.items(), key=lambda item: (-item[1], item[0]))[:k]

    @property
    def indexed(self) -> bool:
        """Whether there are indexes at all."""
        return self._indexed

    @contextmanager
    def standing(self) -> Iterator[tuple[int, dict[SpaceKey, Space]]]:
        """The revision followed to, and all spaces, while nothing is followed."""
        with self._following:
            yield self.applied_revision, self._spaces

    def new_space(self, key: SpaceKey) -> Space:
        """A space to be filled, or restored and adopted."""
        return Space(self._factory(self._dimension, self._name(key)), Roster())

    @property
    def _prefix(self) -> str:
        """Of the realm's name and not its number: other databases may keep their indexes on the same server."""
        return f"realm_{hashlib.sha256(self._vault.realm.encode()).hexdigest()[:8]}_"

    def _name(self, key: SpaceKey) -> str:
        place = f"{key.partition}\n{key.rotation_version}".encode() + key.space_digest
        return self._prefix + hashlib.sha256(place).hexdigest()[:16]

    def adopt(self, revision: int, spaces: dict[SpaceKey, Space]) -> None:
        """Begin with spaces that have followed to a revision, instead of loading them from the store."""
        with self._following:
            self._spaces, self.applied_revision = spaces, revision

    def compact(self, *, shared: bool = True) -> None:
        """Let every index finish its removals; searches go on meanwhile.  shared: those of all processes as well."""
        for space in self._spaces.values():
            if shared or not space.index.shared:
                space.index.compact()

    def held(self, partition: str, space_digest: bytes) -> set[int]:
        """The template ids that the indexes hold of a space."""
        wanted = (partition, space_digest)
        spaces = (space for key, space in self._spaces.items() if (key.partition, key.space_digest) == wanted)
        return {int(i) for space in spaces for i in space.index.ids()}

    def contents(self) -> Iterator[tuple[str, Iterator[memoryview]]]:
        """All that each index holds, removed or not, with a name for people."""
        for key, space in self._spaces.items():
            yield f"the index of space {key.space_digest.hex()[:12]}", space.index.contents()

    def searched(self, partition: str, space_digest: bytes) -> int:
        """How many templates `rank` compares with; nothing is asked of the store."""
        spaces = self._spaces.items()
        return sum(
            len(space.roster) for key, space in spaces if (key.partition, key.space_digest) == (partition, space_digest)
        )

    def statistics(self) -> tuple[SpaceStatistics, ...]:
        """One entry a space."""
        found = []
        for key, space in self._spaces.items():
            index = space.index.statistics()
            found.append(
                SpaceStatistics(
                    key.partition,
                    key.space_digest,
                    key.rotation_version,
                    index.kind,
                    index.templates,
                    index.memory_bytes,
                    index.exact,
                )
            )
        return tuple(found)


def _key(template: StoredTemplate) -> SpaceKey:
    place = template.place
    return SpaceKey(place.partition, place.space_digest, place.rotation_version)


@contextmanager
def changing(realm: Realm, view: View) -> Iterator[Writing]:
    """One change: commit at the end of the block, then let the indexes follow."""
    with realm.writing() as writing:
        yield writing
    view.follow_commit(writing.ledger.revision)
