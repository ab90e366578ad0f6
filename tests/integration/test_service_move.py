"""A running service whose realm is moved to PostgreSQL under it: no restart, nothing acknowledged lost."""

import threading
import time
from collections.abc import Callable

from cli.main import main
from duetface.client import Client
from duetface.errors import ServiceError
from duetface.identity import Role
from duetface.types import Outcome
from gallery.store import SqlStore
from tests.fakes.network import probe_of
from tests.integration.conftest import Site, consent, enrol


def persist(call: Callable[[], object]) -> None:
    """As an agent: try again as long as one is told to."""
    for _ in range(200):
        try:
            call()
            return
        except ServiceError as error:
            assert error.status == "RESOURCE_EXHAUSTED", error
            assert "postgresql" not in str(error)
            time.sleep(0.05)
    raise AssertionError("turned away for ten seconds")


def enrolling(client: Client, stop: threading.Event, done: list[str], wrong: list[BaseException]) -> None:
    """Enrol one person after the other."""
    try:
        for number in range(100, 10_000):
            if stop.is_set():
                return
            name = f"s{number}"
            persist(lambda name=name: client.create_subject(name, "", consent()))
            persist(lambda name=name, number=number: client.add_template(name, probe_of(number)))
            done.append(name)
    except BaseException as error:  # noqa: BLE001  (a thread's error would be lost)
        wrong.append(error)


def verifying(client: Client, stop: threading.Event, done: list[str], wrong: list[BaseException]) -> None:
    """Verify one person again and again; each decision is audited where the realm is."""

    def verify() -> None:
        found = client.verify("alice", probe_of(1, capture=len(done) % 50 + 2))
        assert found.outcome is Outcome.ACCEPT, found
        done.append(found.decision_id)

    try:
        while not stop.is_set():
            persist(verify)
    except BaseException as error:  # noqa: BLE001  (a thread's error would be lost)
        wrong.append(error)


def test_a_service_goes_on_while_its_realm_is_moved_by_the_command(place: str, site: Site) -> None:
    """Enrolments and decisions before, during and after the move; all of them are in the new database."""
    operator, door = site.client(Role.OPERATOR), site.client(Role.AGENT, name="door-1")
    enrol(operator, "alice", person=1)
    stop, enrolled, decided, wrong = threading.Event(), list[str](), list[str](), list[BaseException]()
    threads = [
        threading.Thread(target=enrolling, args=(operator, stop, enrolled, wrong)),
        threading.Thread(target=verifying, args=(door, stop, decided, wrong)),
    ]
    for thread in threads:
        thread.start()
    assert main(["gallery", "move", "--to", place, "--state", str(site.realm.state)]) == 0
    before = len(enrolled), len(decided)
    deadline = time.monotonic() + 60
    while (len(enrolled) < before[0] + 5 or len(decided) < before[1] + 5) and time.monotonic() < deadline and not wrong:
        time.sleep(0.1)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert len(enrolled) >= before[0] + 5 and len(decided) >= before[1] + 5
    store = SqlStore(place)
    with store.reading() as connection:
        subjects = set(connection.exec_driver_sql("SELECT subject_id FROM subjects").scalars())
        decisions = connection.exec_driver_sql("SELECT count(*) FROM audit WHERE action = 'verify'").scalar_one()
    store.close()
    assert {"alice", *enrolled} <= subjects
    assert decisions >= len(decided)
    assert site.gallery.verify_audit() == site.gallery.last_audit_id
