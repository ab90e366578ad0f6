"""The realm's secrets: keys that seal subject keys, and seeds of the secret rotation.

Key hierarchy: realm key (here, outside the database) -> subject key (sealed in the database) -> template.
Both secrets come in versions 1, 2, 3, ...: the newest seals, the older ones open until nothing is left under them.
Where they lie: gallery.key_files, gallery.key_variables, gallery.key_token; gallery.key_settings opens what is chosen.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from duetface.errors import ConfigError
from gallery import sealing
from gallery.sealing import KEY_BYTES

KeyKind = Literal["realm", "rotation"]
KINDS: tuple[KeyKind, ...] = ("realm", "rotation")
_CHECK = "check value"


class KeyProvider(Protocol):
    """Where the realm's secrets live: files, memory, or a device that seals without giving its key away."""

    def realm_key_versions(self) -> tuple[int, ...]:
        """Versions that can unseal, ascending; the last one seals.  Grows when one is added while the process runs."""

    def rotation_versions(self) -> tuple[int, ...]:
        """Versions whose seed is there, ascending; new templates use the last."""

    def seal(self, version: int, plaintext: bytes, associated: bytes) -> bytes:
        """Seal under one version of the realm key."""

    def unseal(self, version: int, sealed: bytes, associated: bytes, what: str) -> bytes:
        """Undo `seal`; raises GalleryError naming `what`."""

    def derive(self, version: int, purpose: str) -> bytes:
        """A 32-byte key for one purpose, bound to one version of the realm key."""

    def rotation_seed(self, version: int) -> bytes:
        """The 32-byte seed of one version of the rotation."""

    def add_version(self, kind: KeyKind, version: int) -> None:
        """Make a fresh secret of this version, for good.  Raises ConfigError where only an operator can do it."""


def versions_of(keys: KeyProvider, kind: KeyKind) -> tuple[int, ...]:
    """The versions of one kind of secret, ascending."""
    return keys.realm_key_versions() if kind == "realm" else keys.rotation_versions()


def require_both(keys: KeyProvider, where: str) -> None:
    """Raises ConfigError if either kind of secret has no version.  where: they were looked for."""
    for kind in KINDS:
        if not versions_of(keys, kind):
            raise ConfigError(
                f"{where} has no {kind} key: without it the gallery cannot be read; restore it from your back-up, or "
                "run `duetface init` for a new, empty realm"
            )


class HeldKeys:
    """A KeyProvider whose secrets are held in memory."""

    def __init__(self, realm_keys: Mapping[int, bytes], rotation_seeds: Mapping[int, bytes]) -> None:
        """Both map a version (1, 2, ...) to 32 bytes; raises ConfigError for anything else."""
        for kind, held in (("realm", realm_keys), ("rotation", rotation_seeds)):
            if not held:
                raise ConfigError(f"no {kind} key given: at least version 1 is needed")
        self._hold(realm_keys, rotation_seeds)

    def _hold(self, realm_keys: Mapping[int, bytes], rotation_seeds: Mapping[int, bytes]) -> None:
        for kind, held in (("realm", realm_keys), ("rotation", rotation_seeds)):
            for version, secret in held.items():
                if version < 1 or len(secret) != KEY_BYTES:
                    raise ConfigError(f"{kind} key {version} has {len(secret)} bytes: expected {KEY_BYTES}")
        self._sealing_keys = {v: sealing.derive(key, "subject keys") for v, key in realm_keys.items()}
        self._realm_keys = dict(realm_keys)
        self._rotation_seeds = dict(rotation_seeds)

    def __repr__(self) -> str:
        """Versions only: a key must not reach a log by accident."""
        return f"{type(self).__name__}(realm {sorted(self._realm_keys)}, rotation {sorted(self._rotation_seeds)})"

    def realm_key_versions(self) -> tuple[int, ...]:
        """See KeyProvider."""
        return tuple(sorted(self._realm_keys))

    def rotation_versions(self) -> tuple[int, ...]:
        """See KeyProvider."""
        return tuple(sorted(self._rotation_seeds))

    def seal(self, version: int, plaintext: bytes, associated: bytes) -> bytes:
        """See KeyProvider."""
        self._require("realm", version)
        return sealing.seal(self._sealing_keys[version], plaintext, associated)

    def unseal(self, version: int, sealed: bytes, associated: bytes, what: str) -> bytes:
        """See KeyProvider."""
        self._require("realm", version)
        return sealing.unseal(self._sealing_keys[version], sealed, associated, what)

    def derive(self, version: int, purpose: str) -> bytes:
        """See KeyProvider."""
        self._require("realm", version)
        return sealing.derive(self._realm_keys[version], purpose)

    def rotation_seed(self, version: int) -> bytes:
        """See KeyProvider."""
        self._require("rotation", version)
        return self._rotation_seeds[version]

    def add_version(self, kind: KeyKind, version: int) -> None:
        """See KeyProvider."""
        raise ConfigError(f"{kind} key version {version} cannot be made here: these keys are held in memory only")

    def _require(self, kind: KeyKind, version: int) -> None:
        if version not in (self._realm_keys if kind == "realm" else self._rotation_seeds):
            raise missing_version(kind, version)


