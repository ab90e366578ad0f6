"""Who is on the other end: names in certificates, credentials for mutual TLS, signatures of probes.

A certificate names its holder by URI SANs of the form spiffe://REALM/ROLE/NAME, one for each role.
"""

import hashlib
import os
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from duetface.errors import AccessError, ConfigError, SignatureError
from duetface.v1 import face_pb2

SIGNATURE_CONTEXT = b"duetface/v1/signed-probe\x00"
NONCE_BYTES = 32
ISSUE_ONE = "issue a new one with `duetface certs issue`"
RESTORE_IT = "restore it from a backup"

Parsed = TypeVar("Parsed")


class Role(StrEnum):
    """What the holder of a certificate may be."""

    AGENT = "agent"
    VERIFIER = "verifier"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    PEER = "peer"
    SERVER = "server"


@dataclass(frozen=True)
class PeerIdentity:
    """The holder of a certificate.

    fingerprint: SHA-256 of the certificate's DER, hex.
    """

    realm: str
    roles: frozenset[Role]
    name: str
    fingerprint: str
    not_after: datetime

    @staticmethod
    def from_pem(certificate_pem: bytes) -> "PeerIdentity":
        """Read the names of a certificate; the TLS handshake has checked its chain.

        Raises AccessError if it is no certificate, or its SANs are not names of one holder in one realm.
        """
        try:
            certificate = x509.load_pem_x509_certificate(certificate_pem)
        except ValueError as error:
            raise AccessError("the peer's certificate cannot be read") from error
        return PeerIdentity.from_certificate(certificate)

    @staticmethod
    def from_certificate(certificate: x509.Certificate) -> "PeerIdentity":
        """As `from_pem`, of a parsed certificate."""
        names = [_split_name(uri) for uri in _uri_names(certificate)]
        holders = {(realm, name) for realm, _, name in names}
        if len(holders) != 1:
            raise AccessError("the certificate does not name one holder as spiffe://REALM/ROLE/NAME")
        realm, name = holders.pop()
        return PeerIdentity(
            realm=realm,
            roles=frozenset(role for _, role, _ in names),
            name=name,
            fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
            not_after=certificate.not_valid_after_utc,
        )

    @staticmethod
    def of_file(path: Path, remedy: str) -> "PeerIdentity":
        """As `from_pem`, of a certificate kept here; raises ConfigError that names the file and the remedy."""
        try:
            return PeerIdentity.from_pem(read_file(path))
        except AccessError as error:
            raise ConfigError(f"{path} is damaged, or no certificate of DuetFace: {remedy}") from error

    @property
    def label(self) -> str:
        """For logs and the audit, e.g. "agent/door-1"; several roles are joined by "+"."""
        return f"{'+'.join(sorted(self.roles))}/{self.name}"


def _uri_names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _split_name(uri: str) -> tuple[str, Role, str]:
    parts = urlsplit(uri)
    path = parts.path.split("/")
    if parts.scheme != "spiffe" or not parts.netloc or len(path) != 3 or path[0] or not path[2]:
        raise AccessError("the certificate's URI name is not of the form spiffe://REALM/ROLE/NAME")
    if path[1] not in set(Role):
        raise AccessError("the certificate names a role that DuetFace does not know")
    return parts.netloc, Role(path[1]), path[2]


