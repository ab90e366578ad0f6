"""Whether a device vouches for a probe: size, nonce, order and signature, before anything dear is parsed."""

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from duetface.codec import PROBE_LIMIT
from duetface.errors import MessageError, SignatureError
from duetface.identity import verify_signature
from duetface.v1 import face_pb2
from recognition_service.access import Caller
from recognition_service.refusals import FieldError, NonceError
from recognition_service.session import NONCE_BYTES, NonceBook, StreamSession


def vouched_once(signed: face_pb2.SignedProbe, caller: Caller, nonces: NonceBook, now_s: float) -> bytes:
    """The probe's bytes of a unary call, in this order: sizes, nonce, signature.

    now_s: the nonce book's monotonic clock.
    Raises MessageError, FieldError, NonceError or SignatureError; the nonce is spent even if the signature fails.
    """
    _check_sizes(signed)
    if signed.sequence != 0:
        raise FieldError(f"got sequence {signed.sequence}, expected 0: a unary call has one probe to its nonce")
    nonces.spend(signed.nonce, caller.peer.fingerprint, now_s)
    _check_signature(signed, caller)
    return signed.probe


def vouched_in_stream(
    signed: face_pb2.SignedProbe, caller: Caller, session: StreamSession
) -> tuple[bytes, StreamSession]:
    """The probe's bytes of a stream's message, and the session after it.

    Raises MessageError, NonceError, ReplayError or SignatureError.
    """
    _check_sizes(signed)
    session = session.accept(signed.nonce, signed.sequence)
    _check_signature(signed, caller)
    return signed.probe, session


def _check_sizes(signed: face_pb2.SignedProbe) -> None:
    if len(signed.probe) > PROBE_LIMIT:
        raise MessageError(f"got a probe of {len(signed.probe)} bytes, expected at most {PROBE_LIMIT}")
    if len(signed.nonce) != NONCE_BYTES:
        raise NonceError(f"got a nonce of {len(signed.nonce)} bytes, expected {NONCE_BYTES}: ask for one")


def _check_signature(signed: face_pb2.SignedProbe, caller: Caller) -> None:
    if not signed.signature:
        raise SignatureError("the probe is not signed: sign it with the key of the connection's certificate")
    _check_device(signed.device_certificates_der, caller)
    verify_signature(caller.certificate_pem, signed)


def _check_device(certificates_der: Sequence[bytes], caller: Caller) -> None:
    """On a direct connection the device is who made the connection; another certificate may not be named."""
    if not certificates_der:
        return
    own_der = x509.load_pem_x509_certificate(caller.certificate_pem).public_bytes(Encoding.DER)
    if certificates_der[0] != own_der:
        raise SignatureError("the probe names another device certificate than the connection's")
