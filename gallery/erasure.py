"""Erasing on bytes: every deletion is followed into the files, and proven by a receipt that tells nothing else.

A deletion writes, in its own transaction, the sealed fingerprints of every value it erases, in every form in which the
value was kept.  `Eraser.complete` then searches the files and rewrites what must be rewritten, for all deletions that
wait for it together: at a slow pace beside the requests, or at full speed when a receipt is asked for.  Whatever stops
it leaves the row pending; the next start, or a running service at its next upkeep, goes on with it.
"""

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row, insert, select, update

from duetface.errors import GalleryError, NotFoundError
from gallery import checkpoint, sealing, snapshot
from gallery.background import Background
from gallery.fingerprints import Fingerprints, Rest, no_rest
from gallery.followers import await_followers
from gallery.index import Vectors
from gallery.pace import Pace, WorkStopped
from gallery.realm import Realm, Writing
from gallery.receipt import Receipt
from gallery.scan_code import to_codes, to_rows, to_vectors
from gallery.schema import erasures
from gallery.store import SqlStore
from gallery.templates import StoredTemplate
from gallery.vault import Vault
from gallery.view import View

logger = logging.getLogger(__name__)

FORMS = ("ciphertext", "float32", "float16", "fixed16", "fixed16 as float32", "scan code", "subject key", "label")
_PURPOSE = "erasure fingerprints"
_UPKEEP_US = 60 * 10**6


@dataclass(frozen=True)
class Erased:
    """A deletion that is about to be committed.  fingerprints of nothing: the files are rewritten unasked."""

    revision: int
    subject_id: str
    templates: int
    fingerprints: Fingerprints


@dataclass(frozen=True)
class Proof:
    """What was searched, and where how many windows of erased values are: nowhere, if all is well."""

    searched: tuple[str, ...]
    found: dict[str, int]


def fingerprint(vault: Vault, stored: Sequence[StoredTemplate], sealed: Iterable[bytes]) -> Fingerprints:
    """Fingerprints of templates in every form, and of further sealed values (keys, labels)."""
    found = [*sealed, *(template.ciphertext for template in stored)]
    for template in stored:
        found += forms_of(template.open(vault))
    # One key for all of a realm key's erasures: their lists, each sealed by itself, are looked for in one search.
    key = vault.derive("keys of erasure fingerprints", vault.realm_key_version)
    return Fingerprints.of(key[:16], found)


def forms_of(rotated: Vectors) -> list[bytes]:
    """The bytes of a (D,) float32 template as an index, a snapshot or a foreign engine may keep it."""
    fixed = to_rows(rotated[None])
    return [
        rotated.astype("<f4").tobytes(),
        rotated.astype("<f2").tobytes(),
        fixed.tobytes(),
        to_vectors(fixed).astype("<f4").tobytes(),
        to_codes(fixed).tobytes(),
    ]


def record(writing: Writing, erased: Erased) -> None:
    """Write the pending erasure within the deletion's transaction."""
    version = writing.vault.realm_key_version
    values = {
        "realm_id": writing.realm_id,
        "revision": erased.revision,
        "subject_id": erased.subject_id,
        "templates": erased.templates,
        "realm_key_version": version,
        "sealed_fingerprints": sealing.seal(
            writing.vault.derive(_PURPOSE, version), erased.fingerprints.to_bytes(), _context(erased.revision)
        ),
    }
    writing.connection.execute(insert(erasures).values(values))


def _context(revision: int) -> bytes:
    return sealing.context(_PURPOSE, revision)