@dataclass(frozen=True)
class ClientIdentity:
    """A certificate with its private key and the realm's root: what a client brings to a connection."""

    peer: PeerIdentity
    certificate_pem: bytes
    private_key_pem: bytes
    authority_pem: bytes

    @staticmethod
    def load(folder: Path) -> "ClientIdentity":
        """Read client.crt, client.key and ca.crt.

        Raises ConfigError if one is missing, unreadable, open to others, or does not fit the rest.
        """
        if not folder.is_dir():
            raise ConfigError(f"{folder} is no folder of a certificate: {ISSUE_ONE}, or name the right one")
        certificate_pem, private_key_pem, authority_pem = _read_credentials(folder, "client", ISSUE_ONE)
        peer = PeerIdentity.of_file(folder / "client.crt", ISSUE_ONE)
        return ClientIdentity(peer, certificate_pem, private_key_pem, authority_pem)

    @property
    def authority_fingerprint(self) -> str:
        """SHA-256 of the root's DER, hex: tells realms of the same name apart."""
        return x509.load_pem_x509_certificate(self.authority_pem).fingerprint(hashes.SHA256()).hex()

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Credentials of a mutually authenticated channel."""
        return grpc.ssl_channel_credentials(self.authority_pem, self.private_key_pem, self.certificate_pem)


def server_credentials(folder: Path) -> grpc.ServerCredentials:
    """Credentials of a server that demands a certificate of its realm: server.crt, server.key, ca.crt.

    Raises ConfigError naming file and remedy: gRPC would only say that it cannot listen.
    """
    certificate_pem, private_key_pem, authority_pem = _read_credentials(folder, "server", RESTORE_IT)
    return grpc.ssl_server_credentials([(private_key_pem, certificate_pem)], authority_pem, require_client_auth=True)


def _read_credentials(folder: Path, stem: str, remedy: str) -> tuple[bytes, bytes, bytes]:
    """Certificate, private key and root of a folder as PEM.

    Raises ConfigError naming the file if one is missing, open to others, damaged, or does not fit the rest.
    """
    certificate_path, key_path, root_path = (folder / name for name in (f"{stem}.crt", f"{stem}.key", "ca.crt"))
    pems = read_file(certificate_path), read_private(key_path), read_file(root_path)
    certificate = _parsed(certificate_path, x509.load_pem_x509_certificate, pems[0], remedy)
    key = _parsed(key_path, load_signing_key, pems[1], remedy)
    _parsed(root_path, x509.load_pem_x509_certificate, pems[2], remedy)
    if certificate.public_key() != key.public_key():
        raise ConfigError(f"{key_path} does not belong to {certificate_path.name}: {remedy}")
    return pems


def _parsed(path: Path, parse: Callable[[bytes], Parsed], pem: bytes, remedy: str) -> Parsed:
    try:
        return parse(pem)
    except (ValueError, TypeError) as error:  # TypeError: a key that is encrypted
        raise ConfigError(f"{path} is damaged: {remedy}") from error


def load_signing_key(private_key_pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Read a P-256 key.  Raises ValueError for anything else."""
    key = serialization.load_pem_private_key(private_key_pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a P-256 private key")
    return key


def signed_bytes(nonce: bytes, sequence: int, probe: bytes) -> bytes:
    """The bytes that a device signs: face.proto, SignedProbe.signature."""
    return b"".join(
        (
            SIGNATURE_CONTEXT,
            struct.pack(">I", len(nonce)),
            nonce,
            struct.pack(">QI", sequence, len(probe)),
            probe,
        )
    )


def sign_probe(identity: ClientIdentity, nonce: bytes, sequence: int, probe: bytes) -> face_pb2.SignedProbe:
    """Vouch for a serialised probe with the certificate's key (ECDSA P-256, SHA-256, DER)."""
    key = load_signing_key(identity.private_key_pem)
    signature = key.sign(signed_bytes(nonce, sequence, probe), ec.ECDSA(hashes.SHA256()))
    return face_pb2.SignedProbe(probe=probe, nonce=nonce, sequence=sequence, signature=signature)


def verify_signature(certificate_pem: bytes, signed: face_pb2.SignedProbe) -> None:
    """Check that the holder of the certificate signed this probe, nonce and sequence.

    Certificates inside the message are not looked at.
    Raises SignatureError if not.
    """
    key = x509.load_pem_x509_certificate(certificate_pem).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SignatureError("the device certificate's key is not P-256: issue a new certificate")
    if len(signed.signature) > 80:  # a DER signature of P-256 has at most 72 bytes
        raise SignatureError(f"got a signature of {len(signed.signature)} bytes, expected at most 72")
    try:
        key.verify(
            signed.signature, signed_bytes(signed.nonce, signed.sequence, signed.probe), ec.ECDSA(hashes.SHA256())
        )
    except InvalidSignature as error:
        raise SignatureError("the probe's signature does not verify with the device's certificate") from error


def read_file(path: Path) -> bytes:
    """Read a file.  Raises ConfigError that names it."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def read_private(path: Path) -> bytes:
    """Read a key file.  Raises ConfigError if others may read it."""
    content = read_file(path)
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"{path} can be read by others: chmod 600 {path}")
    return content


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, all or nothing.  Raises ConfigError that names it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600 by itself
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)  # half a key must not lie about
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def public_key_digest(certificate_pem: bytes) -> str:
    """SHA-256 of the certificate's public key (SubjectPublicKeyInfo), hex: stays when a certificate is renewed."""
    key = x509.load_pem_x509_certificate(certificate_pem).public_key()
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()
