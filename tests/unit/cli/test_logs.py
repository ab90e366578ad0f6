"""What an agent logs reaches whoever runs it, with what it is about."""

import io
import logging
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cli.logs import logged_on
from duetface.types import Decision, Outcome
from edge_agent.camera import open_source
from edge_agent.hooks import CommandHooks
from tests.unit.cli.conftest import Run


@pytest.fixture
def shown() -> io.StringIO:
    """What is written; not a terminal."""
    return io.StringIO()


def test_a_refused_picture_is_told_with_its_name_and_why(
    shown: io.StringIO, tmp_path: Path, portraits: dict[str, Path]
) -> None:
    """ "picture refused" alone sends somebody through a folder of thousands."""
    shutil.copy(portraits["biden"], tmp_path)
    (tmp_path / "a text.jpg").write_text("not a picture")
    with logged_on(Console(file=shown)):
        frames = list(open_source(str(tmp_path)).frames())
    assert len(frames) == 1
    assert "picture refused" in shown.getvalue()
    assert "a text.jpg: not a picture" in shown.getvalue()


def test_a_failed_command_is_told_with_its_program_and_exit_code(shown: io.StringIO) -> None:
    """The door that stays shut must be found from the log."""
    with logged_on(Console(file=shown)):
        hooks = CommandHooks({Outcome.ACCEPT: f'{sys.executable} -c "raise SystemExit(3)"'}, {})
        hooks.run(Decision(Outcome.ACCEPT, "match", "alice", fmr=1e-4, expires_in_s=5.0))
        hooks.close()
    assert shown.getvalue() == f"command failed program={sys.executable} exit_code=3\n"


def test_only_plain_values_are_shown(shown: io.StringIO) -> None:
    """A probe or a key in a log would undo what the device is for; brackets are no markup."""
    with logged_on(Console(file=shown)):
        extra = {"key": b"secret", "face": np.full(3, 77), "address": "[::1]:5", "delay_s": 1.5, "reason": 'a "b" c'}
        logging.getLogger("edge_agent.test").warning("offline", extra=extra)
    assert shown.getvalue() == 'offline key=<bytes> face=<ndarray> address=[::1]:5 delay_s=1.5 reason="a \\"b\\" c"\n'


def test_an_agent_whose_command_is_missing_does_not_start(run: Run, state: Path, tmp_path: Path) -> None:
    """Not at the first person who wants to come in."""
    run("certs", "issue", "--role", "agent", "--name", "door-1", "--state", state)
    device = ("--identity", state / "clients" / "door-1", "--state", state, "--source", tmp_path)
    for option in ("--on-accept", "--on-reject"):
        refused = run("agent", *device, option, "/no/such/program now")
        assert (refused.code, refused.err.count("\n")) == (2, 1), refused.err
        assert f"{option}: there is no program /no/such/program" in refused.err
