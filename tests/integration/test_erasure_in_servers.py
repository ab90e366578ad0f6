# ruff: noqa: F811  # fixtures are imported, then named as arguments
"""Erasure where the index lies in a server: the receipt's search finds its files before, and nothing after."""

import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli.connection import open_gallery
from gallery.erasure import fingerprint
from gallery.fingerprints import Fingerprints
from gallery.gallery import Gallery, GalleryOptions
from gallery.indexes import IndexKind, index_factory
from gallery.key_files import FileKeys
from gallery.records import Consent
from gallery.templates import read_templates
from recognition_service.config import load_config
from recognition_service.running import RunningService
from recognition_service.state import create_state
from tests.fakes.network import ProjectionEmbedder, fake_network
from tests.servers import milvus_server, postgres_server
from tests.unit.cli.conftest import Run, _root_logger_as_before, run  # noqa: F401  # `run` is a fixture
from tests.unit.gallery.world import OPERATOR, person

SPACE = fake_network().space_digest
NUMBERS = itertools.count(1)


def now() -> datetime:
    """The real time."""
    return datetime.now(UTC)


class Realm:
    """A state folder whose index is in a server, and the folder of that server's files."""

    def __init__(self, state: Path, kind: IndexKind) -> None:
        """A database of its own on the shared PostgreSQL, or a name of its own in the shared Milvus."""
        self.state, self.kind = state, kind
        create_state(state, "hq.example", now())
        if kind is IndexKind.PGVECTOR:
            server, name = postgres_server(), f"erasure_{next(NUMBERS)}"
            server.run(f"CREATE DATABASE {name}")
            url, self.files = server.url.replace("/postgres?", f"/{name}?", 1), server.data_directory
        else:
            url, self.files = milvus_server().uri, milvus_server().data_directory
        text = (state / "config.toml").read_text("utf-8")
        text = text.replace('kind = "faiss-rabitq"', f'kind = "{kind}"').replace(
            '\nurl = ""', f"\nurl = {json.dumps(url)}"
        )
        (state / "config.toml").write_text(text.replace('\nname = ""', f'\nname = "e{next(NUMBERS)}"'), "utf-8")
        self.config = load_config(state)

    def enrol(self) -> Fingerprints:
        """Alice and bob, in store and index, as a service does; fingerprints of what is held of alice."""
        with open_gallery(self.state) as operator:
            keys = operator._realm.vault._keys
        options = GalleryOptions(index_factory=index_factory(self.config.index_settings))
        with Gallery.open(self.config.database_url, "hq.example", keys, now, options) as gallery:
            for number, name in enumerate(("alice", "bob"), start=1):
                consent = Consent("tests", "1", now() - timedelta(minutes=1))
                gallery.create_subject(name, "", consent, OPERATOR)
                gallery.add_template(name, SPACE, person(number, dimension=512), 0.9, "d", OPERATOR)
            (space,) = gallery._view._spaces.values()
            if self.kind is IndexKind.MILVUS:
                space.index._milvus.call(lambda client: client.flush(space.index._alias))
            else:
                postgres_server().run("CHECKPOINT")
            with gallery._realm.store.reading() as connection:
                stored = [t for t in read_templates(connection, gallery._realm.realm_id) if t.place.subject_key == 1]
            return fingerprint(gallery._realm.vault, stored, [])

    def traces(self, prints: Fingerprints) -> int:
        """Windows in the files of the server."""
        return sum(prints.found_in_files([path for path in self.files.rglob("*") if path.is_file()]).values())


@pytest.fixture(params=[IndexKind.PGVECTOR, IndexKind.MILVUS])
def realm(request: pytest.FixtureRequest, tmp_path: Path) -> Realm:
    """With two people enrolled later."""
    return Realm(tmp_path / "state", request.param)


def test_a_command_erases_from_the_files_of_a_server_beside_a_running_service(
    run: Run, realm: Realm, tmp_path: Path
) -> None:
    """Heap and log of PostgreSQL, Parquet of Milvus: the same search before and after, by command."""
    prints = realm.enrol()
    assert realm.traces(prints) > 0
    with RunningService(realm.config, fake_network(ProjectionEmbedder())) as service:
        erased = run("gallery", "erase", "alice", "--yes", "--out", tmp_path / "r.json", "--state", realm.state)
        assert erased.code == 0, erased.err
        proof = ("gallery", "prove-erased", tmp_path / "r.json", realm.files, "--service", service.address, "--json")
        proven = run(*proof, "--state", realm.state)
        assert (proven.code, json.loads(proven.out)["found"]) == (0, {}), proven.err
        gallery = service.service.gallery
        assert [match.subject_id for match in gallery.identify(person(2, dimension=512), SPACE)] == ["bob"]
    assert realm.traces(prints) == 0


