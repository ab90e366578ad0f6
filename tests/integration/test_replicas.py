"""Two services of one realm on one PostgreSQL, and a service that starts: never an answer from an old gallery."""

import asyncio
import concurrent.futures
import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from duetface.client import Client
from duetface.errors import GalleryError, ServiceError
from duetface.identity import Role
from duetface.types import Outcome
from gallery import snapshot
from gallery.gallery import Gallery, GalleryOptions
from gallery.key_files import FileKeys
from gallery.records import Actor, Consent
from recognition_service.clocks import Clocks
from recognition_service.config import ServiceConfig, load_config
from recognition_service.replica import Saver
from recognition_service.running import RunningService
from recognition_service.service import READY_FILE, running_service
from tests.fakes.network import fake_network, probe_of
from tests.integration.conftest import REALM, Realm, enrol
from tests.servers import postgres_server

_NUMBERS = itertools.count(1)


@pytest.fixture
def database(realm: Realm) -> str:
    """The realm in a database of its own on the tests' PostgreSQL."""
    server, name = postgres_server(), f"replicas_{next(_NUMBERS)}"
    server.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    server.run(f"CREATE DATABASE {name}")
    url = server.url.replace("postgresql://", "postgresql+psycopg://", 1).replace("/postgres?", f"/{name}?", 1)
    keys = FileKeys(realm.state / "keys")
    Gallery.create(url, REALM, keys, lambda: datetime.now(UTC)).close()
    return url


@contextmanager
def replica(realm: Realm, database: str, name: str, **sections: Any) -> Iterator[RunningService]:
    """A service of the realm under this name."""
    replica = {"name": name, "snapshot": f"{name}.snapshot", **sections.pop("replica", {})}
    config = load_config(realm.state, {"storage": {"database_url": database}, "replica": replica, **sections})
    with RunningService(config, fake_network()) as service:
        yield service


def client_of(service: RunningService, realm: Realm, *roles: Role, timeout_s: float = 10.0) -> Client:
    """A client to one of them."""
    return Client.connect(service.address, realm.identity(*roles), timeout_s)


def test_whom_one_replica_enrols_the_other_knows_at_that_revision(realm: Realm, database: str) -> None:
    """Enrol here, verify and search there: the revision is waited for, with polling alone switched to a minute."""
    slow = {"poll_s": 60}
    with (
        replica(realm, database, "a", replica=slow) as a,
        replica(realm, database, "b", replica=slow) as b,
        client_of(a, realm, Role.OPERATOR) as here,
        client_of(b, realm, Role.VERIFIER) as there,
    ):
        for number in range(3):
            revision = enrol(here, f"subject-{number}", person=number)
            assert there.verify(f"subject-{number}", probe_of(number, 7), at_least_revision=revision).reason == "match"
            found = there.identify(probe_of(number, 8), at_least_revision=revision)
            assert found.subject_id == f"subject-{number}"
        revision = here.delete_subject("subject-1")
        assert there.identify(probe_of(1, 9), at_least_revision=revision).outcome is Outcome.REJECT


def until(true: Callable[[], bool], within_s: float = 10.0) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + within_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_replica_is_told_of_a_commit(realm: Realm, database: str) -> None:
    """By PostgreSQL's notice; it would look by itself in a minute only."""
    slow = {"poll_s": 60}
    with replica(realm, database, "a", replica=slow) as a, replica(realm, database, "b", replica=slow) as b:
        with client_of(a, realm, Role.OPERATOR) as here:
            revision = enrol(here, "alice", person=1)
        gallery = b.service.gallery
        assert until(lambda: gallery.statistics().applied_revision >= revision)


def test_a_replica_whose_line_for_notices_breaks_looks_by_itself(realm: Realm, database: str) -> None:
    """Notices are a hint; polling is the guarantee."""
    quick = {"poll_s": 0.2}
    with (
        replica(realm, database, "a", replica=quick) as a,
        replica(realm, database, "b", replica=quick) as b,
        client_of(a, realm, Role.OPERATOR) as here,
        connected(database) as server,
    ):
        gallery = b.service.gallery
        for number in range(3):
            server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
            revision = enrol(here, f"subject-{number}", person=number, captures=1)
            assert until(lambda: gallery.statistics().applied_revision >= revision)  # noqa: B023


def test_an_erasure_waits_for_every_replica(realm: Realm, database: str) -> None:
    """The receipt names them; as long as one has not followed there is none, and its snapshot goes with the rest."""
    with (
        replica(realm, database, "a") as a,
        replica(realm, database, "b") as b,
        client_of(a, realm, Role.OPERATOR) as here,
    ):
        enrol(here, "alice", person=1)
        enrol(here, "bob", person=2)
        view, saved = b.service.gallery, realm.state / "b.snapshot"
        assert until(lambda: view.statistics().applied_revision == view.revision)
        view.maintenance.write_snapshot()
        assert saved.exists()
        with view._view.standing():  # a replica in the middle of something long
            revision = here.delete_subject("alice")
            with pytest.raises(GalleryError, match=f"replicas b have not followed to revision {revision}"):
                a.service.gallery.maintenance.erasure_receipt(revision, timeout_s=1.5)
        receipt = a.service.gallery.maintenance.erasure_receipt(revision, timeout_s=20)
        assert receipt.followers == ["a", "b"]
        assert not saved.exists()
    assert saved.exists()  # at the end a new one was written, of what is left


@contextmanager
def connected(database: str) -> Iterator[Any]:
    """A connection of the tests' own."""
    import psycopg

    with psycopg.connect(database.replace("postgresql+psycopg://", "postgresql://", 1), autocommit=True) as connection:
        yield connection


