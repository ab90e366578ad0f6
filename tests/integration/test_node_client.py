"""A client in another language, written from protos/ and docs/protocol.md alone, speaks to a real service."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from duetface.codec import by_digest, probe_to_bytes
from duetface.identity import Role
from tests.fakes.network import TEST_SPLIT, probe_of
from tests.integration.conftest import Site, enrol

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "tests" / "node" / "client.mjs"

Ask = Callable[[str, bytes], tuple[int, dict[str, Any]]]


@pytest.fixture
def node() -> str:
    """Node.js with the client's packages, or a skip that says what is missing."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("there is no Node.js on this machine")
    if not (CLIENT.parent / "node_modules" / "@grpc").is_dir():
        pytest.skip("the packages of tests/node are not installed: `make test` does it where npm is")
    return found


@pytest.fixture
def ask(node: str, site: Site, tmp_path: Path) -> Ask:
    """Runs the client with a probe that was recorded before; returns its exit code and what it printed."""
    site.realm.identity(Role.VERIFIER, name="node")
    # A name, not an address: TLS has no server name indication for addresses, and Node.js warns of it.
    address = site.service.address.replace("127.0.0.1", "localhost")
    command = [node, str(CLIENT), "--address", address, "--protos", str(ROOT / "protos")]
    command += ["--identity", str(site.realm.state / "clients" / "node")]

    def asked(subject: str, probe: bytes) -> tuple[int, dict[str, Any]]:
        recording = tmp_path / "probe.bin"
        recording.write_bytes(probe)
        arguments = ["--subject", subject, "--probe", str(recording)]
        ran = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60)
        assert not ran.stderr, ran.stderr
        return ran.returncode, json.loads(ran.stdout)

    return asked


def recorded(person: int) -> bytes:
    """A serialised Probe: random codes of the right shape, just captured."""
    return probe_to_bytes(probe_of(person, capture=9), by_digest((TEST_SPLIT,)), time.monotonic_ns())


def test_a_node_client_signs_a_recorded_probe_and_is_answered(ask: Ask, site: Site) -> None:
    """The protos and the protocol page must be enough: challenge, signature and mutual TLS in another language."""
    enrol(site.client(Role.OPERATOR), "alice", person=1)
    code, answer = ask("alice", recorded(person=1))
    assert code == 0, answer
    assert (answer["outcome"], answer["reason"]) == ("OUTCOME_ACCEPT", "DECISION_REASON_MATCH")
    assert answer["subjectId"] == "alice"
    code, answer = ask("alice", recorded(person=2))
    assert (code, answer["outcome"]) == (0, "OUTCOME_REJECT")


def test_a_node_client_reads_a_refusal(ask: Ask) -> None:
    """A status and a line, not a hang: what is no Probe is INVALID_ARGUMENT."""
    code, answer = ask("alice", b"\xff" * 40)
    assert (code, answer["status"]) == (1, "INVALID_ARGUMENT")
