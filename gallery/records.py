"""What the gallery takes and gives: frozen values without behaviour.

Times are timezone-aware datetimes in UTC.  Digests are 32 raw bytes (SHA-256).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

Clock = Callable[[], datetime]
"""Gives the present as an aware datetime in UTC; handed in, so that tests decide what time it is."""


@dataclass(frozen=True)
class Actor:
    """Who does something, from the certificate of the caller (duetface.identity.PeerIdentity).

    fingerprint: SHA-256 of the certificate, lower-case hexadecimal.
    """

    realm: str
    role: str
    name: str
    fingerprint: str


@dataclass(frozen=True)
class Consent:
    """What a subject agreed to: a template is only stored under a consent that is valid at that moment.

    purpose: what for, e.g. "door access".  version: of the text that was agreed to.
    expires_at: None means until it is withdrawn.
    """

    purpose: str
    version: str
    given_at: datetime
    expires_at: datetime | None = None


@dataclass(frozen=True)
class ConsentRecord:
    """A stored consent.  withdrawn_at: set when it was taken back, which also ended it."""

    consent_id: int
    consent: Consent
    withdrawn_at: datetime | None


@dataclass(frozen=True)
class SubjectRecord:
    """A stored subject.

    label: the optional name for people, sealed in the store.
    consents: oldest first; the last is the one new templates are stored under.
    held_at: set while a legal hold forbids erasure.
    """

    subject_id: str
    label: str
    partition: str
    created_at: datetime
    revision: int
    template_count: int
    consents: tuple[ConsentRecord, ...]
    held_at: datetime | None = None


@dataclass(frozen=True)
class TemplateRecord:
    """What is known of a stored template; never its embedding.

    quality: [0, 1].  device: name of the certificate that sent the capture.
    """

    template_id: int
    subject_id: str
    space_digest: bytes
    quality: float
    device: str
    created_at: datetime
    key_version: int
    rotation_version: int
    consent_id: int


@dataclass(frozen=True)
class Upgrade:
    """Why a template is added without an operator: its capture was accepted in another space.

    from_space: 32 bytes; the template is stored under a consent that a template of that space has.
    decision_id: of the accept, for the audit.  most: templates of the subject in the new space.
    """

    from_space: bytes
    decision_id: str
    most: int


@dataclass(frozen=True)
class AddedTemplate:
    """A template that is committed.  revision: ask reads for `at_least_revision` of it to see the template."""

    template_id: int
    revision: int


@dataclass(frozen=True)
class SubjectMatch:
    """One subject of an identification: the best of its templates.  cosine_similarity: [-1, 1]."""

    subject_id: str
    cosine_similarity: float


class ChangeKind(StrEnum):
    """What a change did; the names are stored."""

    SUBJECT_CREATED = "subject_created"
    SUBJECT_DELETED = "subject_deleted"
    SUBJECT_CHANGED = "subject_changed"
    TEMPLATE_ADDED = "template_added"
    TEMPLATE_DELETED = "template_deleted"
    TEMPLATE_REISSUED = "template_reissued"
    PARTITION_DROPPED = "partition_dropped"


@dataclass(frozen=True)
class Change:
    """One entry of the change feed.  Revisions of a realm have no gap: 1, 2, 3, ...

    subject_key, template_id: internal numbers, 0 where the kind has none.
    """

    revision: int
    kind: ChangeKind
    partition: str
    subject_key: int
    template_id: int
    at: datetime


class Counted(StrEnum):
    """How a decision moves the failure counters of its subject and its device."""

    NOT = "not"
    SUCCESS = "success"
    FAILURE = "failure"


@dataclass(frozen=True)
class DecisionRecord:
    """One decision as it is audited.

    actor: the caller.  device: the certificate name that signed the probe (counted).
    operation: "verify", "identify" or "authenticate".  outcome: "accept", "reject" or "retry".  reason: why.
    subject_id: claimed (verify) or found (identify), "" for none; an unknown claimed subject is counted as well.
    fmr: the false match rate whose threshold was used.  details: further facts, e.g. the probe's digest;
    never an embedding, a picture or a key.
    counted: NOT for retries and for `evaluate`.
    """

    actor: Actor
    device: str
    operation: str
    outcome: str
    reason: str
    subject_id: str = ""
    space_digest: bytes = b""
    fmr: float = 0.0
    liveness: str = "off"
    decision_id: str = ""
    partition: str = ""
    counted: Counted = Counted.NOT
    details: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class AuditRecord:
    """One audit row.  own_digest covers every field and previous_digest, so that a change of any row shows.

    audit_id: 1, 2, 3, ... without gap in a realm.  revision: of the change it stands for, 0 for decisions.
    details: canonical JSON.
    """

    audit_id: int
    at: datetime
    actor: Actor
    action: str
    subject_id: str
    outcome: str
    reason: str
    revision: int
    details: Mapping[str, str | int | float | bool]
    previous_digest: bytes
    own_digest: bytes


@dataclass(frozen=True)
class FailureCount:
    """Consecutive failures of one subject or device since its last success."""

    failures: int = 0
    first_failure_at: datetime | None = None
    last_failure_at: datetime | None = None


@dataclass(frozen=True)
class LockOutState:
    """What the lock-out rule needs to know before a decision."""

    subject: FailureCount
    device: FailureCount


@dataclass(frozen=True)
class SpaceStatistics:
    """One searchable set of templates: a partition's templates of one space and one rotation."""

    partition: str
    space_digest: bytes
    rotation_version: int
    kind: str
    templates: int
    memory_bytes: int
    exact: bool


@dataclass(frozen=True)
class GalleryStatistics:
    """revision: committed in the store.  applied_revision: seen by the indexes; equal when caught up."""

    revision: int
    applied_revision: int
    subjects: int
    templates: int
    spaces: tuple[SpaceStatistics, ...]
