"""From options to a connection: which state folder, which service, which certificate."""

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from duetface.address import DEFAULT_ADDRESS, check_address
from duetface.errors import ConfigError

if TYPE_CHECKING:
    from duetface.client import Client
    from edge_agent.enrolment_log import EnrolmentLog
    from gallery.gallery import Gallery

# What a service listens on to be reached from everywhere is no address to ask.
EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}


def state_folder(state: Path | None) -> Path:
    """The state folder that was named, or the user's own."""
    if state is not None:
        return state
    import platformdirs

    return platformdirs.user_data_path("duetface")


def existing_state(state: Path | None) -> Path:
    """As `state_folder`; raises ConfigError if `duetface init` was not run there."""
    folder = state_folder(state)
    if not (folder / "config.toml").is_file():
        raise ConfigError(f"{folder} is no state folder: run `duetface init`, or name the right one with --state")
    return folder


def service_address(service: str | None, state: Path | None) -> str:
    """HOST:PORT that was named, or the one that the state folder's service listens on."""
    if service is not None:
        return check_address(service, "--service")
    config = state_folder(state) / "config.toml"
    try:
        listen = tomllib.loads(config.read_text(encoding="utf-8")).get("listen", {}) if config.is_file() else {}
        address = str(listen.get("address", DEFAULT_ADDRESS))
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"{config} cannot be read: {error}") from error
    check_address(address, f"{config}: listen.address")
    host, _, port = address.rpartition(":")
    return f"{EVERY_ADDRESS.get(host, host)}:{port}"


def identity_folder(identity: Path | None, state: Path | None, name: str) -> Path:
    """The folder of a client certificate that was named, or the one called `name` in the state folder."""
    return identity if identity is not None else existing_state(state) / "clients" / name


def connect(state: Path | None, service: str | None, identity: Path | None, name: str = "operator") -> "Client":
    """Open a client as the named identity.  The first call makes the connection."""
    from duetface.client import Client
    from duetface.identity import ClientIdentity

    address = service_address(service, state)
    return Client.connect(address, ClientIdentity.load(identity_folder(identity, state, name)))


def enrolment_log(state: Path | None, identity: Path | None) -> "EnrolmentLog":
    """What `enroll --from-dir` remembers of the realm that the identity belongs to."""
    import platformdirs

    from duetface.identity import ClientIdentity
    from edge_agent.enrolment_log import EnrolmentLog

    # By the root's fingerprint: a realm that is made anew under the old name has none of the old templates.
    realm = ClientIdentity.load(identity_folder(identity, state, "operator")).authority_fingerprint
    return EnrolmentLog(platformdirs.user_state_path("duetface") / f"enrolled-{realm[:32]}.jsonl")


def open_gallery(state: Path | None) -> "Gallery":
    """The gallery of a state folder itself, without a service: for whoever may read its keys."""
    from datetime import UTC, datetime

    from duetface.identity import RESTORE_IT, PeerIdentity
    from gallery.gallery import Gallery
    from gallery.key_settings import open_keys
    from recognition_service.config import load_config

    config = load_config(existing_state(state))
    realm = PeerIdentity.of_file(config.state / "server" / "server.crt", RESTORE_IT).realm
    keys = open_keys(config.key_settings, os.environ)
    return Gallery.open(config.database_url, realm, keys, lambda: datetime.now(UTC))