class Eraser:
    """Follows deletions into the files of one realm's store and into its indexes."""

    def __init__(self, realm: Realm, view: View, snapshot_path: Path | None) -> None:
        """snapshot_path: the sealed snapshot, which cannot be searched and is therefore dropped."""
        self._realm = realm
        self._view = view
        self._snapshot_path = snapshot_path
        self._completing = threading.Lock()
        self._pace = Pace()
        self._background = Background("erasure", self._complete_beside)
        self._looked_us = 0
        self._clean_to = 0  # no erasure up to this revision was pending in the store when last looked

    def _copies(self) -> list[Path]:
        """Copies that lie beside the database, made before a migration."""
        path = self._realm.store.path
        return [] if path is None else sorted(path.parent.glob(f"{path.name}.*.bak*"))

    def committed(self) -> None:
        """After a deletion's commit: do what is quick, and the rest in the background.  Raises nothing."""
        try:
            self.drop_snapshot()
            self._wake()
        except Exception as error:  # noqa: BLE001 - whatever it is, an error here would deny a commit
            logger.error("erasure is pending: ask for its receipt", extra={"kind": type(error).__name__})

    def resume(self) -> None:
        """Let what is pending be completed in the background, and return at once.

        PostgreSQL locks whole tables to rewrite them: there it waits until a receipt is asked for.
        """
        self._looked_us = self._realm.now_us()
        if self._is_pending():
            self._wake()

    def upkeep(self) -> None:
        """To be called often: once a minute, take up what another process left pending, e.g. one that was killed."""
        if not 0 <= self._realm.now_us() - self._looked_us < _UPKEEP_US:
            self.resume()

    def _wake(self) -> None:
        if self._realm.store.path is not None:
            self._background.wake()

    def _is_pending(self) -> bool:
        """Whether an erasure is; completed ones are looked at once and not at every upkeep."""
        mine = erasures.c.realm_id == self._realm.realm_id
        pending = select(erasures.c.revision).where(
            mine, erasures.c.revision > self._clean_to, erasures.c.completed_at_us.is_(None)
        )
        with self._realm.store.reading() as connection:
            revision = self._realm.revision(connection)
            if connection.execute(pending.limit(1)).first():
                return True
        self._clean_to = revision
        return False

    def close(self) -> None:
        """End a completion in the background at its next step; what is not done stays pending for the next start."""
        self._pace.stop()
        self._background.close()

    def complete(self) -> int:
        """Finish every pending erasure, all by one search; returns how many are left for a later call.

        Those are left whose bytes a reader's old snapshot still needs.
        """
        with self._pace.hurried():  # one in the background must end first
            return self._complete(no_rest)

    def _complete_beside(self) -> int:
        self._pace.begin()
        try:
            return self._complete(self._pace.rest)
        except WorkStopped:
            return 0  # the next start goes on

    def _complete(self, rest: Rest) -> int:
        with self._completing:
            pending = self._pending()
            if not pending:
                return 0
            self._view.compact()
            self.drop_snapshot()
            prints = {
                row.revision: self._open(row.revision, row.realm_key_version, row.sealed_fingerprints)
                for row in pending
            }
            gone = _gone(self._realm.store, prints, rest)
            self._mark(gone)
            return len(pending) - len(gone)

    def _pending(self) -> Sequence[Row[Any]]:
        statement = select(erasures).where(
            erasures.c.realm_id == self._realm.realm_id, erasures.c.completed_at_us.is_(None)
        )
        with self._realm.store.reading() as connection:
            return connection.execute(statement).all()

    def drop_snapshot(self) -> None:
        """A snapshot made before a deletion holds what was deleted.  Raises GalleryError naming it."""
        if self._snapshot_path is None:
            return
        try:
            snapshot.drop(self._snapshot_path)
        except OSError as error:
            raise GalleryError(
                f"{self._snapshot_path} holds erased templates and cannot be deleted: {error.strerror}; delete it"
            ) from error

    def _open(self, revision: int, version: int, sealed: bytes) -> Fingerprints:
        key = self._realm.vault.derive(_PURPOSE, version)
        what = f"the record of erasure {revision}"
        return Fingerprints.from_bytes(sealing.unseal(key, sealed, _context(revision), what))

    def _mark(self, revisions: Sequence[int]) -> None:
        with self._realm.store.writing() as connection:
            for revision in revisions:
                connection.execute(
                    update(erasures)
                    .where(erasures.c.realm_id == self._realm.realm_id, erasures.c.revision == revision)
                    .values(completed_at_us=self._realm.now_us())
                )

    def receipt(self, revision: int, timeout_s: float, *, by_replica: bool = False) -> Receipt:
        """The signed receipt of a completed erasure, once every replica has followed it.

        by_replica: there must be one.
        Raises NotFoundError for a revision that erased nothing, GalleryError if bytes or a replica remain.
        """
        self.complete()
        with self._realm.store.reading() as connection:
            row = connection.execute(
                select(erasures).where(erasures.c.realm_id == self._realm.realm_id, erasures.c.revision == revision)
            ).first()
        if row is None:
            raise NotFoundError(f"revision {revision} is no erasure: `duetface audit tail` shows which are")
        if row.completed_at_us is None:
            raise GalleryError(f"erasure {revision} is not complete: a long reader still uses the write-ahead log")
        prints = self._open(row.revision, row.realm_key_version, row.sealed_fingerprints)
        self._refuse_traces(prints, self._copies())
        followers = await_followers(self._realm, revision, timeout_s)
        if by_replica and not followers:
            raise GalleryError("the index lies in a server that a running service cleans: start it, then ask again")
        return Receipt.sign(self._realm, row, prints, followers)

    def prove(self, receipt: Receipt, further: Sequence[Path] = ()) -> list[str]:
        """Search the store, the live indexes and further files or folders for what a receipt says is gone.

        Returns what was searched.  Raises GalleryError naming each place where bytes remain, or for a receipt that
        this realm did not sign.
        """
        proof = self.search(receipt, further)
        if proof.found:
            raise GalleryError(f"erased bytes remain in {', '.join(proof.found)}: delete these copies, then ask again")
        return list(proof.searched)

    def search(self, receipt: Receipt, further: Sequence[Path] = ()) -> Proof:
        """As `prove`, and tells what was found instead of raising."""
        prints = receipt.open(self._realm)
        self._realm.store.settle()
        named = [file for path in further for file in _files_under(path)]
        files = list(dict.fromkeys([*self._realm.store.files(), *self._copies(), *named]))
        found = {str(path): windows for path in files if (windows := self._traces(prints, path))}
        memory = self.search_memory(receipt)
        return Proof((*map(str, files), *memory.searched), {**found, **memory.found})

    def _traces(self, prints: Fingerprints, path: Path) -> int:
        """How many windows a file holds; a snapshot of this realm is opened for it."""
        if snapshot.is_snapshot(path):
            return sum(prints.found_in(part) for part in checkpoint.opened(self._realm, path)[1])
        return sum(prints.found_in_files([path]).values())

    def search_memory(self, receipt: Receipt) -> Proof:
        """Look through the live indexes of this process alone; raises GalleryError for a foreign receipt."""
        prints = receipt.open(self._realm)
        searched, found = list[str](), dict[str, int]()
        for name, contents in self._view.contents():
            searched.append(name)
            if windows := sum(prints.found_in(content) for content in contents):
                found[name] = windows
        return Proof(tuple(searched), found)

    def _refuse_traces(self, prints: Fingerprints, further: Sequence[Path]) -> None:
        files = [path for path in (*self._realm.store.files(), *further) if path.exists()]
        if found := prints.found_in_files(files):
            names = ", ".join(str(path) for path in found)
            raise GalleryError(f"erased bytes remain in {names}: delete these copies, then ask again")


