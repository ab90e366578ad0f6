"""Names, keys and signatures: what is not exactly right is refused."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from duetface.authority import Authority
from duetface.errors import AccessError, ConfigError, SignatureError
from duetface.identity import (
    ClientIdentity,
    PeerIdentity,
    Role,
    server_credentials,
    sign_probe,
    signed_bytes,
    verify_signature,
    write_private,
)
from duetface.v1 import face_pb2

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
NONCE = bytes(range(32))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A realm's root."""
    return Authority.create(tmp_path / "ca", "lab.example", NOW)


@pytest.fixture
def door(authority: Authority, tmp_path: Path) -> ClientIdentity:
    """An agent of the realm."""
    authority.issue_client([Role.AGENT], "door-1", tmp_path / "door-1", NOW)
    return ClientIdentity.load(tmp_path / "door-1")


def test_a_client_certificate_names_realm_roles_and_holder(authority: Authority, tmp_path: Path) -> None:
    """The service decides by these three alone."""
    authority.issue_client([Role.OPERATOR, Role.AUDITOR], "eve", tmp_path / "eve", NOW)
    peer = ClientIdentity.load(tmp_path / "eve").peer
    assert (peer.realm, peer.roles, peer.name) == ("lab.example", {Role.OPERATOR, Role.AUDITOR}, "eve")
    assert peer.label == "auditor+operator/eve"
    assert peer.not_after == NOW + timedelta(days=397)


def test_an_authority_comes_back_from_its_folder(authority: Authority) -> None:
    """`certs issue` runs months after `init`."""
    loaded = Authority.load(authority.folder)
    assert (loaded.realm, loaded.certificate) == ("lab.example", authority.certificate)


def test_key_files_are_for_their_owner_only(authority: Authority, door: ClientIdentity, tmp_path: Path) -> None:
    """A key that others can read is no key."""
    for path in (authority.folder / "ca.key", tmp_path / "door-1" / "client.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (tmp_path / "door-1" / "client.key").chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others: chmod 600"):
        ClientIdentity.load(tmp_path / "door-1")


def test_client_certificates_carry_no_host_name(door: ClientIdentity) -> None:
    """Else a stolen agent could pass itself off as the service."""
    certificate = x509.load_pem_x509_certificate(door.certificate_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == []
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]


@pytest.mark.parametrize("name", ["", "Door", "a/b", "../x", "a" * 64, "-a", "ä", "a b"])
def test_an_unfit_name_is_refused(authority: Authority, tmp_path: Path, name: str) -> None:
    """Names end up in URIs, folders and logs."""
    with pytest.raises(ConfigError, match="as in a host name"):
        authority.issue_client([Role.AGENT], name, tmp_path / "x", NOW)


def test_nobody_gets_a_server_certificate_as_a_client(authority: Authority, tmp_path: Path) -> None:
    """And a certificate without a role is none."""
    for roles in ([], [Role.SERVER], [Role.AGENT, Role.SERVER]):
        with pytest.raises(ConfigError, match="one or more of"):
            authority.issue_client(roles, "x", tmp_path / "x", NOW)


def test_an_existing_key_is_never_overwritten(authority: Authority, door: ClientIdentity, tmp_path: Path) -> None:
    """A second `init` or `issue` by mistake must not lock devices out."""
    with pytest.raises(ConfigError, match="holds a key already"):
        authority.issue_client([Role.AGENT], "door-1", tmp_path / "door-1", NOW)
    with pytest.raises(ConfigError, match="second root"):
        Authority.create(authority.folder, "lab.example", NOW)


def test_a_mixed_up_key_is_refused(authority: Authority, door: ClientIdentity, tmp_path: Path) -> None:
    """Files copied to the device from two folders."""
    authority.issue_client([Role.AGENT], "door-2", tmp_path / "door-2", NOW)
    write_private(tmp_path / "door-1" / "client.key", (tmp_path / "door-2" / "client.key").read_bytes())
    with pytest.raises(ConfigError, match="does not belong"):
        ClientIdentity.load(tmp_path / "door-1")


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    """The remedy starts with knowing which."""
    with pytest.raises(ConfigError, match=r"client\.crt: No such file"):
        ClientIdentity.load(tmp_path)
    with pytest.raises(ConfigError, match=r"nowhere is no folder of a certificate: .*`duetface certs issue`"):
        ClientIdentity.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["client.crt", "client.key", "ca.crt"])
