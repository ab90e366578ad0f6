"""Commands on the gallery of a running service, and what their tests ask of it."""

import contextlib
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from duetface.client import Client
from gallery.records import Consent as StoredConsent
from tests.fakes.network import fake_network, probe_of
from tests.integration.conftest import Site
from tests.unit.cli.conftest import Ran, Run

SPACE = fake_network().space_digest


@pytest.fixture
def duetface(run: Run, site: Site) -> Run:
    """Runs a command on the state folder of the running service."""

    def ran(command: str, *arguments: object) -> Ran:
        return run("gallery", command, *arguments, "--state", site.realm.state)

    return ran


def stored_consent() -> StoredConsent:
    """A consent given a minute ago, as the gallery takes it."""
    return StoredConsent("tests", "1", datetime.now(UTC) - timedelta(minutes=1))


def copied(database: Path, copy: Path) -> Path:
    """A back-up of a database in use."""
    with contextlib.closing(sqlite3.connect(copy)) as to, contextlib.closing(sqlite3.connect(database)) as source:
        source.backup(to)
    return copy


def accepted(client: Client, subject_id: str, number: int) -> bool:
    """Whether a new capture of a person is taken for a subject."""
    return client.verify(subject_id, probe_of(number, 9)).outcome == "accept"


def one_line(ran: Ran) -> bool:
    """Whether the error is one line, and no traceback; notes of progress may come before it."""
    return ran.err.strip().splitlines()[-1].startswith("duetface: ") and "Traceback" not in ran.err
