"""From options to a connection: which state folder, which service, which certificate."""

import contextlib
import os
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from duetface.address import DEFAULT_ADDRESS, check_address
from duetface.errors import ConfigError

if TYPE_CHECKING:
    from duetface.client import Client
    from edge_agent.enrolment_log import EnrolmentLog
    from gallery.gallery import Gallery
    from gallery.records import Actor

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


def forget_enrolments(state: Path | None, subject: str) -> None:
    """Forget what `enroll --from-dir` remembers here of a subject; nothing where no operator's identity lies."""
    with contextlib.suppress(ConfigError):
        enrolment_log(state, None).forget(subject)


def local_actor() -> "Actor":
    """Who works on the state folder itself, for the audit: the account that runs this, which has proven nothing."""
    import pwd

    from gallery.records import Actor

    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return Actor(realm="", role="local", name=name, fingerprint="")


def index_outlives_services(state: Path | None) -> bool:
    """Whether the index lies in a server that only a running service may clean: Milvus has no transactions."""
    from gallery.indexes import IndexKind
    from recognition_service.config import load_config

    return load_config(existing_state(state)).index.kind is IndexKind.MILVUS


def open_gallery(state: Path | None, *, erasing: bool = False) -> "Gallery":
    """The gallery of a state folder itself, beside a service or without one: for whoever may read its keys.

    It searches nobody: no index is loaded, but where one is shared and something is to be erased from it.
    """
    from datetime import UTC, datetime

    from duetface.identity import RESTORE_IT, PeerIdentity
    from gallery.gallery import Gallery, GalleryOptions
    from gallery.indexes import IndexKind, index_factory
    from gallery.key_settings import open_keys
    from recognition_service.config import load_config

    config = load_config(existing_state(state))
    realm = PeerIdentity.of_file(config.state / "server" / "server.crt", RESTORE_IT).realm
    keys = open_keys(config.key_settings, os.environ)
    shared = erasing and config.index.kind is IndexKind.PGVECTOR
    options = GalleryOptions(
        busy_timeout_ms=config.storage.busy_timeout_ms, snapshot_path=config.snapshot_path, indexed=shared
    )
    if shared:
        options = replace(options, index_factory=index_factory(config.index_settings))
    return Gallery.open(config.database_url, realm, keys, lambda: datetime.now(UTC), options, load=shared)
