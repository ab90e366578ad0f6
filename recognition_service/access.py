"""Who may call what: the one table from method to roles, and the check that enforces it.

A method that is not in the table is refused, so a new RPC is closed until somebody decides who may use it.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Protocol

from duetface.errors import AccessError
from duetface.identity import PeerIdentity, Role
from gallery.records import Actor
from recognition_service.refusals import RevokedError, RoleError

_ANYBODY = frozenset({Role.AGENT, Role.VERIFIER, Role.OPERATOR, Role.AUDITOR, Role.PEER})
_ASKING = frozenset({Role.AGENT, Role.VERIFIER, Role.OPERATOR})
_AGENT = frozenset({Role.AGENT})
_OPERATOR = frozenset({Role.OPERATOR})
_AUDITOR = frozenset({Role.AUDITOR})

ROLES: Mapping[str, frozenset[Role]] = {
    "/duetface.v1.VerificationService/GetChallenge": _ASKING,
    "/duetface.v1.VerificationService/GetServiceInfo": _ANYBODY,
    "/duetface.v1.VerificationService/Authenticate": _AGENT,
    "/duetface.v1.VerificationService/Verify": _ASKING,
    "/duetface.v1.VerificationService/Identify": _ASKING,
    "/duetface.v1.EnrollmentService/CreateSubject": _OPERATOR,
    "/duetface.v1.EnrollmentService/GetSubject": _OPERATOR,
    "/duetface.v1.EnrollmentService/ListSubjects": _OPERATOR,
    "/duetface.v1.EnrollmentService/AddConsent": _OPERATOR,
    "/duetface.v1.EnrollmentService/RenewConsent": _OPERATOR,
    "/duetface.v1.EnrollmentService/WithdrawConsents": _OPERATOR,
    "/duetface.v1.EnrollmentService/ListConsents": _OPERATOR,
    "/duetface.v1.EnrollmentService/Unlock": _OPERATOR,
    "/duetface.v1.EnrollmentService/DeleteSubject": _OPERATOR,
    "/duetface.v1.EnrollmentService/AddTemplate": _OPERATOR,
    "/duetface.v1.EnrollmentService/ListTemplates": _OPERATOR,
    "/duetface.v1.EnrollmentService/DeleteTemplate": _OPERATOR,
    "/duetface.v1.EnrollmentService/DropPartition": _OPERATOR,
    "/duetface.v1.EnrollmentService/SearchErased": _OPERATOR,
    "/duetface.v1.AuditService/ListAuditRecords": _AUDITOR,
    "/grpc.health.v1.Health/Check": _ANYBODY,
    "/grpc.health.v1.Health/List": _ANYBODY,
    "/grpc.health.v1.Health/Watch": _ANYBODY,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _OPERATOR,
}


@dataclass(frozen=True)
class Caller:
    """The certificate at the other end of a connection, and whom it names."""

    peer: PeerIdentity
    certificate_pem: bytes

    @staticmethod
    def from_pem(certificate_pem: bytes) -> "Caller":
        """Raises AccessError if the certificate names nobody of DuetFace's."""
        return Caller(_peer(certificate_pem), certificate_pem)

    @property
    def actor(self) -> Actor:
        """The caller as the audit names it; several roles are joined by "+"."""
        roles = "+".join(sorted(self.peer.roles))
        return Actor(self.peer.realm, roles, self.peer.name, self.peer.fingerprint)

    def has(self, *roles: Role) -> bool:
        """Whether the certificate carries all of these roles."""
        return self.peer.roles.issuperset(roles)


@lru_cache(maxsize=4096)
def _peer(certificate_pem: bytes) -> PeerIdentity:
    return PeerIdentity.from_pem(certificate_pem)


def unnamed_actor(certificate_pem: bytes) -> Actor:
    """An actor for a certificate that cannot be read as a peer's: nothing of it is believed but its digest."""
    return Actor(realm="", role="", name="", fingerprint=hashlib.sha256(certificate_pem).hexdigest())


class Revoked(Protocol):
    """The revoked certificates, e.g. duetface.revocation.RevocationList."""

    def __contains__(self, fingerprint: str) -> bool:
        """Whether the certificate with this SHA-256 (hex) was revoked."""
        ...


class Gatekeeper:
    """Decides whether a certificate may call a method.

    realm: the only one that is let in.  revoked: fingerprints.  now: the wall clock, timezone-aware.
    """

    def __init__(self, realm: str, revoked: Revoked, now: Callable[[], datetime]) -> None:
        """Hold what every check needs."""
        self._realm = realm
        self._revoked = revoked
        self._now = now

    def check(self, method: str, caller: Caller) -> None:
        """Raises AccessError for another realm, RevokedError, or RoleError for a role that the table does not name.

        method: as gRPC spells it, "/package.Service/Method".
        """
        peer = caller.peer
        if peer.realm != self._realm:
            raise AccessError(f"the certificate is of another realm: expected one of {self._realm}")
        # The handshake checked the date once; a connection may live much longer.
        if peer.not_after <= self._now():
            raise RevokedError("the certificate has expired since the connection was made: renew it")
        if peer.fingerprint in self._revoked:
            raise RevokedError("the certificate was revoked: ask the operator for a new one")
        allowed = ROLES.get(method, frozenset())
        if not peer.roles & allowed:
            expected = " or ".join(sorted(allowed)) or "nobody"
            raise RoleError(f"{method} is for {expected}: use another certificate")
