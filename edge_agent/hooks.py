"""What a decision does: run the user's command, without a shell and without holding up the camera."""

import logging
import os
import queue
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from duetface.errors import ConfigError
from duetface.types import Decision, Outcome

WAITING = 4  # commands; more means that they are slower than people

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Job:
    outcome: Outcome
    environment: Mapping[str, str]
    not_after_monotonic_s: float


class CommandHooks:
    """Runs `--on-accept` and `--on-reject` one after another in a thread of its own.

    At most WAITING commands wait; when full, the oldest is dropped and counted.  A command whose
    decision has expired meanwhile is not run: an open door is for who stood there.
    """

    def __init__(
        self,
        commands: Mapping[Outcome, str],
        environment: Mapping[str, str],
        timeout_s: float = 10.0,
    ) -> None:
        """commands: outcome -> command line, split as a shell would, but run without one.

        environment: what the commands inherit.
        Raises ConfigError for a command that cannot be split, or whose program is not there.
        """
        self.dropped = 0
        self.failed = 0
        self._commands = {
            outcome: _command(f"--on-{outcome}", command, environment)
            for outcome, command in commands.items()
            if command
        }
        self._environment = dict(environment)
        self._timeout_s = timeout_s
        self._jobs: queue.Queue[_Job | None] = queue.Queue(maxsize=WAITING)
        self._thread = threading.Thread(target=self._work, name="hooks", daemon=True)
        self._thread.start()

    def run(self, decision: Decision) -> None:
        """Start the command of this outcome soon; returns at once."""
        if decision.outcome not in self._commands:
            return
        not_after = time.monotonic() + (decision.expires_in_s or self._timeout_s)
        job = _Job(decision.outcome, decision_environment(decision), not_after)
        while True:
            try:
                self._jobs.put_nowait(job)
                return
            except queue.Full:
                self._drop_oldest()

    def close(self) -> None:
        """Run what waits, then end; waits at most one time-out."""
        self._jobs.put(None)
        self._thread.join(self._timeout_s + 1.0)

    def _drop_oldest(self) -> None:
        try:
            self._jobs.get_nowait()
            self.dropped += 1
            logger.warning("command dropped", extra={"reason": "commands are slower than decisions"})
        except queue.Empty:
            return

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if time.monotonic() > job.not_after_monotonic_s:
                self.dropped += 1
                logger.warning("command dropped", extra={"reason": "the decision has expired"})
                continue
            self._execute(job)

    def _execute(self, job: _Job) -> None:
        command = self._commands[job.outcome]
        try:
            finished = subprocess.run(
                command,
                env={**self._environment, **job.environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # standard output holds the agent's JSON lines
                timeout=self._timeout_s,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            self.failed += 1
            logger.error("command failed", extra={"program": command[0], "reason": type(error).__name__})
            return
        if finished.returncode != 0:
            self.failed += 1
            logger.error("command failed", extra={"program": command[0], "exit_code": finished.returncode})


def decision_environment(decision: Decision) -> dict[str, str]:
    """Return the variables that a command gets; ids are data here and never part of a command line."""
    return {
        "DUETFACE_OUTCOME": str(decision.outcome),
        "DUETFACE_REASON": decision.reason,
        "DUETFACE_SUBJECT_ID": decision.subject_id,
        "DUETFACE_DECISION_ID": decision.decision_id,
        "DUETFACE_SEQUENCE": str(decision.sequence),
        "DUETFACE_FMR": f"{decision.fmr:g}",
        "DUETFACE_LIVENESS": str(decision.liveness),
    }


def _command(option: str, command: str, environment: Mapping[str, str]) -> Sequence[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"{option}: the command {command!r} has unbalanced quotes") from error
    if not words:
        raise ConfigError(f"{option}: the command is empty")
    if shutil.which(words[0], path=environment.get("PATH", os.defpath)) is None:
        raise ConfigError(f"{option}: there is no program {words[0]} that may be run: give its full path")
    return words
