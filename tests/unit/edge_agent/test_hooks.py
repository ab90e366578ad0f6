"""Commands open doors: they run once, for the right decision, and never as part of a shell's line."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from duetface.errors import ConfigError
from duetface.types import Decision, Outcome
from edge_agent.hooks import CommandHooks

ENVIRONMENT = {"PATH": os.environ["PATH"]}


def accept(subject_id: str = "alice", expires_in_s: float = 5.0) -> Decision:
    """An accept."""
    return Decision(
        Outcome.ACCEPT, "match", subject_id, fmr=1e-4, decision_id="d-1", sequence=3, expires_in_s=expires_in_s
    )


def writing(path: Path) -> str:
    """A command that appends its variables and arguments as JSON."""
    program = (
        "import json,os,sys;"
        "print(json.dumps([sys.argv[1:],{k:v for k,v in os.environ.items() if k.startswith('DUETFACE')}]),"
        f"file=open({str(path)!r},'a'))"
    )
    return f'{sys.executable} -c "{program}" "one argument"'


def test_a_command_gets_the_decision_as_variables(tmp_path: Path) -> None:
    """Data, not text to be pasted into a line."""
    hooks = CommandHooks({Outcome.ACCEPT: writing(tmp_path / "out")}, ENVIRONMENT)
    hooks.run(accept())
    hooks.close()
    arguments, variables = json.loads((tmp_path / "out").read_text("utf-8"))
    assert arguments == ["one argument"]
    assert variables == {
        "DUETFACE_OUTCOME": "accept",
        "DUETFACE_REASON": "match",
        "DUETFACE_SUBJECT_ID": "alice",
        "DUETFACE_DECISION_ID": "d-1",
        "DUETFACE_SEQUENCE": "3",
        "DUETFACE_FMR": "0.0001",
        "DUETFACE_LIVENESS": "off",
    }


def test_a_subject_id_cannot_become_a_command(tmp_path: Path) -> None:
    """Ids come from whoever enrolled."""
    hooks = CommandHooks({Outcome.ACCEPT: writing(tmp_path / "out")}, ENVIRONMENT)
    evil = f"$(touch {tmp_path}/evil); touch {tmp_path}/evil"
    hooks.run(accept(evil))
    hooks.close()
    assert json.loads((tmp_path / "out").read_text("utf-8"))[1]["DUETFACE_SUBJECT_ID"] == evil
    assert not (tmp_path / "evil").exists()


def test_only_the_command_of_the_outcome_runs(tmp_path: Path) -> None:
    """A reject must not open what an accept opens."""
    commands = {Outcome.ACCEPT: writing(tmp_path / "accept"), Outcome.REJECT: writing(tmp_path / "reject")}
    hooks = CommandHooks(commands, ENVIRONMENT)
    hooks.run(Decision(Outcome.REJECT, "no_match"))
    hooks.run(Decision(Outcome.RETRY, "stale"))
    hooks.close()
    assert (tmp_path / "reject").exists()
    assert not (tmp_path / "accept").exists()


def test_a_slow_command_holds_nobody_up_and_is_killed(tmp_path: Path) -> None:
    """`run` returns at once; the time-out ends what hangs."""
    hooks = CommandHooks({Outcome.ACCEPT: f'{sys.executable} -c "import time; time.sleep(60)"'}, ENVIRONMENT, 0.5)
    started = time.monotonic()
    hooks.run(accept())
    assert time.monotonic() - started < 0.2
    hooks.close()
    assert time.monotonic() - started < 5.0
    assert hooks.failed == 1


def test_too_many_commands_drop_the_oldest(tmp_path: Path) -> None:
    """Bounded, and counted."""
    hooks = CommandHooks({Outcome.ACCEPT: f'{sys.executable} -c "import time; time.sleep(0.5)"'}, ENVIRONMENT, 5.0)
    for _ in range(10):
        hooks.run(accept())
    assert hooks.dropped >= 4
    hooks.close()


def test_an_expired_decision_runs_nothing(tmp_path: Path) -> None:
    """Whoever stood there has gone."""
    first = f'{sys.executable} -c "import time; time.sleep(0.3)"'
    hooks = CommandHooks({Outcome.REJECT: first, Outcome.ACCEPT: writing(tmp_path / "out")}, ENVIRONMENT)
    hooks.run(Decision(Outcome.REJECT, "no_match"))
    hooks.run(accept(expires_in_s=0.01))
    hooks.close()
    assert hooks.dropped == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("vanishes", [True, False])
def test_a_command_that_fails_is_counted_and_the_next_one_runs(vanishes: bool, tmp_path: Path) -> None:
    """A broken lock must not stop the agent, nor one that is uninstalled meanwhile."""
    lock = tmp_path / "lock"
    lock.write_text("#!/bin/sh\nexit 3\n")
    lock.chmod(0o755)
    hooks = CommandHooks({Outcome.ACCEPT: str(lock), Outcome.REJECT: writing(tmp_path / "out")}, ENVIRONMENT)
    if vanishes:
        lock.unlink()
    hooks.run(accept())
    hooks.run(Decision(Outcome.REJECT, "no_match"))
    hooks.close()
    assert hooks.failed == 1
    assert (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("open 'the door", "unbalanced quotes"),
        ("   ", "empty"),
        ("/no/such/program", "--on-accept: there is no program /no/such/program"),
        ("no-such-program-on-the-path", "there is no program no-such-program-on-the-path"),
        ("/etc/passwd", "that may be run"),
    ],
)
def test_a_command_that_cannot_run_is_refused_at_start(command: str, message: str) -> None:
    """Not at the first person."""
    with pytest.raises(ConfigError, match=message):
        CommandHooks({Outcome.ACCEPT: command}, ENVIRONMENT)
