"""Who may call what, over real connections: every RPC that is served, with every kind of certificate."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from duetface.authority import Authority
from duetface.identity import ClientIdentity, Role
from duetface.revocation import revoke
from duetface.v1 import verification_pb2
from recognition_service.access import ROLES
from recognition_service.state import create_state
from tests.fakes.network import probe_of
from tests.integration.conftest import REALM, Site
from tests.integration.raw import Caller, refusal_of, refused

CLIENT_ROLES = [role for role in Role if role is not Role.SERVER]


def refusal() -> "pytest.RaisesExc[grpc.RpcError]":
    """Expect gRPC to fail."""
    return pytest.raises(grpc.RpcError)


def raw_call(channel: grpc.Channel, method: str) -> str:
    """Call a method with an empty request; "" if the guard let it through to its checks, else the reason."""
    calls = channel.stream_stream(method, None, None)(iter([b""]), timeout=10)
    try:
        for _ in calls:
            calls.cancel()
            return ""
    except grpc.RpcError as error:
        answer = refusal_of(error)
        if answer.status == "PERMISSION_DENIED":
            return answer.reason
        assert answer.status in ("INVALID_ARGUMENT", "NOT_FOUND", "ABORTED", "UNIMPLEMENTED"), answer
    return ""


@pytest.mark.parametrize("role", CLIENT_ROLES)
def test_every_method_is_open_to_its_roles_and_closed_to_the_others(site: Site, role: Role) -> None:
    """The table is what the wire does."""
    caller = site.caller(role)
    for method, allowed in ROLES.items():
        expected = "" if role in allowed else "role"
        assert raw_call(caller.channel, method) == expected, method


def test_a_method_that_nobody_serves_is_unimplemented(site: Site) -> None:
    """And gives nothing away."""
    with pytest.raises(grpc.RpcError) as error:
        next(site.caller(Role.OPERATOR).channel.stream_stream("/duetface.v1.Nothing/Here", None, None)(iter([b""])))
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_without_a_certificate_there_is_no_handshake(site: Site) -> None:
    """There is no insecure port, and no anonymous one."""
    root = (site.realm.state / "ca" / "ca.crt").read_bytes()
    for channel in (
        grpc.secure_channel(site.service.address, grpc.ssl_channel_credentials(root)),
        grpc.insecure_channel(site.service.address),
    ):
        with channel:
            stub = health_pb2_grpc.HealthStub(channel)
            with pytest.raises(grpc.RpcError) as error:
                stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_certificate_of_another_authority_is_refused_in_the_handshake(site: Site, tmp_path: Path) -> None:
    """Even one that names this very realm."""
    create_state(tmp_path / "foreign", REALM, datetime.now(UTC))
    foreign = ClientIdentity.load(tmp_path / "foreign" / "clients" / "operator")
    mixed = ClientIdentity(
        foreign.peer, foreign.certificate_pem, foreign.private_key_pem, site.realm.identity(Role.AGENT).authority_pem
    )
    with Caller.connect(site.service.address, mixed) as caller, pytest.raises(grpc.RpcError) as error:
        caller.nonce()
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE


def test_an_expired_certificate_is_refused_in_the_handshake(site: Site) -> None:
    """A door that nobody renewed."""
    folder = site.realm.state / "clients" / "old"
    past = datetime.now(UTC) - timedelta(days=10)
    Authority.load(site.realm.state / "ca").issue_client([Role.AGENT], "old", folder, past, days=1)
    with Caller.connect(site.service.address, ClientIdentity.load(folder)) as caller, refusal() as error:
        caller.nonce()
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_certificate_of_another_realm_from_the_same_authority_is_refused_and_audited(site: Site) -> None:
    """A shared authority does not share the realm."""
    folder = site.realm.state / "clients" / "elsewhere"
    ours = Authority.load(site.realm.state / "ca")
    theirs = Authority(ours.folder, "elsewhere.example", ours.certificate, ours.key)
    theirs.issue_client([Role.OPERATOR], "elsewhere", folder, datetime.now(UTC))
    with Caller.connect(site.service.address, ClientIdentity.load(folder)) as caller:
        answer = refused(caller.nonce)
    assert (answer.status, answer.reason) == ("PERMISSION_DENIED", "foreign_certificate")
    assert site.refusals() == ["foreign_certificate"]


def test_the_services_own_certificate_is_no_client(site: Site) -> None:
    """Who steals it must not be able to enrol."""
    state = site.realm.state
    folder = state / "clients" / "server"
    shutil.copytree(state / "server", folder)
    for kind in ("crt", "key"):
        (folder / f"server.{kind}").rename(folder / f"client.{kind}")
    with Caller.connect(site.service.address, ClientIdentity.load(folder)) as caller, refusal() as error:
        caller.nonce()
    assert error.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED)


def test_a_wrong_role_is_refused_audited_and_the_next_request_works(site: Site) -> None:
    """A verifier that tries to enrol is a story for the auditor."""
    verifier = site.caller(Role.VERIFIER)
    assert raw_call(verifier.channel, "/duetface.v1.EnrollmentService/CreateSubject") == "role"
    row = site.gallery.audit(limit=10)[-1]
    assert (row.action, row.reason, row.actor.role, row.actor.name) == ("refusal", "role", "verifier", "verifier")
    assert row.details == {"method": "/duetface.v1.EnrollmentService/CreateSubject", "status": "PERMISSION_DENIED"}
    assert verifier.identify(verifier.signed(probe_of(1))).outcome == verification_pb2.OUTCOME_REJECT


def test_a_revoked_certificate_is_refused_at_once_on_an_open_connection(site: Site) -> None:
    """A stolen device must not live on by keeping its connection."""
    caller = site.caller(Role.AGENT, name="stolen")
    caller.nonce()
    fingerprint = caller.identity.peer.fingerprint
    revoke(site.realm.state / "revoked.json", fingerprint, datetime.now(UTC))
    answer = refused(caller.nonce)
    assert (answer.status, answer.reason) == ("PERMISSION_DENIED", "revoked")
    assert site.refusals() == ["revoked"]


def test_a_certificate_that_expires_on_an_open_connection_is_refused(site: Site) -> None:
    """The handshake is long ago."""
    caller = site.caller(Role.AGENT)
    caller.nonce()
    site.clock.ahead_s = timedelta(days=31).total_seconds()
    answer = refused(caller.nonce)
    assert (answer.status, answer.reason) == ("PERMISSION_DENIED", "revoked")


def test_a_flood_of_refusals_does_not_fill_the_audit(site: Site) -> None:
    """The attack is visible; the disk is not full."""
    caller = site.caller(Role.VERIFIER)
    for _ in range(80):
        assert raw_call(caller.channel, "/duetface.v1.AuditService/ListAuditRecords") == "role"
    assert 50 <= len(site.refusals()) < 80


def test_health_and_reflection_stand_behind_the_same_certificates(site: Site) -> None:
    """An independent client finds the services by reflection, as operator."""
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    caller = site.caller(Role.OPERATOR)
    health = health_pb2_grpc.HealthStub(caller.channel)
    for name in ("", "duetface.v1.VerificationService", "duetface.v1.EnrollmentService", "duetface.v1.AuditService"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    stub = reflection_pb2_grpc.ServerReflectionStub(caller.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (listed,) = stub.ServerReflectionInfo(iter([request]), timeout=5)
    names = {service.name for service in listed.list_services_response.service}
    assert "duetface.v1.VerificationService" in names


def test_the_certificates_of_a_new_realm_carry_one_role_each(site: Site) -> None:
    """Whoever enrols cannot read similarities, unless somebody decides so."""
    for role in ("operator", "auditor", "verifier"):
        pem = (site.realm.state / "clients" / role / "client.crt").read_bytes()
        names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [f"spiffe://{REALM}/{role}/{role}"]
