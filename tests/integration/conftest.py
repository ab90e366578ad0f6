"""A real service on a loopback port with mutual TLS, and certificates of every kind to ask it with."""

import secrets
import shutil
import time
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
from gallery.gallery import Gallery
from recognition_service.clocks import Clocks
from recognition_service.config import load_config
from recognition_service.network import Network
from recognition_service.running import RunningService
from recognition_service.state import create_state
from tests.conformance.conftest import postgresql_url
from tests.fakes.network import ProjectionEmbedder, fake_network, probe_of
from tests.integration.raw import Caller
from tests.servers import postgres_server

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
    shutil.copytree(realm_template, tmp_path / "state")
    return Realm(tmp_path / "state")


class MovableClock:
    """Both clocks of a service, which a test can put forward."""

    def __init__(self) -> None:
        """At the real time."""
        self.ahead_s = 0.0

    @property
    def clocks(self) -> Clocks:
        """What the service reads."""
        return Clocks(
            monotonic_s=lambda: time.monotonic() + self.ahead_s,
            now=lambda: datetime.now(UTC) + timedelta(seconds=self.ahead_s),
        )


@dataclass
class Site:
    """A running service with its realm, and clients to it."""

    realm: Realm
    service: RunningService
    clock: MovableClock
    embedder: ProjectionEmbedder
    stack: ExitStack

    @property
    def address(self) -> str:
        """HOST:PORT of the service."""
        return self.service.address

    @property
    def gallery(self) -> Gallery:
        """The service's own gallery: what it stored, without asking it."""
        return self.service.service.gallery

    def client(self, *roles: Role, name: str = "", timeout_s: float = 10.0) -> Client:
        """A connected client with these roles."""
        identity = self.realm.identity(*roles, name=name)
        return self.stack.enter_context(Client.connect(self.service.address, identity, timeout_s))

    def caller(self, *roles: Role, name: str = "") -> Caller:
        """A client that may send anything."""
        return self.stack.enter_context(Caller.connect(self.service.address, self.realm.identity(*roles, name=name)))

    def refusals(self) -> list[str]:
        """The reasons of all refusals in the audit, oldest first."""
        return [record.reason for record in self.gallery.audit(limit=1000) if record.action == "refusal"]


Start = Callable[..., Site]


@pytest.fixture
def start(realm: Realm) -> Iterator[Start]:
    """Starts services of the realm; sections of the configuration by keyword.  The test's end stops everything."""
    with ExitStack() as stack:

        def started(
            embedder: ProjectionEmbedder | None = None, upcoming: Network | None = None, **sections: Any
        ) -> Site:
            embedder, clock = embedder or ProjectionEmbedder(), MovableClock()
            config = load_config(realm.state, sections)
            service = stack.enter_context(RunningService(config, fake_network(embedder), clock.clocks, upcoming))
            stack.callback(embedder.gate.set)  # whatever a test left closed must not hold up the drain
            return Site(realm, service, clock, embedder, stack)

        yield started


@pytest.fixture
def site(start: Start) -> Site:
    """A service with default settings."""
    return start()


def enrol(client: Client, subject_id: str, person: int, captures: int = 2, partition: str = "") -> int:
    """Create a subject with templates of a made-up person; returns the last revision."""
    revision = client.create_subject(subject_id, "", consent(), partition=partition)
    for capture in range(captures):
        revision = client.add_template(subject_id, probe_of(person, capture), partition=partition).revision
    return revision


@pytest.fixture
def place() -> Iterator[str]:
    """An empty database of the tests' PostgreSQL, to which a realm may be moved."""
    name = f"move_{secrets.token_hex(8)}"
    yield postgresql_url(name)
    postgres_server().run(f"DROP DATABASE {name} WITH (FORCE)")
