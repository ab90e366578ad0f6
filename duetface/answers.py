"""What a service tells a client: frozen values without behaviour.  Times are aware."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from duetface.spec import SplitSpec


@dataclass(frozen=True)
class ServiceInfo:
    """What a service serves.  clock_offset_s: its clock minus ours.

    upcoming_space_digest: of the template space that the gallery moves to; empty while it does not move.
    """

    realm: str
    splits: tuple[SplitSpec, ...]
    space_digest: bytes
    fmr: float
    version: str
    clock_offset_s: float
    upcoming_space_digest: bytes = b""

    @property
    def split_digests(self) -> frozenset[bytes]:
        """Of the splits: what a device's faces are wanted under."""
        return frozenset(split.digest for split in self.splits)


@dataclass(frozen=True)
class Consent:
    """A subject's permission; expires_at None for no end.  Times are aware."""

    purpose: str
    text_version: str
    given_at: datetime
    expires_at: datetime | None = None


@dataclass(frozen=True)
class RecordedConsent:
    """A consent of a subject's history.  withdrawn_at: when it was taken back, which also ended it."""

    consent: Consent
    withdrawn_at: datetime | None


@dataclass(frozen=True)
class Unlocked:
    """What failure counters stood at before they were set to zero."""

    subject_failures: int
    device_failures: int


@dataclass(frozen=True)
class Subject:
    """One subject of the gallery."""

    subject_id: str
    label: str
    consent: Consent
    template_count: int
    created_at: datetime


@dataclass(frozen=True)
class Template:
    """One template, without its value."""

    template_id: str
    subject_id: str
    space_digest: bytes
    quality: float
    device: str
    created_at: datetime


@dataclass(frozen=True)
class AddedTemplate:
    """What an enrolment made.  warnings: names such as "far_from_own", for an operator to look at.

    further_template_ids: made of the same capture in the space that the gallery moves to.
    """

    template_id: str
    revision: int
    warnings: tuple[str, ...]
    further_template_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class AuditRecord:
    """One audited decision, change or refusal."""

    record_id: int
    recorded_at: datetime
    event: str
    actor: str
    subject_id: str
    outcome: str
    reason: str
    revision: int
    detail: dict[str, Any]
    actor_fingerprint: str
