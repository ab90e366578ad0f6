"""A move to another split and server network, end to end: pictures, the shipped networks, the commands."""

import io
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from cli.main import main
from duetface.client import Client
from duetface.identity import Role
from duetface.manifest import ModelCatalogue, models_root
from duetface.types import Outcome, Probe, ProtectedFace
from edge_agent.agent import run_agent
from edge_agent.config import AgentConfig
from edge_agent.pipeline import Protector
from edge_agent.report import JsonLines, StatusLine
from edge_agent.sources import read_picture
from gallery.gallery import Gallery
from gallery.key_files import FileKeys
from gallery.records import Actor, Consent
from recognition_service.batcher import FaceEmbedder
from recognition_service.config import Models, load_config
from recognition_service.models import load_network, load_upcoming_network
from recognition_service.network import Network
from recognition_service.running import RunningService
from tests.integration.conftest import Realm, consent

DEFAULT = ModelCatalogue(models_root()).default_space().name
MOVING = Models(next_split="r1-new", next_space="r1-new-1")


class Turned:
    """The shipped server network with its embeddings turned: as good, and comparable with nothing made before."""

    def __init__(self, embedder: FaceEmbedder) -> None:
        """The rotation is fixed."""
        self._embedder = embedder
        self._rotation = np.linalg.qr(np.random.default_rng(3).standard_normal((512, 512)))[0].astype(np.float32)

    def embed(self, faces: Sequence[ProtectedFace]) -> NDArray[np.float32]:
        """(B, 512) float32 of unit length."""
        return self._embedder.embed(faces) @ self._rotation


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped models, and the default split and space once more under other names and so other digests."""
    root = tmp_path_factory.mktemp("models")
    for entry in models_root().iterdir():
        (shutil.copytree if entry.is_dir() else shutil.copy)(entry, root / entry.name)
    catalogue = ModelCatalogue(root)
    split, space = catalogue.default_split(), catalogue.default_space()
    new = replace(split, name=MOVING.next_split)
    shutil.copytree(catalogue.split_folder(split.name), catalogue.split_folder(new.name))
    (catalogue.split_folder(new.name) / "split.json").write_text(json.dumps(new.to_dict()), encoding="utf-8")
    folder = catalogue.space_folder(MOVING.next_space)
    shutil.copytree(catalogue.space_folder(space.name), folder)
    manifest = replace(space, name=MOVING.next_space, split_digest=new.digest).to_dict()
    (folder / "space.json").write_text(json.dumps(manifest, default=list), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def current(models: Path) -> Network:
    """What is served so far."""
    return load_network(MOVING, ModelCatalogue(models))


@pytest.fixture(scope="module")
def upcoming(models: Path) -> Network:
    """What the gallery moves to."""
    network = load_upcoming_network(MOVING, ModelCatalogue(models))
    assert network is not None
    return replace(network, embedder=Turned(network.embedder))


@pytest.fixture
def protector(models: Path) -> Protector:
    """A device that has both splits installed."""
    return Protector.load(models)


def seen(protector: Protector, portraits: dict[str, Path], name: str) -> Probe:
    """A probe of a portrait, captured now."""
    outcome = protector.protect(read_picture(portraits[name]))
    assert outcome.probe is not None, outcome.reason
    return outcome.probe


def test_a_realm_moves_without_a_new_picture_and_loses_nobody(
    realm: Realm, current: Network, upcoming: Network, protector: Protector, portraits: dict[str, Path]
) -> None:
    """Enrol in the old, be seen at the door, drop the old, be recognised by the new alone."""

    @contextmanager
    def service(network: Network, following: Network | None = None) -> Iterator[tuple[Gallery, Client]]:
        identity = realm.identity(Role.OPERATOR, Role.AUDITOR)
        with (
            RunningService(load_config(realm.state), network, upcoming=following) as running,
            Client.connect(running.address, identity) as client,
        ):
            yield running.service.gallery, client

    with service(current) as (_, client):
        protector.encode_for(client.info().split_digests)
        client.create_subject("obama", "", consent())
        assert len(seen(protector, portraits, "obama").faces) == 1
        client.add_template("obama", seen(protector, portraits, "obama"))
    with service(current, upcoming) as (gallery, client):
        protector.encode_for(client.info().split_digests)
        assert len(seen(protector, portraits, "obama3").faces) == 2
        for stranger in ("biden", "astronaut"):
            assert client.verify("obama", seen(protector, portraits, stranger)).outcome is Outcome.REJECT
        # The very picture of the enrolment: at next_fmr, tighter than the decision, another one may miss.
        assert client.verify("obama", seen(protector, portraits, "obama")).outcome is Outcome.ACCEPT
        assert gallery.template_counts("obama") == {current.space_digest: 1, upcoming.space_digest: 1}
        actor = gallery.audit()[0].actor
        assert gallery.maintenance.finish_upgrade(upcoming.space_digest, [], actor) == 1
        assert client.verify("obama", seen(protector, portraits, "obama3")).outcome is Outcome.ACCEPT
    with service(upcoming) as (_, client):
        protector.encode_for(client.info().split_digests)
        (face,) = seen(protector, portraits, "obama3").faces
        assert face.split_digest == upcoming.split.digest
        assert client.verify("obama", seen(protector, portraits, "obama3")).outcome is Outcome.ACCEPT
        assert client.identify(seen(protector, portraits, "obama3")).subject_id == "obama"
        for stranger in ("biden", "astronaut"):
            assert client.identify(seen(protector, portraits, stranger)).outcome is Outcome.REJECT


def test_an_agent_sends_both_faces_as_soon_as_the_service_reads_both(
    realm: Realm,
    models: Path,
    current: Network,
    upcoming: Network,
    protector: Protector,
    portraits: dict[str, Path],
    tmp_path: Path,
) -> None:
    """No setting on the device: it learns at each connection what is read, and codes what it can."""
    for name, portrait in (("1", "obama"), ("2", "biden"), ("3", "obama")):
        shutil.copy(portraits[portrait], tmp_path / f"{name}{portraits[portrait].suffix}")
    with RunningService(load_config(realm.state), current, upcoming=upcoming) as service:
        with Client.connect(service.address, realm.identity(Role.OPERATOR)) as client:
            client.create_subject("obama", "", consent())
            client.add_template("obama", seen(protector, portraits, "obama"))
        realm.identity(Role.AGENT, name="door-1")
        config = AgentConfig(
            source=str(tmp_path), address=service.address, identity_folder=realm.state / "clients" / "door-1"
        )
        lines, said = JsonLines(io.StringIO()), Console(file=io.StringIO(), force_terminal=False)
        tally = run_agent(config, models, {}, lines, StatusLine(said))
        assert (tally.outcomes[Outcome.ACCEPT], tally.outcomes[Outcome.REJECT]) == (2, 1)
        counts = service.service.gallery.template_counts("obama")
        assert counts == {current.space_digest: 1, upcoming.space_digest: 1}


def test_a_device_without_the_new_split_goes_on_with_the_old_one(models: Path, upcoming: Network) -> None:
    """Devices are updated one by one; and a service that serves none of its splits changes nothing."""
    old = Protector.load(models, ("r1",))
    before = old.split_digests
    old.encode_for({upcoming.split.digest, *before})
    assert old.split_digests == before
    old.encode_for({bytes(32)})
    assert old.split_digests == before


@pytest.fixture
def half_moved(realm: Realm, current: Network) -> bytes:
    """A gallery with one subject in the shipped space and two in another; the digest of the other."""
    operator, other = Actor("test.example", "operator", "o", "ab" * 32), bytes(32)
    unit = np.eye(512, dtype=np.float32)
    gallery = Gallery.open(
        f"sqlite:///{realm.state / 'gallery.db'}",
        "test.example",
        FileKeys(realm.state / "keys"),
        lambda: datetime.now(UTC),
    )
    with gallery:
        for number, (name, space) in enumerate((("moved", current.space_digest), ("bob", other), ("eve", other))):
            gallery.create_subject(name, "", Consent("tests", "1", datetime.now(UTC)), operator)
            gallery.add_template(name, space, unit[number], 0.9, "d", operator)
        gallery.add_template("moved", other, unit[5], 0.9, "d", operator)
    return other


def duetface(realm: Realm, *arguments: str) -> int:
    """Run a command on the realm's state folder."""
    return main(["gallery", "upgrade", *arguments, "--state", str(realm.state)])


