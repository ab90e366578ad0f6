"""The gallery of one realm: who is enrolled, what they agreed to, whom a probe resembles, and the audit of it all.

Every call blocks and may be made from any thread.  A call that returns is committed; one that raises left nothing.
"""

from datetime import datetime
from types import TracebackType
from typing import Self

from sqlalchemy import Column, func, select

from duetface.errors import MessageError
from gallery import checkpoint, decisions, enrolment, failures, followers, recognition, subjects, templates
from gallery.enrolment import NewTemplate
from gallery.erasure import Eraser
from gallery.index import Vectors
from gallery.keys import KeyProvider
from gallery.ledger import Details, Entry, canonical, read_audit, read_changes, verify_audit
from gallery.maintenance import Maintenance
from gallery.migrate import migrate
from gallery.options import GalleryOptions as GalleryOptions
from gallery.realm import Realm, open_realm
from gallery.records import (
    Actor,
    AddedTemplate,
    AuditRecord,
    Change,
    Clock,
    Consent,
    DecisionRecord,
    GalleryStatistics,
    LockOutState,
    SubjectMatch,
    SubjectRecord,
    TemplateRecord,
    Upgrade,
)
from gallery.schema import realms
from gallery.schema import subjects as subjects_table
from gallery.store import SqlStore
from gallery.subjects import check_subject_id, check_text
from gallery.templates import Capture
from gallery.view import Progress, View, changing
from gallery.wakeup import Wakeup