def _files_under(path: Path) -> list[Path]:
    """The file itself, or every file of a folder, e.g. of a database server's data directory.

    Raises GalleryError if there is none: a mistyped path must not pass for one without traces.
    """
    found = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    if not found or not all(file.exists() for file in found[:1]):
        raise GalleryError(f"{path} is no file, and no folder with files: name what is to be searched")
    return found


def _gone(store: SqlStore, prints: Mapping[int, Fingerprints], rest: Rest) -> list[int]:
    """Settle the store, rewrite it once if a trace of anything is left, and tell which revisions' bytes are gone."""
    if not store.settle():
        return []
    blind = not store.files() or not all(len(found) for found in prints.values())
    if not blind and not _traced(store, prints.values(), rest):
        return list(prints)
    # SQLite zeroes what it frees, but a page that was balanced may keep a stale copy of a row that moved
    # (seen in 1 of 200 deletions); PostgreSQL never zeroes.
    store.rewrite()
    if not store.settle():
        return []
    if not _traced(store, prints.values(), rest):
        return list(prints)
    return [revision for revision, found in prints.items() if not _traced(store, [found], rest)]


def _traced(store: SqlStore, prints: Iterable[Fingerprints], rest: Rest) -> bool:
    files = [path for path in store.files() if path.exists()]
    return any(found.found_in_files(files, rest) for found in Fingerprints.merged(prints))
