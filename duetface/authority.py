"""The realm's own certificate authority: one root, short names, an expiry."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from duetface.address import check_host
from duetface.errors import ConfigError
from duetface.identity import (
    RESTORE_IT,
    PeerIdentity,
    Role,
    load_signing_key,
    read_file,
    read_private,
    write_private,
)
from duetface.revocation import read_revoked

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 397  # the longest that browsers accept; a device should come by once a year
CLOCK_SKEW = timedelta(minutes=5)  # a device's clock may lag behind the issuer's
NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Issued:
    """One certificate of the realm, as `duetface certs list` shows it."""

    peer: PeerIdentity
    folder: Path
    revoked: bool


@dataclass(frozen=True)
class Authority:
    """The realm's root certificate and key, in `folder` (ca.crt, ca.key)."""

    folder: Path
    realm: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @staticmethod
    def create(folder: Path, realm: str, now: datetime) -> "Authority":
        """Make a new root.  Raises ConfigError if the name is no DNS-like name or one is there already."""
        _check_name("realm", realm)
        if (folder / "ca.key").exists():
            raise ConfigError(f"{folder / 'ca.key'} is there already: a second root would lock every agent out")
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"DuetFace realm {realm}")])
        builder = (
            _builder(name, name, key.public_key(), now, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{realm}")]), critical=False
            )
        )
        certificate = builder.sign(key, hashes.SHA256())
        write_private(folder / "ca.key", _key_pem(key))
        write_private(folder / "ca.crt", certificate.public_bytes(serialization.Encoding.PEM))
        return Authority(folder, realm, certificate, key)

    @staticmethod
    def load(folder: Path) -> "Authority":
        """Read the root.  Raises ConfigError that names the file and what to do."""
        try:
            certificate = x509.load_pem_x509_certificate(read_file(folder / "ca.crt"))
            key = load_signing_key(read_private(folder / "ca.key"))
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
        except (ValueError, x509.ExtensionNotFound) as error:
            raise ConfigError(f"{folder}: ca.crt or ca.key is damaged; restore it from a backup") from error
        return Authority(folder, uri.removeprefix("spiffe://"), certificate, key)

    def issue_client(
        self, roles: Sequence[Role], name: str, folder: Path, now: datetime, days: int = CERTIFICATE_DAYS
    ) -> PeerIdentity:
        """Make a key and a certificate for a client: client.crt, client.key, ca.crt in `folder`.

        Raises ConfigError if the name is unfit, the roles are none or hold `server`, or the folder is in use.
        """
        _check_name("name", name)
        if not roles or Role.SERVER in roles:
            raise ConfigError("a client certificate needs one or more of: agent, verifier, operator, auditor, peer")
        names = [x509.UniformResourceIdentifier(f"spiffe://{self.realm}/{role}/{name}") for role in sorted(set(roles))]
        return self._issue(name, names, ExtendedKeyUsageOID.CLIENT_AUTH, folder, "client", now, days)

    def issue_server(
        self, name: str, hosts: Sequence[str], folder: Path, now: datetime, days: int = CERTIFICATE_DAYS
    ) -> PeerIdentity:
        """Make the service's key and certificate: server.crt, server.key, ca.crt in `folder`.

        hosts: DNS names and IP addresses under which clients reach it; raises ConfigError for anything else.
        """
        _check_name("name", name)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(f"spiffe://{self.realm}/server/{name}")]
        names += [_host_name(host) for host in hosts]
        return self._issue(name, names, ExtendedKeyUsageOID.SERVER_AUTH, folder, "server", now, days)

    def renew_server(self, folder: Path, now: datetime, days: int, further_hosts: Sequence[str] = ()) -> PeerIdentity:
        """Replace the service's key and certificate by new ones of the same name and hosts, and some more.

        Clients notice nothing: they trust the root.  What a crash leaves half done, a second call mends.
        Raises ConfigError if server.crt is damaged, or clients there trust another root than this.
        """
        path = folder / "server.crt"
        peer = PeerIdentity.of_file(path, RESTORE_IT)
        if read_file(folder / "ca.crt") != self.certificate.public_bytes(serialization.Encoding.PEM):
            raise ConfigError(f"{self.folder} is not the authority that {folder}/ca.crt names: use that realm's own")
        names = _alternative_names(path)
        names += [name for name in map(_host_name, further_hosts) if name not in names]
        return self._write(peer.name, names, ExtendedKeyUsageOID.SERVER_AUTH, folder, "server", now, days)

    def _issue(
        self,
        name: str,
        names: Sequence[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        folder: Path,
        stem: str,
        now: datetime,
        days: int,
    ) -> PeerIdentity:
        if (folder / f"{stem}.key").exists():
            raise ConfigError(f"{folder} holds a key already: choose another name or folder")
        return self._write(name, names, usage, folder, stem, now, days)

    def _write(
        self,
        name: str,
        names: Sequence[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        folder: Path,
        stem: str,
        now: datetime,
        days: int,
    ) -> PeerIdentity:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            _builder(subject, self.certificate.subject, key.public_key(), now, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        write_private(folder / f"{stem}.key", _key_pem(key))
        write_private(folder / f"{stem}.crt", certificate.public_bytes(serialization.Encoding.PEM))
        write_private(folder / "ca.crt", self.certificate.public_bytes(serialization.Encoding.PEM))
        return PeerIdentity.from_certificate(certificate)


def issued_certificates(clients_folder: Path, revoked_file: Path) -> list[Issued]:
    """The client certificates kept in the state folder, by name."""
    revoked = read_revoked(revoked_file)
    found = []
    for path in sorted(clients_folder.glob("*/client.crt")):
        peer = PeerIdentity.of_file(path, "move it away, or issue a new one with `duetface certs issue`")
        found.append(Issued(peer=peer, folder=path.parent, revoked=peer.fingerprint in revoked))
    return found


def _check_name(what: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise ConfigError(f"{what} {name!r}: expected 1 to 63 of a-z, 0-9, '-' and '.', as in a host name")


def _alternative_names(path: Path) -> list[x509.GeneralName]:
    certificate = x509.load_pem_x509_certificate(read_file(path))
    return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(check_host(host, "host"))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - CLOCK_SKEW)
        .not_valid_after(now.astimezone(UTC) + timedelta(days=days))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