class Gallery:
    """Store, keys and indexes of one realm.

    `partition` names a scratch set that is searched apart and can be dropped as a whole; "" is the real one.
    """

    def __init__(self, realm: Realm, options: GalleryOptions) -> None:
        """Used by open and create."""
        self._realm = realm
        self._options = options
        place = realm.store, realm.realm_id, realm.vault
        self._view = View(*place, options.index_factory, options.dimension, indexed=options.indexed)
        self._eraser = Eraser(realm, self._view, options.snapshot_path)
        self._verifier = recognition.Verifier(realm, options.dimension)
        self._reporter = followers.Reporter(realm, options.follower)
        self._removals_seen = 0

    @classmethod
    def create(
        cls, database_url: str, realm: str, keys: KeyProvider, clock: Clock, options: GalleryOptions | None = None
    ) -> Self:
        """Make the database if it is not there, and the realm in it; the same as open if both are there."""
        return cls._open(database_url, realm, keys, clock, options or GalleryOptions(), None, create=True, load=True)

    @classmethod
    def open(
        cls,
        database_url: str,
        realm: str,
        keys: KeyProvider,
        clock: Clock,
        options: GalleryOptions | None = None,
        progress: Progress | None = None,
        *,
        load: bool = True,
    ) -> Self:
        """Open, migrate an older store after a copy, check the keys, and load the indexes.

        database_url: a path or SQLAlchemy's URL.  progress: told the number of templates loaded so far.
        load: False leaves that to `load`, before which nobody is found by a search.
        Raises GalleryError or ConfigError, naming file and remedy, if anything is missing, newer, damaged or foreign.
        """
        return cls._open(
            database_url, realm, keys, clock, options or GalleryOptions(), progress, create=False, load=load
        )

    @classmethod
    def _open(
        cls,
        database_url: str,
        realm: str,
        keys: KeyProvider,
        clock: Clock,
        options: GalleryOptions,
        progress: Progress | None,
        *,
        create: bool,
        load: bool,
    ) -> Self:
        store = SqlStore(database_url, create=create, busy_timeout_ms=options.busy_timeout_ms)
        try:
            migrate(store, create=create)
            opened = open_realm(store, realm, keys, clock, dimension=options.dimension, create=create)
            gallery = cls(opened, options)
            if load:
                gallery.load(progress)
        except BaseException:
            store.close()
            raise
        return gallery

    def load(self, progress: Progress | None = None) -> int:
        """Fill the indexes, from a snapshot as far as one goes, then from the store; returns the revision reached."""
        if self._options.snapshot_path is not None:
            checkpoint.load(self._realm, self._view, self._options.snapshot_path)
        return self.refresh(progress)

    def close(self) -> None:
        """Close the database; the gallery must not be used afterwards.  Pending erasures stay so for the next start."""
        self._eraser.close()
        if self._options.follower:
            followers.leave(self._realm, self._options.follower)
        self._realm.store.close()

    def __enter__(self) -> Self:
        """The gallery itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def create_subject(self, subject_id: str, label: str, consent: Consent, actor: Actor, partition: str = "") -> int:
        """Enrol a person under a pseudonymous id; returns the revision.

        Raises ExistsError, ConsentError for a consent that is not valid now, MessageError for a malformed id.
        """
        subject_id, partition = check_subject_id(subject_id), _check_partition(partition)
        with changing(self._realm, self._view) as writing:
            return enrolment.create_subject(writing, partition, subject_id, label, consent, actor)

    def record_consent(self, subject_id: str, consent: Consent, actor: Actor, partition: str = "") -> int:
        """Record a further consent; later templates are stored under it.  Returns the revision."""
        with changing(self._realm, self._view) as writing:
            return enrolment.record_consent(writing, partition, check_subject_id(subject_id), consent, actor)

    def renew_consent(self, subject_id: str, expires_at: datetime | None, actor: Actor, partition: str = "") -> int:
        """Give the consent that holds now another end (None: none), and its templates with it.  Returns the revision.

        Raises NotFoundError, ConsentError if none holds.
        """
        with changing(self._realm, self._view) as writing:
            return enrolment.renew_consent(writing, partition, check_subject_id(subject_id), expires_at, actor)

    def withdraw_consents(self, subject_id: str, actor: Actor, partition: str = "") -> int:
        """End every consent of a subject now: its templates stop answering at once.  Returns the revision."""
        with changing(self._realm, self._view) as writing:
            return enrolment.withdraw_consents(writing, partition, check_subject_id(subject_id), actor)

    def set_hold(self, subject_id: str, *, held: bool, actor: Actor, partition: str = "") -> int:
        """Forbid (or allow again) that anything of a subject is erased.  Returns the revision."""
        with changing(self._realm, self._view) as writing:
            return enrolment.set_hold(writing, partition, check_subject_id(subject_id), held=held, actor=actor)

    def add_template(
        self,
        subject_id: str,
        space_digest: bytes,
        embedding: Vectors,
        quality: float,
        device: str,
        actor: Actor,
        partition: str = "",
        upgrade: Upgrade | None = None,
    ) -> AddedTemplate:
        """Rotate, seal and store one embedding.

        embedding: (D,) float32 of unit length.  quality: [0, 1].  device: who captured it.
        upgrade: set if it comes from a decision in another space and not from an operator.
        Raises NotFoundError, ConsentError, MessageError for a bad embedding, ContractError for a foreign space,
        TemplateLimitError.
        """
        checked = self._options.check_embedding(embedding, space_digest)
        if not 0 <= quality <= 1:
            raise MessageError("a template's quality must lie in [0, 1]")
        capture = Capture(float(quality), check_text(device, 128, "a device's name"))
        version = self._realm.vault.rotation_version  # read once: another process may begin a rotation at any moment
        new = NewTemplate(space_digest, version, self._realm.vault.rotate(checked, version)[0], capture, upgrade)
        limit = self._options.templates_per_subject
        if upgrade is not None:
            limit = min(limit, upgrade.most)
        with changing(self._realm, self._view) as writing:
            return enrolment.add_template(writing, partition, check_subject_id(subject_id), new, limit, actor)

    def delete_template(self, template_id: int, actor: Actor, partition: str = "") -> int:
        """Delete one template, soon its bytes (`complete_erasures`); returns the revision.  Raises NotFoundError."""
        with changing(self._realm, self._view) as writing:
            revision = enrolment.delete_template(writing, partition, template_id, actor)
        self._eraser.committed()
        return revision

    def delete_subject(self, subject_id: str, actor: Actor, partition: str = "") -> int:
        """Delete a person with keys, consents, templates, and soon their bytes (`complete_erasures`).

        Returns the revision.
        Raises NotFoundError, ConsentError under a legal hold.  The audit keeps the pseudonymous id.
        """
        with changing(self._realm, self._view) as writing:
            revision = enrolment.delete_subject(writing, partition, check_subject_id(subject_id), actor)
        self._eraser.committed()
        return revision

    def drop_partition(self, partition: str, actor: Actor) -> int:
        """Delete everything of a scratch partition; returns the revision.  Raises NotFoundError if nothing is in it."""
        with changing(self._realm, self._view) as writing:
            revision = enrolment.drop_partition(writing, _check_partition(partition), actor)
        self._eraser.committed()
        return revision

    def complete_erasures(self) -> int:
        """Search and clean the files for all deletions now, instead of in the background.

        Returns how many are left: a long reader still needs their bytes.
        """
        return self._eraser.complete()

    def subject(self, subject_id: str, partition: str = "") -> SubjectRecord:
        """What is known of a subject; raises NotFoundError."""
        with self._realm.store.reading() as connection:
            realm_id, vault = self._realm.realm_id, self._realm.vault
            stored = subjects.require_subject(connection, realm_id, partition, check_subject_id(subject_id))
            return subjects.read_record(connection, realm_id, vault, stored)

    def list_subjects(self, after: str = "", limit: int = 100, partition: str = "") -> list[SubjectRecord]:
        """At most `limit` subjects whose id comes after `after`, by id."""
        with self._realm.store.reading() as connection:
            realm_id, vault = self._realm.realm_id, self._realm.vault
            page = subjects.list_stored(connection, realm_id, partition, after, limit)
            return [subjects.read_record(connection, realm_id, vault, stored) for stored in page]

    def list_templates(self, subject_id: str, partition: str = "") -> list[TemplateRecord]:
        """What is known of a subject's templates, oldest first; raises NotFoundError."""
        with self._realm.store.reading() as connection:
            realm_id = self._realm.realm_id
            stored = subjects.require_subject(connection, realm_id, partition, check_subject_id(subject_id))
            return templates.read_records(connection, realm_id, stored)

    def template_counts(self, subject_id: str, partition: str = "") -> dict[bytes, int]:
        """How many templates a subject has in each space whose consent holds; empty for an unknown subject."""
        with self._realm.store.reading() as connection:
            now_us = self._realm.now_us()
            normal = check_subject_id(subject_id)
            return templates.count_by_space(connection, self._realm.realm_id, partition, normal, now_us)

    def verify_similarity(
        self, subject_id: str, embedding: Vectors, space_digest: bytes, partition: str = "", at_least_revision: int = 0
    ) -> float | None:
        """The best cosine of a probe with the subject's templates in the space; None if there is nothing to compare.

        embedding: (D,) float32 of unit length.  Unknown subjects take the same work as known ones.  Needs no index.
        """
        checked = self._options.check_embedding(embedding, space_digest)
        who = partition, check_subject_id(subject_id)
        return self._verifier.similarity(*who, checked, space_digest, at_least_revision)

    def identify(
        self, embedding: Vectors, space_digest: bytes, k: int = 1, partition: str = "", at_least_revision: int = 0
    ) -> list[SubjectMatch]:
        """The k subjects most alike, best first, whatever their similarity: the caller applies the threshold.

        embedding: (D,) float32 of unit length.
        """
        checked = self._options.check_embedding(embedding, space_digest)
        if k < 1:
            raise MessageError(f"{k} subjects asked for: expected 1 or more")
        self._view.require(at_least_revision)
        return recognition.identify(self._realm, self._view, partition, checked, space_digest, k)

    def record_decision(self, record: DecisionRecord) -> int:
        """Audit one decision and move its counters, in one transaction; returns the audit row's number."""
        with self._realm.writing() as writing:
            return decisions.record(writing, record)

    def record_event(
        self, action: str, actor: Actor, reason: str = "", outcome: str = "", details: Details | None = None
    ) -> int:
        """Audit something that is neither decision nor change, e.g. a refused certificate; returns the row's number."""
        entry = Entry(actor, action, outcome=outcome, reason=reason, details=canonical(details or {}))
        with self._realm.writing() as writing:
            return writing.ledger.record(entry)

    def lock_out_state(self, subject_id: str, device: str) -> LockOutState:
        """The failures counted since the last success; zeros for whoever was never counted."""
        with self._realm.store.reading() as connection:
            return LockOutState(*failures.read(connection, self._realm.realm_id, subject_id, device))

    def unlock(self, actor: Actor, subject_id: str = "", device: str = "") -> LockOutState:
        """Set the counters of a subject, a device or both to zero; returns what they stood at."""
        with self._realm.writing() as writing:
            before = LockOutState(*failures.read(writing.connection, self._realm.realm_id, subject_id, device))
            if subject_id:
                failures.forget_subject(writing.connection, self._realm.realm_id, subject_id)
            if device:
                failures.forget_device(writing.connection, self._realm.realm_id, device)
            writing.ledger.record(Entry(actor, "unlock", subject_id, details=canonical({"device": device})))
        return before

    def audit(self, after_id: int = 0, limit: int = 100) -> list[AuditRecord]:
        """At most `limit` audit rows after a number, oldest first."""
        with self._realm.store.reading() as connection:
            return read_audit(connection, self._realm.realm_id, after_id, limit)

    def verify_audit(self) -> int:
        """Recompute the audit chain; returns the number of rows, raises GalleryError at the first that was changed."""
        with self._realm.store.reading() as connection:
            return verify_audit(connection, self._realm.realm_id)

    def changes(self, after_revision: int = 0, limit: int = 1000) -> list[Change]:
        """At most `limit` changes after a revision, in order and without gap."""
        with self._realm.store.reading() as connection:
            return read_changes(connection, self._realm.realm_id, after_revision, limit)

    def refresh(self, progress: Progress | None = None) -> int:
        """Follow what other processes committed, and take up erasures they left; returns the revision reached.

        A replica calls it periodically.
        """
        self._realm.follow_secrets()
        revision = self._view.catch_up(progress)
        removals = self._view.removals
        if removals != self._removals_seen:
            self._eraser.drop_snapshot()
            # Whoever waits for this replica signs that its memory is clean.  An index that all share is left to them.
            self._view.compact(shared=False)
        self._reporter.report(revision, removed=removals != self._removals_seen)
        self._removals_seen = removals  # only now: what failed is done again
        self._eraser.upkeep()
        return revision

    def wakeup(self) -> Wakeup:
        """For a replica's follower: `wait` until another process has committed, then `refresh`; poll all the same."""
        return Wakeup(self._realm.store)

    @property
    def maintenance(self) -> Maintenance:
        """Operator's work: erasure receipts, key rotation, purge, export, snapshots."""
        return Maintenance(self._realm, self._view, self._eraser, self._options.snapshot_path)

    @property
    def revision(self) -> int:
        """The newest committed revision."""
        return self._head(realms.c.revision)

    @property
    def last_audit_id(self) -> int:
        """The number of the newest audit row; 0 if there is none."""
        return self._head(realms.c.audit_id)

    def _head(self, column: Column[int]) -> int:
        with self._realm.store.reading() as connection:
            return int(connection.execute(select(column).where(realms.c.realm_id == self._realm.realm_id)).scalar_one())

    @property
    def size(self) -> int:
        """Enrolled subjects of the main partition."""
        realm_id = self._realm.realm_id
        statement = select(func.count()).where(subjects_table.c.realm_id == realm_id, subjects_table.c.partition == "")
        with self._realm.store.reading() as connection:
            return int(connection.execute(statement).scalar_one())

    @property
    def template_total(self) -> int:
        """Templates in the store, in every partition and space."""
        with self._realm.store.reading() as connection:
            return templates.count_all(connection, self._realm.realm_id)

    def searched(self, partition: str, space_digest: bytes) -> int:
        """How many templates an identification is compared with; asks the indexes only, so it may follow each one."""
        return self._view.searched(partition, space_digest)

    def statistics(self) -> GalleryStatistics:
        """Sizes, memory, and how far the indexes have followed."""
        spaces = self._view.statistics()
        main = sum(space.templates for space in spaces if space.partition == "")
        return GalleryStatistics(self.revision, self._view.applied_revision, self.size, main, spaces)


def _check_partition(partition: str) -> str:
    return check_text(partition, 64, "a partition's name")