def test_without_a_service_pgvector_is_cleaned_by_the_command_and_milvus_waits_for_one(
    run: Run, realm: Realm, tmp_path: Path
) -> None:
    """No receipt may say what nobody has done."""
    prints = realm.enrol()
    erased = run("gallery", "erase", "alice", "--yes", "--out", tmp_path / "r.json", "--state", realm.state)
    if realm.kind is IndexKind.PGVECTOR:
        assert erased.code == 0, erased.err
        assert realm.traces(prints) == 0
        return
    assert (erased.code, "a running service cleans: start it" in erased.err) == (2, True), erased
    assert not (tmp_path / "r.json").exists()
    with RunningService(realm.config, fake_network(ProjectionEmbedder())):
        again = run("gallery", "receipt", "5", "--out", tmp_path / "r.json", "--state", realm.state)
        assert again.code == 0, again.err
    assert realm.traces(prints) == 0


def test_an_index_that_cannot_be_reached_keeps_an_erasure_from_beginning(run: Run, tmp_path: Path) -> None:
    """pgvector only: whoever cannot clean it must not delete the rows that tell what to clean."""
    state = tmp_path / "state"
    create_state(state, "hq.example", now())
    text = (state / "config.toml").read_text("utf-8").replace('kind = "faiss-rabitq"', 'kind = "pgvector"')
    (state / "config.toml").write_text(
        text.replace('\nurl = ""', '\nurl = "postgresql://127.0.0.1:1/nowhere"'), "utf-8"
    )
    with open_gallery(state) as gallery:
        gallery.create_subject("alice", "", Consent("tests", "1", now() - timedelta(minutes=1)), OPERATOR)
        gallery.add_template("alice", SPACE, person(1, dimension=512), 0.9, "d", OPERATOR)
    refused = run("gallery", "erase", "alice", "--yes", "--state", state)
    assert (refused.code, "cannot be reached" in refused.err.splitlines()[-1]) == (2, True)
    with open_gallery(state) as gallery:
        assert gallery.subject("alice").template_count == 1


def test_a_store_in_postgresql_is_erased_by_command_and_its_files_are_searched(run: Run, tmp_path: Path) -> None:
    """Tables and write-ahead log; the receipt alone does not claim to have searched a server's files."""
    server, state = postgres_server(), tmp_path / "state"
    create_state(state, "hq.example", now())
    name = f"erasure_{next(NUMBERS)}"
    server.run(f"CREATE DATABASE {name}")
    url = server.url.replace("postgresql://", "postgresql+psycopg://", 1).replace("/postgres?", f"/{name}?", 1)
    Gallery.create(url, "hq.example", FileKeys(state / "keys"), now).close()
    text = (state / "config.toml").read_text("utf-8")
    (state / "config.toml").write_text(
        text.replace('\ndatabase_url = ""', f"\ndatabase_url = {json.dumps(url)}"), "utf-8"
    )
    with open_gallery(state) as gallery:
        for number, subject in enumerate(("alice", "bob"), start=1):
            gallery.create_subject(subject, "", Consent("tests", "1", now() - timedelta(minutes=1)), OPERATOR)
            gallery.add_template(subject, SPACE, person(number, dimension=512), 0.9, "d", OPERATOR)
        with gallery._realm.store.reading() as connection:
            stored = [t for t in read_templates(connection, gallery._realm.realm_id) if t.place.subject_key == 1]
        prints = fingerprint(gallery._realm.vault, stored, [])
    server.run("CHECKPOINT")
    files = [path for path in server.data_directory.rglob("*") if path.is_file()]
    assert sum(prints.found_in_files(files).values()) > 0
    with RunningService(load_config(state), fake_network(ProjectionEmbedder())) as service:
        erased = run("gallery", "erase", "alice", "--yes", "--out", tmp_path / "r.json", "--state", state)
        assert (erased.code, "cleaned in the database server" in erased.out) == (0, True), erased.err
        assert "followed by no running service" not in erased.out
        proof = ("gallery", "prove-erased", tmp_path / "r.json", server.data_directory, "--service", service.address)
        proven = run(*proof, "--state", state)
        assert (proven.code, "traces in 0" in proven.out) == (0, True), proven.err
        rotated = run("gallery", "rotate-keys", "--state", state)
        assert (rotated.code, "1 subject(s) moved" in rotated.out) == (0, True), rotated.err
        found = service.service.gallery.identify(person(2, dimension=512), SPACE)
        assert [match.subject_id for match in found] == ["bob"]
