"""Real pictures through the shipped networks: device code, wire, service, gallery."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from duetface.client import Client
from duetface.identity import Role
from duetface.manifest import models_root
from duetface.types import Outcome, Probe
from edge_agent.pipeline import Protector
from edge_agent.sources import read_picture
from recognition_service.config import Models, load_config
from recognition_service.models import load_network
from recognition_service.network import Network
from recognition_service.running import RunningService
from tests.integration.conftest import Realm, consent

ENROLLED, PROBE, STRANGERS = ("obama", "obama3"), "obama2", ("biden", "astronaut")


@pytest.fixture(scope="module")
def network() -> Network:
    """The shipped default."""
    return load_network(Models())


@pytest.fixture(scope="module")
def protector() -> Protector:
    """The device's half of it."""
    return Protector.load(models_root())


@pytest.fixture
def client(realm: Realm, network: Network) -> Iterator[Client]:
    """Operator and auditor in one, so that a failing test shows the similarity."""
    with ExitStack() as stack:
        service = stack.enter_context(RunningService(load_config(realm.state), network))
        identity = realm.identity(Role.OPERATOR, Role.AUDITOR)
        yield stack.enter_context(Client.connect(service.address, identity))


Look = Callable[[str], Probe]


@pytest.fixture
def look(protector: Protector, portraits: dict[str, Path]) -> Look:
    """A probe of a portrait, captured now."""

    def probe(name: str) -> Probe:
        outcome = protector.protect(read_picture(portraits[name]))
        assert outcome.probe is not None, outcome.reason
        return outcome.probe

    return probe


def test_a_person_is_known_on_a_picture_that_was_not_enrolled_and_others_are_not(client: Client, look: Look) -> None:
    """The product's promise, on public-domain portraits."""
    client.create_subject("obama", "", consent())
    for name in ENROLLED:
        client.add_template("obama", look(name))
    found = client.identify(look(PROBE))
    assert (found.outcome, found.subject_id) == (Outcome.ACCEPT, "obama"), found
    assert client.verify("obama", look(PROBE)).outcome is Outcome.ACCEPT
    for name in STRANGERS:
        stranger = client.identify(look(name))
        assert stranger.outcome is Outcome.REJECT, stranger
        assert client.verify("obama", look(name)).outcome is Outcome.REJECT


def test_the_same_picture_sent_twice_gives_the_same_similarity(client: Client, look: Look) -> None:
    """Neither the wire nor the batch moves a face."""
    client.create_subject("biden", "", consent())
    client.add_template("biden", look("biden"))
    first, second = client.identify(look("biden")), client.identify(look("biden"))
    assert first.cosine_similarity == pytest.approx(1.0, abs=1e-4)
    assert second.cosine_similarity == pytest.approx(first.cosine_similarity, abs=1e-4)
