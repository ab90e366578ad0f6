"""A real service on a loopback port with mutual TLS, and certificates of every kind to ask it with."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from duetface.authority import Authority
from duetface.client import Client, Consent
from duetface.identity import ClientIdentity, Role
from recognition_service.config import load_config
from recognition_service.network import Network
from recognition_service.running import RunningService
from recognition_service.state import create_state
from tests.fakes.network import fake_network, probe_of

REALM = "test.example"


def consent() -> Consent:
    """A consent given a minute ago."""
    return Consent("tests", "1", datetime.now(UTC) - timedelta(minutes=1))


@dataclass(frozen=True)
class Realm:
    """A state folder, and certificates from its authority."""

    state: Path

    def identity(self, *roles: Role, name: str = "", days: int = 30) -> ClientIdentity:
        """The certificate of this name, made at the first call."""
        name = name or "-".join(role.value for role in roles)
        folder = self.state / "clients" / name
        if not (folder / "client.crt").exists():
            Authority.load(self.state / "ca").issue_client(list(roles), name, folder, datetime.now(UTC), days=days)
        return ClientIdentity.load(folder)


@pytest.fixture(scope="session")
def realm_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder that tests copy: making one takes longer than copying."""
    state = tmp_path_factory.mktemp("realm") / "state"
    create_state(state, REALM, datetime.now(UTC))
    return state


@pytest.fixture
def realm(realm_template: Path, tmp_path: Path) -> Realm:
    """A fresh realm."""
    import shutil

    shutil.copytree(realm_template, tmp_path / "state")
    return Realm(tmp_path / "state")


Start = Callable[..., RunningService]


@pytest.fixture
def start(realm: Realm) -> Iterator[Start]:
    """Starts services of the realm; the test's end stops them.  Sections of the configuration by keyword."""
    with ExitStack() as stack:

        def started(network: Network | None = None, **sections: Any) -> RunningService:
            config = load_config(realm.state, sections)
            return stack.enter_context(RunningService(config, network or fake_network()))

        yield started


@pytest.fixture
def connect() -> Iterator[Callable[[RunningService, ClientIdentity], Client]]:
    """Connects clients; the test's end closes them, before the services stop."""
    with ExitStack() as stack:
        yield lambda service, identity: stack.enter_context(Client.connect(service.address, identity))


def enrol(client: Client, subject_id: str, person: int, captures: int = 2, partition: str = "") -> int:
    """Create a subject with templates of a made-up person; returns the last revision."""
    revision = client.create_subject(subject_id, "", consent(), partition=partition)
    for capture in range(captures):
        revision = client.add_template(subject_id, probe_of(person, capture), partition=partition).revision
    return revision
