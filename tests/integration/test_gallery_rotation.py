# ruff: noqa: F811  # fixtures are imported, then named as arguments
"""Keys are rotated by command while a service goes on answering."""

import contextlib
import json
import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.connection import open_gallery
from duetface.client import Client
from duetface.errors import ServiceError
from duetface.identity import Role
from gallery import rekeying
from gallery.realm import Writing
from gallery.records import Actor
from recognition_service.state import create_state
from tests.integration.conftest import Site, enrol
from tests.integration.upkeep import accepted, duetface, one_line, stored_consent  # noqa: F401  # `duetface` is a fixture
from tests.unit.cli.conftest import Ran, Run, _root_logger_as_before, run  # noqa: F401  # `run` is a fixture
from tests.unit.gallery.world import OPERATOR


@contextlib.contextmanager
def asking(client: Client, people: dict[str, int]) -> Iterator[list[str]]:
    """Verifies people one after the other all the time; gives what went wrong."""
    stop, wrong, asked = threading.Event(), list[str](), list[int]()

    def ask() -> None:
        while not stop.is_set():
            for name, number in people.items():
                try:
                    if not accepted(client, name, number):
                        wrong.append(f"{name} rejected")
                except ServiceError as error:
                    wrong.append(str(error))
                asked.append(1)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield wrong
    finally:
        stop.set()
        thread.join()
    assert len(asked) >= len(people)


def interrupt_after(subjects: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while that many subjects have been moved: by count, since on a busy machine a clock comes too late."""
    moved, rekey = list[int](), rekeying.rekey_subject

    def counted(writing: Writing, place: rekeying.SubjectPlace, actor: Actor) -> None:
        rekey(writing, place, actor)
        moved.append(place.subject_key)
        if len(moved) == subjects:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(rekeying, "rekey_subject", counted)


def test_keys_are_rotated_while_the_service_answers_stopped_by_ctrl_c_and_gone_on_with(
    site: Site, duetface: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is rejected at any moment; the service takes the new keys without a restart; the old files may go."""
    client = site.client(Role.OPERATOR)
    people = {f"s{number}": number for number in range(1, 25)}
    for name, number in people.items():
        enrol(client, name, number, captures=1)

    interrupt_after(3, monkeypatch)
    with asking(site.client(Role.VERIFIER), people) as wrong:
        stopped = duetface("rotate-keys", "--json")
        assert stopped.code == 130, stopped
        first = json.loads(stopped.out)
        assert first["subjects_left"] == 24 - 3
        assert first["versions"] == {"realm": 2, "rotation": 2}
        enrol(client, "late", 99, captures=1)
        done = duetface("rotate-keys", "--json")
        assert done.code == 0, done.err
        second = json.loads(done.out)
        assert (second["subjects_left"], second["templates_left"]) == (0, 0)
        assert second["versions"] == {"realm": 2, "rotation": 2}
    assert wrong == []
    assert accepted(client, "late", 99)
    site.gallery.refresh()
    assert site.gallery.maintenance.key_versions() == {"realm": 2, "rotation": 2}
    assert {space.rotation_version for space in site.gallery.statistics().spaces} == {2}
    for name in ("realm.key", "rotation.key"):
        (site.realm.state / "keys" / name).unlink()
    with open_gallery(site.realm.state) as gallery:
        assert gallery.subject("s1").template_count == 1


def test_one_secret_is_rotated_alone_and_prepared_for_other_services_first(site: Site, duetface: Run) -> None:
    """The files are there before anything is sealed under them."""
    enrol(site.client(Role.OPERATOR), "alice", 1)
    for _ in range(2):  # the second time it is there already
        assert json.loads(duetface("rotate-keys", "--what", "realm", "--prepare", "--json").out) == {"prepared": True}
    site.gallery.refresh()
    assert site.gallery.maintenance.key_versions() == {"realm": 1, "rotation": 1}
    assert sorted(path.name for path in (site.realm.state / "keys").iterdir()) == [
        "realm.2.key",
        "realm.key",
        "rotation.key",
    ]
    done = duetface("rotate-keys", "--what", "realm")
    assert (done.code, "1 subject(s) moved" in done.out) == (0, True)
    assert (site.realm.state / "keys" / "realm.3.key").exists() is False
    assert accepted(site.client(Role.OPERATOR), "alice", 1)


def test_a_rotation_that_a_long_reader_kept_from_its_end_is_ended_by_the_same_command(run: Run, tmp_path: Path) -> None:
    """And does not begin a further one."""
    state = tmp_path / "state"
    create_state(state, "still.example", datetime.now(UTC))
    text = (state / "config.toml").read_text("utf-8")
    (state / "config.toml").write_text(text.replace("busy_timeout_ms = 5000", "busy_timeout_ms = 50"), "utf-8")
    with open_gallery(state) as gallery:
        gallery.create_subject("alice", "", stored_consent(), OPERATOR)
    with contextlib.closing(sqlite3.connect(state / "gallery.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM subjects").fetchone()
        kept = run("gallery", "rotate-keys", "--state", state)
        assert (kept.code, one_line(kept), "a long reader keeps old bytes: run this again" in kept.err) == (
            2,
            True,
            True,
        )
    done = json.loads(run("gallery", "rotate-keys", "--state", state, "--json").out)
    assert (done["versions"], done["subjects_left"]) == ({"realm": 2, "rotation": 2}, 0)
