"""A realm for the length of a demonstration: state folder, running service, and the `duetface` command."""

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from duetface.client import Client
from duetface.errors import DuetFaceError
from duetface.identity import ClientIdentity

DUETFACE = Path(sys.executable).parent / "duetface"
STARTS_WITHIN_S = 60.0


class DemoError(Exception):
    """A step did not do what it should; says which."""


@dataclass(frozen=True)
class Realm:
    """A realm whose service runs.  log: standard error of the service."""

    state: Path
    address: str
    log: Path

    def command(self, *arguments: str) -> str:
        """Run `duetface ARGUMENTS`, shown as a person would type it; returns its standard output.

        Raises DemoError with what it said if it fails.
        """
        print(f"$ duetface {' '.join(_short(word) for word in arguments)}", flush=True)
        ran = subprocess.run([DUETFACE, *arguments, "--state", self.state], stdout=subprocess.PIPE, text=True)
        if ran.returncode:
            raise DemoError(f"duetface {arguments[0]} ended with {ran.returncode}: {ran.stdout.strip()}")
        return ran.stdout

    def client(self, name: str) -> Client:
        """A connection as one of the realm's certificates."""
        return Client.connect(self.address, ClientIdentity.load(self.state / "clients" / name))


@contextmanager
def running_realm(out: Path) -> Iterator[Realm]:
    """`duetface init` and `duetface serve` in a temporary folder; the service is stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="duetface-demo-") as temporary:
        realm = Realm(Path(temporary) / "state", f"127.0.0.1:{_free_port()}", out / "service.log")
        realm.command("init", "--realm", "demo", "--listen", realm.address)
        print("$ duetface serve &", flush=True)
        with realm.log.open("w", encoding="utf-8") as log:
            service = subprocess.Popen([DUETFACE, "serve", "--state", realm.state], stderr=log)
            try:
                _wait_until_healthy(realm, service)
                yield realm
            finally:
                service.terminate()
                service.wait(timeout=30)


def _wait_until_healthy(realm: Realm, service: "subprocess.Popen[bytes]") -> None:
    give_up = time.monotonic() + STARTS_WITHIN_S
    with realm.client("verifier") as client:
        while time.monotonic() < give_up:
            if service.poll() is not None:
                last = realm.log.read_text(encoding="utf-8").strip().splitlines()[-1:]
                raise DemoError(f"the service did not start: {''.join(last)}")
            try:
                if client.healthy():
                    _tell_terms(realm)
                    return
            except DuetFaceError:
                time.sleep(0.2)
    raise DemoError(f"the service did not answer in {STARTS_WITHIN_S:.0f} s; see {realm.log}")


def _tell_terms(realm: Realm) -> None:
    """Repeat what the service said about its models: their terms are not those of the code."""
    for line in realm.log.read_text(encoding="utf-8").splitlines():
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("event") == "model terms":
            print(f"model {event['space']}: {event['licence']}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _short(word: str) -> str:
    """A path by its name: where it lies is of no interest here."""
    return Path(word).name if word.startswith("/") else word
