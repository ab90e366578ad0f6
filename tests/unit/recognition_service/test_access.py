"""The table of roles, apart from any connection."""

from datetime import UTC, datetime, timedelta

import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from duetface.errors import AccessError
from duetface.identity import PeerIdentity, Role
from duetface.v1 import audit_pb2, enrollment_pb2, verification_pb2
from recognition_service.access import ROLES, Caller, Gatekeeper, unnamed_actor
from recognition_service.refusals import RevokedError, RoleError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FILES = (verification_pb2, enrollment_pb2, audit_pb2, health_pb2, reflection_pb2)
METHODS = sorted(
    f"/{service.full_name}/{method.name}"
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
)


def caller(*roles: Role, realm: str = "here", fingerprint: str = "aa", days: int = 1) -> Caller:
    """A caller with these roles."""
    peer = PeerIdentity(realm, frozenset(roles), "somebody", fingerprint, NOW + timedelta(days=days))
    return Caller(peer, b"")


def gatekeeper(*revoked: str) -> Gatekeeper:
    """Of realm "here" at a fixed time."""
    return Gatekeeper("here", frozenset(revoked), lambda: NOW)


def test_the_table_holds_every_method_that_is_served_and_no_other() -> None:
    """A new RPC has to be decided on here; a removed one must not linger."""
    assert sorted(ROLES) == METHODS


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("role", list(Role))
def test_a_role_may_call_what_the_table_says_and_nothing_else(method: str, role: Role) -> None:
    """Row by row, role by role."""
    if role in ROLES[method]:
        gatekeeper().check(method, caller(role))
    else:
        with pytest.raises(RoleError, match="use another certificate"):
            gatekeeper().check(method, caller(role))


def test_a_method_that_is_not_in_the_table_is_for_nobody() -> None:
    """Refused when absent: forgetting must close, not open."""
    with pytest.raises(RoleError, match="is for nobody"):
        gatekeeper().check("/duetface.v1.VerificationService/Fresh", caller(*Role))


def test_another_realms_certificate_is_refused_whatever_its_role() -> None:
    """Realms federate by messages, not by each other's certificates."""
    with pytest.raises(AccessError, match="another realm"):
        gatekeeper().check("/grpc.health.v1.Health/Check", caller(*Role, realm="there"))


def test_a_certificate_that_expires_during_a_connection_is_refused() -> None:
    """The handshake looked at the date once, perhaps weeks ago."""
    with pytest.raises(RevokedError, match="expired"):
        gatekeeper().check("/grpc.health.v1.Health/Check", caller(Role.AGENT, days=0))


def test_a_revoked_certificate_is_refused() -> None:
    """A stolen device has a valid certificate."""
    with pytest.raises(RevokedError, match="revoked"):
        gatekeeper("aa").check("/grpc.health.v1.Health/Check", caller(Role.AGENT))


def test_one_certificate_may_carry_two_roles() -> None:
    """`duetface evaluate` enrols as operator and reads similarities as auditor."""
    both = caller(Role.OPERATOR, Role.AUDITOR)
    gatekeeper().check("/duetface.v1.EnrollmentService/AddTemplate", both)
    gatekeeper().check("/duetface.v1.AuditService/ListAuditRecords", both)
    assert both.has(Role.OPERATOR, Role.AUDITOR)
    assert both.actor.role == "auditor+operator"


def test_a_certificate_without_a_name_is_audited_by_its_digest_only() -> None:
    """Nothing else of it is believed."""
    actor = unnamed_actor(b"garbage")
    assert (actor.realm, actor.role, actor.name) == ("", "", "")
    assert len(actor.fingerprint) == 64
