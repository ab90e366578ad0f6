"""What an operator does now and then: prove erasures, rotate keys, purge, export, write snapshots."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
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
from gallery.checking import CheckReport
from gallery.erasure import Eraser
from gallery.ledger import Entry, from_us, to_us
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

    def erasure_receipt(self, revision: int, timeout_s: float = 30.0) -> Receipt:
        """The signed receipt of the deletion that answered `revision`, once files and replicas are clean.

        Raises NotFoundError for a revision that erased nothing, GalleryError naming what still holds bytes.
        """
        return self._eraser.receipt(revision, timeout_s)

    def prove_erased(self, receipt: Receipt, further_files: Sequence[Path] = ()) -> list[str]:
        """Search store, live indexes and further files (copies, dumps) for what a receipt says is gone.

        Returns what was searched; raises GalleryError naming each place where bytes remain.
        """
        return self._eraser.prove(receipt, further_files)

    def rotate_keys(
        self, actor: Actor, progress: Callable[[int], None] | None = None, stop: Stop | None = None
    ) -> Outdated:
        """Move everything to the newest realm key and the newest rotation; add their files before (keys.py).

        Every subject gets a fresh key; templates are re-issued without a picture.  May be stopped, killed, and
        started again.  progress: told the number of subjects done.  Returns what is left: zeros when complete.
        """
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
        if left == Outdated(0, 0) and done:
            # Keys sealed under the old realm key must not outlive it on a page that SQLite has balanced.
            self._realm.store.settle()
            self._realm.store.rewrite()
            self._realm.store.settle()
        return left

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

    def drop_space(self, space_digest: bytes, actor: Actor) -> int:
        """Erase the templates of a space that everybody has left; returns how many.  May be started again.

        Raises ContractError while somebody has templates in it only.  Templates under a legal hold stay.
        """
        for space in upgrading.coverage(self._realm):
            if space.space_digest == space_digest and space.only_here:
                raise ContractError(
                    f"{space.only_here} subjects have templates in this space only: "
                    "enrol them in another space first, or delete them"
                )
        gone = upgrading.templates_in(self._realm, space_digest)
        for template_id in gone:
            with changing(self._realm, self._view) as writing:
                enrolment.delete_template(writing, "", template_id, actor)
        self._eraser.committed()
        return len(gone)

    def check(self, space_digest: bytes, threshold: float) -> CheckReport:
        """Verify audit, store and index, and tell who resembles whom at a threshold (cosine, from the calibration)."""
        return checking.check(self._realm, self._view, space_digest, threshold)

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
