"""The realm's secrets in files of a folder, the default.

`realm.key` and `rotation.key` are version 1; `realm.2.key`, `rotation.2.key` and so on are later versions.
Each holds 32 raw bytes and may be read by its owner only (mode 0600).
"""

import contextlib
import logging
import os
import re
import secrets
import stat
import threading
from collections.abc import Mapping
from pathlib import Path

from duetface.errors import ConfigError
from gallery import sealing
from gallery.keys import KINDS, HeldKeys, KeyKind
from gallery.sealing import KEY_BYTES

logger = logging.getLogger(__name__)

_FILE = re.compile(r"(realm|rotation)(?:\.([1-9][0-9]*))?\.key")


class FileKeys(HeldKeys):
    """Secrets read from a folder.  A version whose file appears later is taken up; one whose file goes is kept."""

    def __init__(self, folder: Path, *, whole: bool = True) -> None:
        """whole: both kinds of secret must be there.

        Raises ConfigError naming the file when one is missing, of another length, or readable by others.
        """
        self._folder = folder
        self._reading = threading.Lock()
        self._seen = _changed_at(folder)
        found = _read_folder(folder)
        for kind in KINDS if whole else ():
            if not found[kind]:
                raise ConfigError(
                    f"{path_of(folder, kind, 1)} is missing: without it the gallery cannot be read; restore it from "
                    "your back-up, or run `duetface init` for a new, empty realm"
                )
        self._hold(found["realm"], found["rotation"])

    def realm_key_versions(self) -> tuple[int, ...]:
        """See KeyProvider."""
        self._look()
        return super().realm_key_versions()

    def rotation_versions(self) -> tuple[int, ...]:
        """See KeyProvider."""
        self._look()
        return super().rotation_versions()

    def add_version(self, kind: KeyKind, version: int) -> None:
        """See KeyProvider.  Raises ConfigError if the file is there."""
        write_new_secret(path_of(self._folder, kind, version))
        self._read_again()

    def _require(self, kind: KeyKind, version: int) -> None:
        if version not in (self._realm_keys if kind == "realm" else self._rotation_seeds):
            self._read_again()  # two files may have come within one tick of the folder's clock
        super()._require(kind, version)

    def _look(self) -> None:
        if _changed_at(self._folder) != self._seen:
            self._read_again()

    def _read_again(self) -> None:
        with self._reading:
            self._seen = _changed_at(self._folder)
            try:
                found = _read_folder(self._folder)
                # What is held stays as it is: a file changed under a running service would open nothing.
                self._hold(found["realm"] | self._realm_keys, found["rotation"] | self._rotation_seeds)
            except ConfigError as error:
                logger.error("key files not read anew", extra={"cause": str(error)})


def path_of(folder: Path, kind: KeyKind, version: int) -> Path:
    """The file of one version."""
    return folder / (f"{kind}.key" if version == 1 else f"{kind}.{version}.key")


def has_key_files(folder: Path) -> bool:
    """Whether there is any."""
    return folder.is_dir() and any(_FILE.fullmatch(path.name) for path in folder.iterdir())


def create_key_files(folder: Path) -> None:
    """Write version 1 of both secrets into a folder (made with 0700); raises ConfigError if one is there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for kind in KINDS:
        write_new_secret(path_of(folder, kind, 1))


def _changed_at(folder: Path) -> int:
    with contextlib.suppress(OSError):
        return folder.stat().st_mtime_ns
    return 0


def _read_folder(folder: Path) -> Mapping[str, dict[int, bytes]]:
    held: dict[str, dict[int, bytes]] = {kind: {} for kind in KINDS}
    for path in sorted(folder.glob("*.key")) if folder.is_dir() else []:
        if match := _FILE.fullmatch(path.name):
            held[match[1]][int(match[2] or 1)] = _read_secret(path)
    return held


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


def write_new_secret(path: Path) -> None:
    """Write a fresh secret, whole or not at all: a running service reads the folder at any moment."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(sealing.new_key())
            file.flush()
            # A key that is lost after the first template was sealed under it loses that template.
            os.fsync(file.fileno())
        os.link(unfinished, path)
        _sync(path.parent)
    except FileExistsError:
        raise ConfigError(f"{path} exists: it is never overwritten, since templates may depend on it") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}; nothing was changed") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
