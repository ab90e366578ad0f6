"""The realm's secrets in a PKCS#11 token (an HSM, a smart card, SoftHSM), which never gives its keys away.

Version N of the realm key is two objects: "LABEL realm N", AES-256, seals subject keys inside the token by AES-GCM;
"LABEL derive N", a generic secret, gives by HMAC-SHA256 the keys for other purposes (receipts, snapshots).
"LABEL rotation N", a generic secret, gives the rotation's seed likewise.  What is derived lives in this process's
memory, as the rotation does; what opens subject keys does not.
"""

import contextlib
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from duetface.errors import ConfigError, GalleryError
from gallery.keys import KeyKind, missing_version

import pkcs11  # isort: skip  (extra "hsm"; this module is imported only when a token is configured)
from pkcs11 import exceptions

_FORMAT = b"\x02"
_NONCE_BYTES = 12
_TAG_BITS = 128
# A maker's library need not bear two threads at once, whichever sessions they use.
_USING = threading.Lock()
# A service asks after every change it follows; a new version is also looked for when a row needs it.
_LOOK_EVERY_S = 5.0
_OBJECTS: dict[KeyKind, tuple[str, ...]] = {"realm": ("realm", "derive"), "rotation": ("rotation",)}

Result = TypeVar("Result")


@dataclass(frozen=True)
class TokenSettings:
    """module: the maker's PKCS#11 library.  token: the token's label.  label: begins the labels of our objects.

    pin: the user's; it is never printed.
    """

    module: Path
    token: str
    label: str
    pin: str

    def __repr__(self) -> str:
        """Without the PIN."""
        return f"TokenSettings({self.module}, {self.token}, {self.label})"