def test_the_status_tells_who_has_not_moved(
    realm: Realm, half_moved: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """By space, and by name; JSON for scripts."""
    assert duetface(realm, "status") == 0
    told = capsys.readouterr().out
    assert f"to move to {DEFAULT}" in told
    assert "2 subject(s)" in told
    assert "  bob\n  eve\n" in told
    assert duetface(realm, "status", "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert values["left_behind"] == ["bob", "eve"]
    assert {space["space"]: space["subjects"] for space in values["spaces"]} == {DEFAULT: 1, half_moved.hex()[:12]: 3}
    assert duetface(realm, "status", "--until", "soon") == 2
    assert "--until soon: expected a day such as 2027-03-31" in capsys.readouterr().err


def test_finishing_loses_nobody_unless_told_how_many(
    realm: Realm, half_moved: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused with their names; never before the day in config.toml; then done, and told."""
    assert duetface(realm, "finish", "--yes") == 2
    told = capsys.readouterr()
    assert f"2 people have not moved to {DEFAULT} and would be lost" in told.err
    assert "--lose 2" in told.err
    assert "bob" in told.out
    assert duetface(realm, "finish", "--lose", "1", "--yes") == 2
    config = realm.state / "config.toml"
    text = config.read_text(encoding="utf-8")
    later = f"{datetime.now(UTC) + timedelta(days=9):%Y-%m-%d}"
    config.write_text(text.replace('until = ""', f'until = "{later}"'), encoding="utf-8")
    assert duetface(realm, "finish", "--lose", "2", "--yes") == 2
    assert f"the old space stays until {later}" in capsys.readouterr().err
    config.write_text(text, encoding="utf-8")
    assert duetface(realm, "finish", "--lose", "2", "--yes", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"to": DEFAULT, "templates_erased": 3, "lost": ["bob", "eve"]}
    assert duetface(realm, "status") == 0
    assert "There is no other space to leave" in capsys.readouterr().err
    assert duetface(realm, "status", "--json") == 0
    (left,) = json.loads(capsys.readouterr().out)["spaces"]
    assert left["space"] == DEFAULT