def missing_version(kind: KeyKind, version: int) -> ConfigError:
    """What to say when a stored row needs a secret that is not there."""
    return ConfigError(f"{kind} key version {version} is needed but is not there: restore it, then start again")


class CombinedKeys:
    """Older secrets in one place, newer ones in another: how a realm moves from files to a device, by rotating keys."""

    def __init__(self, providers: Sequence[KeyProvider]) -> None:
        """Of two that hold the same version the later one is asked; new versions are made in the last.

        Raises ConfigError if they hold different secrets under one version.
        """
        self._providers = tuple(providers)
        self._holders: dict[tuple[KeyKind, int], KeyProvider] = {}
        for kind in KINDS:
            for version in {v for keys in providers for v in versions_of(keys, kind)}:
                holding = [keys for keys in providers if version in versions_of(keys, kind)]
                if len({_fixed(keys, kind, version) for keys in holding}) > 1:
                    raise ConfigError(
                        f"{kind} key version {version} is there twice, and not the same: take the wrong one away"
                    )

    def realm_key_versions(self) -> tuple[int, ...]:
        """See KeyProvider."""
        return self._versions("realm")

    def rotation_versions(self) -> tuple[int, ...]:
        """See KeyProvider."""
        return self._versions("rotation")

    def _versions(self, kind: KeyKind) -> tuple[int, ...]:
        return tuple(sorted({version for keys in self._providers for version in versions_of(keys, kind)}))

    def seal(self, version: int, plaintext: bytes, associated: bytes) -> bytes:
        """See KeyProvider."""
        return self._holder("realm", version).seal(version, plaintext, associated)

    def unseal(self, version: int, sealed: bytes, associated: bytes, what: str) -> bytes:
        """See KeyProvider."""
        return self._holder("realm", version).unseal(version, sealed, associated, what)

    def derive(self, version: int, purpose: str) -> bytes:
        """See KeyProvider."""
        return self._holder("realm", version).derive(version, purpose)

    def rotation_seed(self, version: int) -> bytes:
        """See KeyProvider."""
        return self._holder("rotation", version).rotation_seed(version)

    def add_version(self, kind: KeyKind, version: int) -> None:
        """See KeyProvider."""
        self._providers[-1].add_version(kind, version)

    def _holder(self, kind: KeyKind, version: int) -> KeyProvider:
        # Remembered: a device takes its time to tell which versions it has.
        if (kind, version) not in self._holders:
            holding = [keys for keys in self._providers if version in versions_of(keys, kind)]
            if not holding:
                raise missing_version(kind, version)
            self._holders[kind, version] = holding[-1]
        return self._holders[kind, version]


def _fixed(keys: KeyProvider, kind: KeyKind, version: int) -> bytes:
    return keys.derive(version, _CHECK) if kind == "realm" else keys.rotation_seed(version)
