"""The state folder of a realm: its authority, certificates, keys, configuration and database.

config.toml         settings, commented
ca/                 ca.crt, ca.key: whoever holds ca.key may let anybody in; keep it elsewhere if you can
revoked.json        fingerprints of certificates that are refused; without it nobody is let in
server/             server.crt, server.key, ca.crt of the service
clients/NAME/       client.crt, client.key, ca.crt of each client
keys/               realm.key seals the templates, rotation.key turns them; lose one and the gallery is gone
gallery.db          the gallery
"""

import json
import secrets
import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from duetface.authority import Authority
from duetface.errors import ConfigError
from duetface.identity import Role, write_private
from duetface.revocation import create_revocation_list
from gallery.gallery import Gallery
from gallery.key_files import FileKeys, create_key_files
from recognition_service.config import Listen, default_config_text

DEFAULT_HOSTS = ("localhost", "127.0.0.1", "::1")
# One certificate a duty: whoever enrols cannot read similarities, whoever reads the audit cannot enrol.
FIRST_CLIENTS = (Role.OPERATOR, Role.AUDITOR, Role.VERIFIER)


def create_state(
    folder: Path, realm: str, now: datetime, *, hosts: Sequence[str] = (), address: str | None = None
) -> None:
    """Make a new realm, all or nothing.

    hosts: names and addresses under which clients reach the service, besides this machine's own loopback.
    address: HOST:PORT to listen on.
    Raises ConfigError if the folder holds anything, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is not empty: a new realm there could destroy keys; name another --state folder")
    unfinished = folder.parent / f".{folder.name}.{secrets.token_hex(4)}"
    try:
        unfinished.mkdir(mode=0o700, parents=True)
        _fill(unfinished, realm, now, hosts, address)
        unfinished.replace(folder)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _fill(folder: Path, realm: str, now: datetime, hosts: Sequence[str], address: str | None) -> None:
    authority = Authority.create(folder / "ca", realm, now)
    every_host = tuple(dict.fromkeys((*DEFAULT_HOSTS, *hosts)))
    authority.issue_server("recognition", every_host, folder / "server", now)
    for role in FIRST_CLIENTS:
        authority.issue_client([role], role.value, folder / "clients" / role.value, now)
    create_revocation_list(folder / "revoked.json")
    create_key_files(folder / "keys")
    write_private(folder / "config.toml", _config_text(address).encode())
    keys = FileKeys(folder / "keys")
    Gallery.create(f"sqlite:///{folder / 'gallery.db'}", realm, keys, lambda: now).close()


def _config_text(address: str | None) -> str:
    if address is None:
        return default_config_text()
    usual = f"address = {json.dumps(Listen().address)}"
    return default_config_text().replace(usual, f"address = {json.dumps(address)}", 1)