def test_a_damaged_file_of_a_client_is_named_with_the_remedy(door: ClientIdentity, tmp_path: Path, name: str) -> None:
    """It is our own file, so it is no refusal of somebody else."""
    write_private(tmp_path / "door-1" / name, b"-----BEGIN NOTHING-----")
    with pytest.raises(ConfigError, match=rf"{name} is damaged.*`duetface certs issue`"):
        ClientIdentity.load(tmp_path / "door-1")


@pytest.mark.parametrize("name", ["server.crt", "server.key", "ca.crt"])
def test_a_damaged_file_of_the_service_is_named_with_the_remedy(
    authority: Authority, tmp_path: Path, name: str
) -> None:
    """gRPC would say that the port cannot be had."""
    authority.issue_server("recognition", ["localhost"], tmp_path / "server", NOW)
    server_credentials(tmp_path / "server")
    write_private(tmp_path / "server" / name, b"-----BEGIN NOTHING-----")
    with pytest.raises(ConfigError, match=rf"{name} is damaged: restore it from a backup"):
        server_credentials(tmp_path / "server")


def test_a_certificate_file_without_our_names_is_named_with_the_remedy(authority: Authority) -> None:
    """The root's own certificate in place of a device's, copied by mistake."""
    path = authority.folder / "ca.crt"
    with pytest.raises(ConfigError, match=r"ca\.crt is damaged, or no certificate of DuetFace: put it back"):
        PeerIdentity.of_file(path, "put it back")


def test_a_certificate_of_another_world_has_no_name_here(tmp_path: Path) -> None:
    """A root's own certificate, or one of a web server, is nobody."""
    authority = Authority.create(tmp_path / "ca", "lab", NOW)
    pem = (tmp_path / "ca" / "ca.crt").read_bytes()
    assert authority.realm == "lab"
    with pytest.raises(AccessError, match="spiffe://REALM/ROLE/NAME"):
        PeerIdentity.from_pem(pem)
    with pytest.raises(AccessError, match="cannot be read"):
        PeerIdentity.from_pem(b"nothing")


def test_a_signature_covers_probe_nonce_and_sequence(door: ClientIdentity) -> None:
    """Whoever changes one of them has no signature."""
    signed = sign_probe(door, NONCE, 3, b"probe")
    verify_signature(door.certificate_pem, signed)
    for field, value in (("probe", b"probE"), ("nonce", bytes(32)), ("sequence", 4), ("signature", b"")):
        changed = face_pb2.SignedProbe()
        changed.CopyFrom(signed)
        setattr(changed, field, value)
        with pytest.raises(SignatureError, match="does not verify"):
            verify_signature(door.certificate_pem, changed)


def test_another_devices_signature_is_refused(authority: Authority, door: ClientIdentity, tmp_path: Path) -> None:
    """One device cannot vouch in another's name."""
    authority.issue_client([Role.AGENT], "door-2", tmp_path / "door-2", NOW)
    other = ClientIdentity.load(tmp_path / "door-2")
    with pytest.raises(SignatureError, match="does not verify"):
        verify_signature(door.certificate_pem, sign_probe(other, NONCE, 0, b"probe"))


@given(st.binary(max_size=40), st.binary(max_size=40), st.integers(0, 2**64 - 1))
def test_no_two_messages_share_signed_bytes(nonce: bytes, probe: bytes, sequence: int) -> None:
    """Moving a byte from nonce to probe must change what is signed."""
    moved = signed_bytes(nonce + probe[:1], sequence, probe[1:])
    assert (signed_bytes(nonce, sequence, probe) == moved) == (probe == b"")