def serve(config: ServiceConfig, stop: threading.Event) -> None:
    """Run a service on the very address that is configured, until told to stop."""

    async def run() -> None:
        async with running_service(config, fake_network(), Clocks()):
            await asyncio.to_thread(stop.wait)

    asyncio.run(run())


def health_of(address: str, realm: Realm) -> str:
    """What a client learns: "absent", "loading" or "serving"."""
    with Client.connect(address, realm.identity(Role.VERIFIER), 2.0) as client:
        try:
            return "serving" if client.healthy() else "loading"
        except ServiceError:
            return "absent"


def test_a_service_that_is_still_loading_is_not_ready(realm: Realm, database: str) -> None:
    """It listens, health says NOT_SERVING, work is turned away; all that changes when it has caught up."""
    with replica(realm, database, "a", replica={"snapshot": ""}) as a, client_of(a, realm, Role.OPERATOR) as here:
        enrol(here, "alice", person=1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    sections = {"storage": {"database_url": database}, "listen": {"address": address}, "replica": {"snapshot": ""}}
    config, ready, stop = load_config(realm.state, sections), realm.state / READY_FILE, threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as pool, connected(database) as other:
        try:
            with other.transaction():  # a store that takes its time to give the templates
                other.execute("LOCK TABLE templates IN ACCESS EXCLUSIVE MODE")
                served = pool.submit(serve, config, stop)
                assert until(lambda: health_of(address, realm) == "loading", 20)
                with Client.connect(address, realm.identity(Role.VERIFIER)) as client:
                    with pytest.raises(ServiceError, match="still loading its gallery") as error:
                        client.info()
                    assert (error.value.status, error.value.reason) == ("UNAVAILABLE", "starting")
                assert not ready.exists()
            assert until(lambda: health_of(address, realm) == "serving", 20)
            assert ready.exists()
            with Client.connect(address, realm.identity(Role.VERIFIER)) as client:
                assert client.identify(probe_of(1, 7)).subject_id == "alice"
        finally:
            stop.set()
    served.result()
    assert not ready.exists()


def test_a_service_starts_from_its_snapshot_and_follows_what_came_after(
    realm: Realm, caplog: pytest.LogCaptureFixture
) -> None:
    """Written at shutdown; a damaged one is told, and everything loaded from the database."""
    config, path = load_config(realm.state), realm.state / "gallery.snapshot"
    with RunningService(config, fake_network()) as first, client_of(first, realm, Role.OPERATOR) as client:
        enrol(client, "alice", person=1)
    assert path.exists()
    with Gallery.open(config.database_url, REALM, FileKeys(realm.state / "keys"), lambda: datetime.now(UTC)) as other:
        actor = other.audit()[0].actor
        other.create_subject("bob", "", Consent("tests", "1", datetime.now(UTC)), actor)
    with caplog.at_level(logging.WARNING), RunningService(config, fake_network()) as second:
        with client_of(second, realm, Role.VERIFIER) as client:
            assert client.identify(probe_of(1, 7)).subject_id == "alice"
        assert second.service.gallery.statistics().applied_revision == second.service.gallery.revision
    assert "snapshot refused" not in caplog.text
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    with (
        caplog.at_level(logging.WARNING),
        RunningService(config, fake_network()) as third,
        client_of(third, realm, Role.VERIFIER) as client,
    ):
        assert client.identify(probe_of(1, 8)).subject_id == "alice"
    assert "snapshot refused: loading from the store" in caplog.text


def test_a_deletion_in_the_middle_of_a_snapshot_leaves_none(realm: Realm) -> None:
    """What is being written holds what has just been deleted: it must not take the old one's place."""
    config = load_config(realm.state)
    with RunningService(config, fake_network()) as service, client_of(service, realm, Role.OPERATOR) as client:
        enrol(client, "alice", person=1)
        gallery = service.service.gallery
        path = config.snapshot_path
        assert path is not None

        def collect() -> snapshot.Content:
            client.delete_subject("alice")
            return snapshot.Content(bytes(32), snapshot.Header("test.example", 1, 1, "", [], []), iter(()))

        with pytest.raises(GalleryError, match="something was deleted meanwhile"):
            snapshot.write(path, collect)
        assert list(path.parent.glob("gallery.snapshot*")) == []
        assert gallery.complete_erasures() == 0

        def written() -> bool:
            try:
                gallery.maintenance.write_snapshot()
            except GalleryError:  # the service's follower, who looks for deletions too, drops it once more
                return False
            return path.exists()

        assert until(written)


def test_a_snapshot_is_written_every_so_often_and_only_if_something_changed(
    realm: Realm, caplog: pytest.LogCaptureFixture
) -> None:
    """A copy of a million templates that are the same as before is a gigabyte written for nothing."""
    config, path = load_config(realm.state), realm.state / "gallery.snapshot"
    keys = FileKeys(realm.state / "keys")
    options = GalleryOptions(snapshot_path=path)
    with Gallery.open(config.database_url, REALM, keys, lambda: datetime.now(UTC), options) as gallery:
        actor = Actor(REALM, "operator", "o", "ab" * 32)
        gallery.create_subject("alice", "", Consent("tests", "1", datetime.now(UTC)), actor)
        saver = Saver(gallery)

        async def wait_for_it() -> None:
            async with saver.every(0.05):
                assert await asyncio.to_thread(until, path.exists)
                await asyncio.sleep(0.2)  # some rounds more

        asyncio.run(wait_for_it())
        written = path.stat().st_ino
        saver.save()
        assert path.stat().st_ino == written
        gallery.withdraw_consents("alice", actor)
        saver.save()
        assert path.stat().st_ino != written
        path.unlink()
        path.mkdir()
        gallery.delete_subject("alice", actor)
        with caplog.at_level(logging.WARNING):
            saver.save()
        assert "snapshot not written" in caplog.text
