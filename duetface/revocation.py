"""Which certificates are refused although they have not expired: the list that the service reads at every call."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from duetface.errors import ConfigError
from duetface.identity import read_file, write_private


def create_revocation_list(path: Path) -> None:
    """Write an empty list; a realm without one refuses everybody, so that losing it cannot let anybody in."""
    write_private(path, b"{}")


def revoke(path: Path, fingerprint: str, now: datetime) -> None:
    """Refuse a certificate from now on; a running service sees it at its next call.

    fingerprint: SHA-256 of the certificate's DER, hex.
    Raises ConfigError if the list is missing or damaged.
    """
    with _only_writer(path):
        revoked = read_revoked(path)
        revoked.setdefault(fingerprint, now.isoformat())
        write_private(path, json.dumps(revoked, indent=1).encode())


def read_revoked(path: Path) -> dict[str, str]:
    """Fingerprint -> when it was revoked.  Raises ConfigError that names the file and what to do."""
    if not path.exists():
        raise ConfigError(f"{path} is missing: restore it from a backup; until then nobody is let in")
    try:
        revoked = json.loads(read_file(path))
    except ValueError as error:
        raise ConfigError(f"{path} is damaged: restore it from a backup; until then nobody is let in") from error
    if not isinstance(revoked, dict):
        raise ConfigError(f"{path} is damaged: expected an object of fingerprints; until then nobody is let in")
    return revoked


class RevocationList:
    """The revoked fingerprints of a file, read again whenever it changes.

    A list that is missing, unreadable or damaged raises ConfigError: the caller refuses, it does not let in.
    """

    def __init__(self, path: Path) -> None:
        """path: as `create_revocation_list` made it.

        Raises ConfigError at once if it cannot be read: a service that would refuse everybody must not start.
        """
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._fingerprints: frozenset[str] = frozenset()
        self._read_if_changed()

    def __contains__(self, fingerprint: str) -> bool:
        """Whether the certificate with this SHA-256 (hex) was revoked."""
        self._read_if_changed()
        return fingerprint in self._fingerprints

    def _read_if_changed(self) -> None:
        try:
            status = self._path.stat()
        except OSError as error:
            raise ConfigError(f"{self._path}: {error.strerror}: restore it from a backup") from error
        # Every write makes a new file, so the inode tells two writes within one clock tick apart.
        stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        if stamp != self._stamp:
            self._fingerprints = frozenset(read_revoked(self._path))
            self._stamp = stamp


@contextmanager
def _only_writer(path: Path) -> Iterator[None]:
    try:
        lock = path.with_name(f".{path.name}.lock").open("w")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
