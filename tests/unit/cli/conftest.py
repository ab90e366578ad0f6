"""Run the command in this process, as a shell would see it."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.main import main


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def _root_logger_as_before() -> Iterator[None]:
    """`serve` sets up the logging of its process, which here is the tests' own."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, _root_logger_as_before: None
) -> Run:
    """Runs `duetface ARGUMENTS...`; nothing of the caller's own home or settings is seen."""
    for name in ("DUETFACE_STATE", "DUETFACE_SERVICE", "DUETFACE_IDENTITY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("COLUMNS", "200")

    def ran(*arguments: object) -> Ran:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return ran


@pytest.fixture
def state(run: Run, tmp_path: Path) -> Path:
    """A state folder made by `duetface init`."""
    folder = tmp_path / "state"
    assert run("init", "--state", folder, "--realm", "test.example").code == 0
    return folder
