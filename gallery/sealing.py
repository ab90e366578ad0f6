"""Authenticated encryption of what the gallery stores: AES-256-GCM (NIST SP 800-38D) with bound context.

Sealed form: one format byte (1), a random nonce of 12 bytes, ciphertext, a tag of 16 bytes.
"""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from duetface.errors import GalleryError

KEY_BYTES = 32
_FORMAT = b"\x01"
_NONCE_BYTES = 12
_TAG_BYTES = 16
OVERHEAD_BYTES = len(_FORMAT) + _NONCE_BYTES + _TAG_BYTES


def new_key() -> bytes:
    """32 fresh bytes from the operating system's generator."""
    return secrets.token_bytes(KEY_BYTES)


def context(*parts: str | bytes | int) -> bytes:
    """Associated data of several parts, each with its length, so that no two part lists give the same bytes."""
    encoded = [_encode(part) for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def _encode(part: str | bytes | int) -> bytes:
    if isinstance(part, bytes):
        return part
    return part.encode() if isinstance(part, str) else part.to_bytes(8, "big", signed=True)


def seal(key: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """Encrypt plaintext under a 32-byte key; associated must be given again to open it."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return _FORMAT + nonce + AESGCM(key).encrypt(nonce, plaintext, associated)


def unseal(key: bytes, sealed: bytes, associated: bytes, what: str) -> bytes:
    """Decrypt; raises GalleryError, naming `what`, when a bit, the key or the context differs."""
    if len(sealed) < OVERHEAD_BYTES or sealed[:1] != _FORMAT:
        raise GalleryError(f"{what} is damaged: {len(sealed)} bytes are not a sealed value; restore a copy")
    nonce, body = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    try:
        return AESGCM(key).decrypt(nonce, body, associated)
    except InvalidTag:
        raise GalleryError(
            f"{what} does not open: it was changed, moved, or sealed under another key; restore a copy"
        ) from None


def derive(key: bytes, purpose: str) -> bytes:
    """A 32-byte key for one purpose from a master key: HKDF-SHA256 (RFC 5869)."""
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"duetface/" + purpose.encode()).derive(key)
