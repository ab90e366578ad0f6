"""Revoking: seen at once, needs no key of the authority, and never fails open."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from duetface.authority import Authority, issued_certificates
from duetface.errors import ConfigError
from duetface.identity import Role, write_private
from duetface.revocation import RevocationList, create_revocation_list, revoke

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty list."""
    create_revocation_list(tmp_path / "revoked.json")
    return tmp_path / "revoked.json"


def test_a_revoked_certificate_is_refused_at_once(path: Path, tmp_path: Path) -> None:
    """The service keeps one RevocationList for years; it must see new entries."""
    authority = Authority.create(tmp_path / "ca", "lab.example", NOW)
    door = authority.issue_client([Role.AGENT], "door-1", tmp_path / "clients" / "door-1", NOW)
    revoked = RevocationList(path)
    assert door.fingerprint not in revoked
    revoke(path, door.fingerprint, NOW)
    assert door.fingerprint in revoked
    (issued,) = issued_certificates(tmp_path / "clients", path)
    assert issued.peer == door
    assert issued.revoked


def test_a_list_that_disappears_lets_nobody_in(path: Path) -> None:
    """Moving a folder by mistake must not open doors to those who were locked out."""
    revoke(path, "aa", NOW)
    revoked = RevocationList(path)
    assert "aa" in revoked
    path.unlink()
    with pytest.raises(ConfigError, match="restore it from a backup"):
        assert "bb" in revoked


@pytest.mark.parametrize("content", [b"{", b"[]", b""])
def test_a_damaged_list_lets_nobody_in(path: Path, content: bytes) -> None:
    """The same for a file that was cut short."""
    write_private(path, content)
    with pytest.raises(ConfigError, match="damaged"):
        assert "bb" in RevocationList(path)
    with pytest.raises(ConfigError, match="damaged"):
        revoke(path, "aa", NOW)


def test_a_list_that_cannot_be_looked_up_is_a_clear_error(path: Path) -> None:
    """Whatever the file system says, it is an error of ours with the file's name."""
    path.unlink()
    with pytest.raises(ConfigError, match=r"revoked\.json is missing: restore it from a backup"):
        revoke(path, "aa", NOW)
    path.symlink_to(path)
    with pytest.raises(ConfigError, match=str(path)):
        assert "bb" in RevocationList(path)


def test_a_service_without_its_list_learns_it_at_start(path: Path) -> None:
    """Not from the first device that stands before a closed door."""
    path.unlink()
    with pytest.raises(ConfigError, match="restore it from a backup"):
        RevocationList(path)


def test_two_who_revoke_at_once_both_succeed(path: Path) -> None:
    """An operator who revokes ten stolen devices by a script must not lose one."""
    names = [f"{number:064x}" for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: revoke(path, name, NOW), names))
    assert set(json.loads(path.read_text())) == set(names)
