"""The realm's secrets: keys that seal subject keys, and seeds of the secret rotation.

Key hierarchy: realm key (here, outside the database) -> subject key (sealed in the database) -> template.
Files of a key folder: `realm.key` and `rotation.key` are version 1; `realm.2.key`, `rotation.2.key` and so on
are later versions.  Each holds 32 raw bytes and may be read by its owner only (mode 0600).
"""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from duetface.errors import ConfigError
from gallery import sealing
from gallery.sealing import KEY_BYTES

_FILE = re.compile(r"(realm|rotation)(?:\.([1-9][0-9]*))?\.key")


class KeyProvider(Protocol):
    """Where the realm's secrets live: files, memory, or a device that seals without giving its key away."""

    def realm_key_versions(self) -> tuple[int, ...]:
        """Versions that can unseal, ascending; the last one seals."""

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


class HeldKeys:
    """A KeyProvider whose keys are held in memory."""

    def __init__(self, realm_keys: Mapping[int, bytes], rotation_seeds: Mapping[int, bytes]) -> None:
        """Both map a version (1, 2, ...) to 32 bytes; raises ConfigError for anything else."""
        for kind, held in (("realm key", realm_keys), ("rotation seed", rotation_seeds)):
            if not held:
                raise ConfigError(f"no {kind} given: at least version 1 is needed")
            for version, secret in held.items():
                if version < 1 or len(secret) != KEY_BYTES:
                    raise ConfigError(f"{kind} {version} has {len(secret)} bytes: expected {KEY_BYTES}")
        self._realm_keys = dict(realm_keys)
        self._rotation_seeds = dict(rotation_seeds)
        self._sealing_keys = {v: sealing.derive(key, "subject keys") for v, key in realm_keys.items()}

    def __repr__(self) -> str:
        """Versions only: a key must not reach a log by accident."""
        return f"HeldKeys(realm {self.realm_key_versions()}, rotation {self.rotation_versions()})"

    def realm_key_versions(self) -> tuple[int, ...]:
        """See KeyProvider."""
        return tuple(sorted(self._realm_keys))

    def rotation_versions(self) -> tuple[int, ...]:
        """See KeyProvider."""
        return tuple(sorted(self._rotation_seeds))

    def seal(self, version: int, plaintext: bytes, associated: bytes) -> bytes:
        """See KeyProvider."""
        return sealing.seal(self._held(self._sealing_keys, "realm key", version), plaintext, associated)

    def unseal(self, version: int, sealed: bytes, associated: bytes, what: str) -> bytes:
        """See KeyProvider."""
        key = self._held(self._sealing_keys, "realm key", version)
        return sealing.unseal(key, sealed, associated, what)

    def derive(self, version: int, purpose: str) -> bytes:
        """See KeyProvider."""
        return sealing.derive(self._held(self._realm_keys, "realm key", version), purpose)

    def rotation_seed(self, version: int) -> bytes:
        """See KeyProvider."""
        return self._held(self._rotation_seeds, "rotation seed", version)

    @staticmethod
    def _held(held: Mapping[int, bytes], kind: str, version: int) -> bytes:
        if version not in held:
            raise ConfigError(
                f"{kind} version {version} is needed but was not in the key folder at start: put its file there, "
                "then start again"
            )
        return held[version]


def read_key_files(folder: Path) -> HeldKeys:
    """Read every key file of a folder.

    Raises ConfigError naming the file when one is missing, of another length, or readable by others.
    """
    held: dict[str, dict[int, bytes]] = {"realm": {}, "rotation": {}}
    for path in sorted(folder.glob("*.key")) if folder.is_dir() else []:
        if match := _FILE.fullmatch(path.name):
            held[match[1]][int(match[2] or 1)] = _read_secret(path)
    for kind, versions in held.items():
        if not versions:
            raise ConfigError(
                f"{folder / kind}.key is missing: without it the gallery cannot be read; restore it from your "
                "back-up, or run `duetface init` for a new, empty realm"
            )
    return HeldKeys(held["realm"], held["rotation"])


def _read_secret(path: Path) -> bytes:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise ConfigError(f"{path} has mode {mode:04o}: others could read the key; run chmod 0600 on it")
    try:
        secret = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; make its owner run this") from error
    if len(secret) != KEY_BYTES:
        raise ConfigError(f"{path} has {len(secret)} bytes: expected {KEY_BYTES}; restore it from your back-up")
    return secret


def create_key_files(folder: Path) -> None:
    """Write version 1 of both secrets into a folder (made with 0700); raises ConfigError if one is there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for kind in ("realm", "rotation"):
        _write_secret(folder / f"{kind}.key")


def add_key_version(folder: Path, kind: str) -> int:
    """Write the next version of "realm" or "rotation" beside the older ones; returns its number.

    Run `Gallery.rotate_keys` afterwards; an older file may go once nothing is stored under it.
    """
    keys = read_key_files(folder)
    versions = keys.realm_key_versions() if kind == "realm" else keys.rotation_versions()
    _write_secret(folder / f"{kind}.{versions[-1] + 1}.key")
    return versions[-1] + 1


def _write_secret(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(f"{path} exists: it is never overwritten, since templates may depend on it") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(sealing.new_key())
        file.flush()
        # A key that is lost after the first template was sealed under it loses that template.
        os.fsync(file.fileno())
