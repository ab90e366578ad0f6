"""What an operator does now and then: prove erasures, rotate keys, purge, export, write snapshots."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select

from duetface.errors import ContractError, GalleryError
from gallery import (
    checking,
    checkpoint,
    enrolment,
    failures,
    purging,
    rekeying,
    relocating,
    subjects,
    templates,
    upgrading,
)
from gallery.checking import CheckReport, Sample
from gallery.erasure import Eraser, Proof
from gallery.keys import KeyKind
from gallery.ledger import Details, Entry, canonical, from_us, to_us
from gallery.purging import PurgePolicy, PurgeReport
from gallery.realm import Realm
from gallery.receipt import Receipt
from gallery.records import Actor
from gallery.rekeying import Outdated
from gallery.schema import audit
from gallery.subjects import check_subject_id
from gallery.upgrading import SpaceCoverage
from gallery.view import View, changing

Stop = Callable[[], bool]
"""Asked between two subjects; True ends the work early, to be gone on with later."""


class Maintenance:
    """Operator's work on one realm; taken from `Gallery.maintenance`.  Enrolments and searches go on meanwhile."""

    def __init__(self, realm: Realm, view: View, eraser: Eraser, snapshot_path: Path | None) -> None:
        """Used by Gallery."""
        self._realm = realm
        self._view = view
        self._eraser = eraser
        self._snapshot_path = snapshot_path

    def erasure_receipt(self, revision: int, timeout_s: float = 30.0, *, by_replica: bool = False) -> Receipt:
        """The signed receipt of the deletion that answered `revision`, once files and replicas are clean.

        by_replica: only a running service can clean the index, so one must have followed.
        Raises NotFoundError for a revision that erased nothing, GalleryError naming what still holds bytes.
        """
        return self._eraser.receipt(revision, timeout_s, by_replica=by_replica)

    def search_erased(self, receipt: Receipt, further_files: Sequence[Path] = ()) -> Proof:
        """Search store, live indexes and further files or folders; tells where bytes remain.

        Raises GalleryError for a receipt of another realm, or a file whose form hides its bytes.
        """
        return self._eraser.search(receipt, further_files)

    def search_erased_in_memory(self, receipt: Receipt, actor: Actor) -> Proof:
        """Search the live indexes of this process alone; audited, since others may ask for it."""
        proof = self._eraser.search_memory(receipt)
        outcome = "found" if proof.found else "clean"
        with self._realm.writing() as writing:
            writing.ledger.record(Entry(actor, "erasure_searched", receipt.subject_id, outcome))
        return proof

    def prove_erased(self, receipt: Receipt, further_files: Sequence[Path] = ()) -> list[str]:
        """Search store, live indexes and further files (copies, dumps) for what a receipt says is gone.

        Returns what was searched; raises GalleryError naming each place where bytes remain.
        """
        return self._eraser.prove(receipt, further_files)

    def add_key_versions(self, kinds: Sequence[KeyKind]) -> dict[KeyKind, int]:
        """Make the next version of these secrets where they lie; nobody seals under it before `begin_rotation`.

        Returns the numbers.  Raises ConfigError where only an operator can make one.
        """
        return {kind: self._realm.vault.add_version(kind) for kind in kinds}

    def key_versions(self) -> dict[KeyKind, int]:
        """The versions that seal now."""
        return {"realm": self._realm.vault.realm_key_version, "rotation": self._realm.vault.rotation_version}

    def rotation_is_due(self) -> bool:
        """Whether a rotation was prepared and has not begun, or has begun and is not done to its end."""
        prepared = any(self._realm.vault.unadopted().values())
        return prepared or self.outdated() != Outdated(0, 0) or rekeying.unfinished(self._realm)

    def begin_rotation(self) -> None:
        """Seal under the newest secrets there are from now on, in every process of the realm as soon as it follows."""
        self._realm.adopt_secrets(begin=True)

    def rotate_keys(
        self, actor: Actor, progress: Callable[[int], None] | None = None, stop: Stop | None = None
    ) -> Outdated:
        """Move everything to the newest realm key and the newest rotation; see `add_key_versions`.

        Every subject gets a fresh key; templates are re-issued without a picture.  May be stopped, killed, and
        started again.  progress: told the number of subjects done.  Returns what is left: zeros when complete.
        Raises GalleryError if a long reader keeps the old keys' bytes in a log: to be run again.
        """
        self.begin_rotation()
        done, after = 0, 0
        while not (stop is not None and stop()):
            with changing(self._realm, self._view) as writing:
                place = rekeying.next_due(self._realm, writing.connection, after)
                if place is None:
                    break
                rekeying.rekey_subject(writing, place, actor)
            done, after = done + 1, place.subject_key
            if progress is not None:
                progress(done)
        left = rekeying.count_outdated(self._realm)
        if left == Outdated(0, 0) and rekeying.unfinished(self._realm):
            self._destroy_old_bytes(actor)
        return left

    def _destroy_old_bytes(self, actor: Actor) -> None:
        """Keys sealed under the old realm key must not outlive it in a log, a snapshot, or a page that was balanced."""
        self._eraser.drop_snapshot()
        if self._eraser.complete() or not self._realm.store.settle():
            raise GalleryError("everything is under the newest keys, but a long reader keeps old bytes: run this again")
        self._realm.store.rewrite()
        if not self._realm.store.settle():
            raise GalleryError("everything is under the newest keys, but a long reader keeps old bytes: run this again")
        vault = self._realm.vault
        details: Details = {"realm": vault.realm_key_version, "rotation": vault.rotation_version}
        with self._realm.writing() as writing:
            writing.ledger.record(Entry(actor, "keys_rotated", details=canonical(details)))

    def outdated(self) -> Outdated:
        """How much is still under older keys."""
        return rekeying.count_outdated(self._realm)

    def purge(self, policy: PurgePolicy, actor: Actor, *, dry_run: bool) -> PurgeReport:
        """Erase what may no longer be kept: ended consents, templates over age.  dry_run: only tell what is due.

        Counters of failures older than 30 days go as well.
        """
        report = purging.find_due(self._realm, policy)
        if dry_run:
            return report
        for subject_id in report.subjects:
            with changing(self._realm, self._view) as writing:
                enrolment.delete_subject(writing, "", subject_id, actor)
        for template_id in report.templates:
            with changing(self._realm, self._view) as writing:
                enrolment.delete_template(writing, "", template_id, actor)
        with self._realm.writing() as writing:
            before_us = to_us(self._realm.clock() - purging.COUNTERS_KEPT)
            failures.forget_stale(writing.connection, self._realm.realm_id, before_us)
        self._eraser.complete()
        return report

    def coverage(self) -> list[SpaceCoverage]:
        """How many subjects each template space knows, and how many would be lost with it; the newest space first."""
        return upgrading.coverage(self._realm)

    def left_behind(self, space_digest: bytes, on: datetime) -> list[str]:
        """Who has no template in a space and would still be recognised in another on that day; ids in order."""
        return upgrading.left_behind(self._realm, space_digest, on)

    def finish_upgrade(self, space_digest: bytes, to_lose: Sequence[str], actor: Actor) -> int:
        """Erase the templates of every space but this one; returns how many.  May be started again.

        to_lose: ids of those who may be left without a template.
        Raises ContractError while somebody else would be.  Templates under a legal hold stay.
        """
        lost = set(self.left_behind(space_digest, self._realm.clock())) - set(to_lose)
        if lost:
            raise ContractError(
                f"{len(lost)} subjects have no template in the space that stays: "
                "wait until they are seen, enrol them anew, or say that they may be lost"
            )
        gone = 0
        for subject_key in upgrading.subjects_outside(self._realm, space_digest):
            with changing(self._realm, self._view) as writing:
                gone += upgrading.leave_other_spaces(writing, subject_key, space_digest, frozenset(to_lose), actor)
        self._eraser.committed()
        return gone

    def check(
        self, space_digest: bytes, threshold: float, good_quality: float = 0.0, sample: Sample | None = None
    ) -> CheckReport:
        """Verify audit, store and index, and tell who resembles whom at a threshold (cosine, from the calibration).

        good_quality: below it, [0, 1], a template is told as poor.  sample: whose pairs are compared in a large realm.
        """
        return checking.check(self._realm, self._view, space_digest, threshold, good_quality, sample or Sample())

    def export(self, subject_id: str, actor: Actor, partition: str = "") -> dict[str, Any]:
        """Everything held about a person, as JSON-able values: record, consents, templates, audit rows.

        Embeddings are given as they are held (rotated, base64 of float32); the export itself is audited.
        """
        with self._realm.writing() as writing:
            connection, realm_id, vault = writing.connection, self._realm.realm_id, self._realm.vault
            stored = subjects.require_subject(connection, realm_id, partition, check_subject_id(subject_id))
            record = subjects.read_record(connection, realm_id, vault, stored)
            writing.ledger.record(Entry(actor, "subject_exported", stored.place.subject_id))
            return {
                "subject": asdict(record),
                "templates": [asdict(row) for row in templates.read_records(connection, realm_id, stored)],
                "embeddings": templates.read_embeddings(connection, realm_id, vault, stored),
                "audit": [self._row(row._mapping) for row in self._audit_of(connection, stored.place.subject_id)],
            }

    def _audit_of(self, connection: Any, subject_id: str) -> Any:
        return connection.execute(
            select(audit.c.audit_id, audit.c.at_us, audit.c.action, audit.c.outcome, audit.c.reason, audit.c.details)
            .where(audit.c.realm_id == self._realm.realm_id, audit.c.subject_id == subject_id)
            .order_by(audit.c.audit_id)
        ).all()

    @staticmethod
    def _row(row: Mapping[str, Any]) -> dict[str, Any]:
        return {"at": from_us(row["at_us"]), **{name: value for name, value in row.items() if name != "at_us"}}

    def moved_to(self) -> str | None:
        """The name of the database that `duetface gallery move` has taken the realm to; None while it is at home."""
        return relocating.moved_to(self._realm)

    def continue_at(self, database_url: str) -> None:
        """Go on in the database that the realm was moved to; searches notice nothing.  Raises GalleryError."""
        relocating.continue_at(self._realm, database_url)

    def write_snapshot(self) -> int:
        """Write the sealed snapshot that the next start begins with; returns its revision.

        Raises GalleryError if it cannot be written or no path was given (GalleryOptions.snapshot_path).
        """
        if self._snapshot_path is None:
            raise GalleryError("no snapshot path is configured: set GalleryOptions.snapshot_path")
        return checkpoint.save(self._realm, self._view, self._snapshot_path)