class TokenKeys:
    """A KeyProvider inside a token, used by one thread at a time."""

    def __init__(self, settings: TokenSettings, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Log in.  clock_s: monotonic seconds.

        Raises ConfigError naming the library, the token or the PIN, whichever is wrong.
        """
        self._settings = settings
        with _USING:
            self._session = _log_in(settings)
        self._clock_s = clock_s
        self._found: dict[tuple[str, int], Any] = {}
        self._look_again_s = 0.0
        self._derived: dict[tuple[str, int, bytes], bytes] = {}

    def __repr__(self) -> str:
        """Where, and nothing more."""
        return f"TokenKeys({self._settings})"

    def realm_key_versions(self) -> tuple[int, ...]:
        """See KeyProvider."""
        return self._versions("realm", self._clock_s() >= self._look_again_s)

    def rotation_versions(self) -> tuple[int, ...]:
        """See KeyProvider."""
        return self._versions("rotation", self._clock_s() >= self._look_again_s)

    def _versions(self, kind: KeyKind, look: bool = True) -> tuple[int, ...]:
        if look:
            with self._talking():
                self._found = dict(self._objects())
            self._look_again_s = self._clock_s() + _LOOK_EVERY_S
        numbers = [{number for name, number in self._found if name == wanted} for wanted in _OBJECTS[kind]]
        return tuple(sorted(set.intersection(*numbers)))

    def _objects(self) -> Iterator[tuple[tuple[str, int], Any]]:
        label = re.compile(rf"{re.escape(self._settings.label)} (realm|derive|rotation) ([1-9][0-9]*)")
        for found in self._session.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY}):
            if match := label.fullmatch(found.label or ""):
                yield (match[1], int(match[2])), found

    def seal(self, version: int, plaintext: bytes, associated: bytes) -> bytes:
        """See KeyProvider.  Form: one format byte (2), a nonce of 12 bytes, ciphertext, a tag of 16."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _FORMAT + nonce + self._gcm("encrypt", version, nonce, plaintext, associated)

    def unseal(self, version: int, sealed: bytes, associated: bytes, what: str) -> bytes:
        """See KeyProvider."""
        if sealed[:1] != _FORMAT or len(sealed) < 1 + _NONCE_BYTES + _TAG_BITS // 8:
            raise GalleryError(f"{what} was not sealed by the token: put the key that sealed it back, or a copy")
        nonce, body = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            return self._gcm("decrypt", version, nonce, body, associated)
        except exceptions.PKCS11Error:  # tokens name a wrong tag in many ways
            raise GalleryError(
                f"{what} does not open: it was changed, moved, or sealed under another key; restore a copy"
            ) from None

    def _gcm(self, way: str, version: int, nonce: bytes, content: bytes, associated: bytes) -> bytes:
        key = self._object("realm", version, "realm")
        parameters = pkcs11.GCMParams(nonce, associated, _TAG_BITS)
        with self._talking():
            done = getattr(key, way)(content, mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=parameters)
        return bytes(done)

    def derive(self, version: int, purpose: str) -> bytes:
        """See KeyProvider."""
        return self._hmac("derive", version, b"duetface/" + purpose.encode(), "realm")

    def rotation_seed(self, version: int) -> bytes:
        """See KeyProvider."""
        return self._hmac("rotation", version, b"duetface/rotation seed", "rotation")

    def _hmac(self, name: str, version: int, message: bytes, kind: KeyKind) -> bytes:
        place = (name, version, message)
        if place not in self._derived:
            key = self._object(name, version, kind)
            with self._talking():
                self._derived[place] = bytes(key.sign(message, mechanism=pkcs11.Mechanism.SHA256_HMAC))
        return self._derived[place]

    def _object(self, name: str, version: int, kind: KeyKind) -> Any:
        if (name, version) not in self._found and version not in self._versions(kind):
            raise missing_version(kind, version)
        return self._found[name, version]

    def add_version(self, kind: KeyKind, version: int) -> None:
        """See KeyProvider.  The new objects are marked as sensitive and cannot be extracted."""
        if version in self._versions(kind):
            raise ConfigError(f"the token has {kind} key version {version}: it is never overwritten")
        for name in _OBJECTS[kind]:
            if (name, version) not in self._found:  # half of a version is what a break left behind
                self._generate(name, version)
        self._look_again_s = 0.0

    def _generate(self, name: str, version: int) -> None:
        label = f"{self._settings.label} {name} {version}"
        flags = pkcs11.MechanismFlag
        uses = flags.ENCRYPT | flags.DECRYPT if name == "realm" else flags.SIGN | flags.VERIFY
        key_type = pkcs11.KeyType.AES if name == "realm" else pkcs11.KeyType.GENERIC_SECRET
        kept = {pkcs11.Attribute.SENSITIVE: True, pkcs11.Attribute.EXTRACTABLE: False}
        try:
            with self._talking():
                self._session.generate_key(key_type, 256, label=label, store=True, capabilities=uses, template=kept)
        except exceptions.PKCS11Error as error:
            raise ConfigError(
                f"the token {self._settings.token} does not make keys ({type(error).__name__}): make {label!r} with "
                "its maker's tool, then run this again"
            ) from None

    @contextlib.contextmanager
    def _talking(self) -> Iterator[None]:
        """One thread at a time; a token that is gone is said clearly."""
        try:
            with _USING:
                yield
        except _GONE as error:
            raise GalleryError(
                f"the token {self._settings.token} does not answer ({type(error).__name__}): put it back, then restart"
            ) from None


_GONE = (
    exceptions.DeviceError,
    exceptions.DeviceRemoved,
    exceptions.SessionClosed,
    exceptions.SessionHandleInvalid,
    exceptions.TokenNotPresent,
    exceptions.UserNotLoggedIn,
)


def _log_in(settings: TokenSettings) -> Any:
    library = _explained(lambda: pkcs11.lib(str(settings.module)), settings)
    token = _explained(lambda: library.get_token(token_label=settings.token), settings)
    try:
        return _explained(lambda: token.open(rw=True, user_pin=settings.pin), settings)
    except exceptions.UserAlreadyLoggedIn:  # a session of this very process: PKCS#11 logs in the process
        return _explained(lambda: token.open(rw=True), settings)


def _explained(step: Callable[[], Result], settings: TokenSettings) -> Result:
    name = settings.token
    try:
        return step()
    except exceptions.UserAlreadyLoggedIn:
        raise
    except (exceptions.NoSuchToken, exceptions.TokenNotPresent, exceptions.TokenNotRecognised):
        raise ConfigError(f"no token {name!r} in {settings.module}: put it in, or name it in [keys] token") from None
    except (exceptions.PinIncorrect, exceptions.PinInvalid, exceptions.PinLenRange):
        raise ConfigError(f"the token {name} refuses the PIN: correct it; tokens lock after a few wrong ones") from None
    except (exceptions.PinLocked, exceptions.PinExpired, exceptions.UserPinNotInitialized) as error:
        raise ConfigError(f"the token {name} lets nobody in ({type(error).__name__}): reset the user's PIN") from None
    except exceptions.PKCS11Error as error:
        raise ConfigError(
            f"{settings.module} is no usable PKCS#11 library ({type(error).__name__}): check [keys] module"
        ) from None
