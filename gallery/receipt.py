"""A signed statement that what was held about a subject is gone, and the means to look again later.

The receipt names the subject's pseudonymous id, times and counts.  Its fingerprints are sealed under the realm key:
whoever finds the receipt learns nothing from them, and the realm can search any file for what they stand for.
"""

import base64
import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from duetface.errors import GalleryError
from gallery import sealing
from gallery.fingerprints import Fingerprints
from gallery.ledger import from_us
from gallery.realm import Realm


class ReceiptError(GalleryError):
    """This is no receipt of erasure, or not one that this realm has signed."""


_SIGNING = "erasure receipt signatures"
_SEALING = "erasure receipt fingerprints"
_FORMAT = 1


@dataclass(frozen=True)
class Receipt:
    """See the module.  Times: ISO 8601, UTC.  public_key, signature, sealed_fingerprints: base64.

    searched: files that were searched without finding a window; none for a database server, whose files
    `Maintenance.prove_erased` searches where they can be reached.  followers: replicas that had followed.
    """

    format: int
    realm: str
    subject_id: str
    revision: int
    erased_at: str
    templates: int
    windows: int
    searched: list[str]
    followers: list[str]
    realm_key_version: int
    sealed_fingerprints: str
    public_key: str
    signature: str = ""

    @classmethod
    def sign(cls, realm: Realm, row: Any, prints: Fingerprints, followers: list[str]) -> Self:
        """row: of the table erasures, completed."""
        version = row.realm_key_version
        key = _signing_key(realm, version)
        sealed = sealing.seal(realm.vault.derive(_SEALING, version), prints.to_bytes(), _context(realm, row.revision))
        unsigned = cls(
            format=_FORMAT,
            realm=realm.name,
            subject_id=row.subject_id,
            revision=row.revision,
            erased_at=from_us(row.completed_at_us).isoformat(),
            templates=row.templates,
            windows=len(prints),
            searched=[str(path) for path in realm.store.files()],
            followers=followers,
            realm_key_version=version,
            sealed_fingerprints=base64.b64encode(sealed).decode(),
            public_key=base64.b64encode(key.public_key().public_bytes_raw()).decode(),
        )
        return replace(unsigned, signature=base64.b64encode(key.sign(unsigned.signed_bytes())).decode())

    def signed_bytes(self) -> bytes:
        """What the signature covers: every other field, as canonical JSON."""
        fields = {name: value for name, value in asdict(self).items() if name != "signature"}
        return b"duetface erasure receipt\n" + json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    def verify(self) -> None:
        """Raises ReceiptError unless the signature is that of the receipt's own public key.

        Whether that key is the realm's is known to whoever has noted it before, and to the realm itself (`open`).
        """
        try:
            public_key = Ed25519PublicKey.from_public_bytes(base64.b64decode(self.public_key))
            public_key.verify(base64.b64decode(self.signature), self.signed_bytes())
        except (InvalidSignature, ValueError, TypeError) as error:
            raise ReceiptError("the receipt's signature does not verify: it was changed after signing") from error

    def open(self, realm: Realm) -> Fingerprints:
        """The fingerprints, for the realm that signed; raises ReceiptError for a changed or foreign receipt."""
        self.verify()
        if self.realm != realm.name or self.realm_key_version not in realm.vault.versions("realm"):
            raise ReceiptError("the receipt is not of this realm, or its realm key is gone: ask the realm that erased")
        key = _signing_key(realm, self.realm_key_version).public_key().public_bytes_raw()
        if base64.b64decode(self.public_key) != key:
            raise ReceiptError("the receipt is not of this realm: ask the realm that erased")
        sealed = base64.b64decode(self.sealed_fingerprints)
        secret = realm.vault.derive(_SEALING, self.realm_key_version)
        what = "the receipt's list of fingerprints"
        return Fingerprints.from_bytes(sealing.unseal(secret, sealed, _context(realm, self.revision), what))

    def to_json(self) -> str:
        """The receipt as a file holds it."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Undo to_json; raises ReceiptError for anything else."""
        try:
            receipt = cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise ReceiptError("this is no erasure receipt: expected the JSON that `gallery erase` wrote") from error
        if receipt.format != _FORMAT:
            raise ReceiptError(f"the receipt has format {receipt.format}: this release reads format {_FORMAT}")
        return receipt


def _context(realm: Realm, revision: int) -> bytes:
    return sealing.context(_SEALING, realm.name, revision)


def _signing_key(realm: Realm, version: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(realm.vault.derive(_SIGNING, version))
