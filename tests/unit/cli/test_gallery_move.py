"""`gallery move`: the command around gallery.moving."""

import json
import secrets
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from recognition_service.config import load_config
from recognition_service.database_setting import name_database
from tests.conformance.conftest import postgresql_url
from tests.servers import postgres_server
from tests.unit.cli.conftest import Run


@pytest.fixture
def place() -> Iterator[str]:
    """An empty database of the tests' PostgreSQL, by libpq's URL."""
    name = f"move_{secrets.token_hex(8)}"
    yield postgresql_url(name).replace("postgresql+psycopg://", "postgresql://", 1)
    postgres_server().run(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_realm_is_moved_by_one_command(run: Run, state: Path, place: str) -> None:
    """It says what it did, names the new place in config.toml, and a second run says that it is done."""
    before = (state / "config.toml").read_text(encoding="utf-8")
    moved = run("gallery", "move", "--to", place, "--state", state, "--json")
    assert moved.code == 0, moved.err
    report = json.loads(moved.out)
    assert (report["revision"], report["subjects"]) == (0, 0) and report["pause_s"] > 0
    after = (state / "config.toml").read_text(encoding="utf-8")
    assert load_config(state).database_url == place
    changed = [line for line in after.splitlines() if line not in before.splitlines()]
    assert changed == [f"database_url = {json.dumps(place)}"]
    assert (state / "config.toml").stat().st_mode & 0o077 == 0
    again = run("gallery", "move", "--to", place, "--state", state)
    assert (again.code, again.err.count("\n")) == (2, 1)
    assert "is no SQLite file" in again.err


def test_a_move_that_cannot_begin_changes_nothing(run: Run, state: Path) -> None:
    """One line with the remedy, and the service's configuration stays."""
    before = (state / "config.toml").read_bytes()
    for url, said in (
        ("postgresql://u:secret@127.0.0.1:1/nowhere", "server cannot be reached: start it"),
        ("nonsense://u:secret@x", "a realm moves to PostgreSQL"),
        ("postgresql+nodriver://u:secret@x", "database URL cannot be parsed"),
    ):
        refused = run("gallery", "move", "--to", url, "--state", state)
        assert (refused.code, refused.err.count("\n")) == (2, 1), refused.err
        assert said in refused.err and "secret" not in refused.err
    assert (state / "config.toml").read_bytes() == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[storage]\n",
        '[storage]\nbusy_timeout_ms = 9\ndatabase_url = ""\n[index]\nthreads = 1\n',
        "[index]\nthreads = 1\n[storage]\n# of the site\nbusy_timeout_ms = 9\n",
        '[index]\nurl = "x"\n\n[storage]\ndatabase_url = "sqlite:////a/b.db"  # old\n',
    ],
)
def test_the_database_is_named_wherever_the_line_stands(tmp_path: Path, text: str) -> None:
    """Other lines are the site's own."""
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    expected = tomllib.loads(text)
    expected.setdefault("storage", {})["database_url"] = 'postgresql://h/"d"'
    name_database(tmp_path, 'postgresql://h/"d"')
    assert tomllib.loads(path.read_text(encoding="utf-8")) == expected
