"""Whoever has protos/ and docs/protocol.md can write a client: this one imports nothing of the project."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from duetface.authority import Authority
from duetface.identity import Role
from duetface.manifest import models_root
from edge_agent.pipeline import Protector
from edge_agent.sources import read_picture
from recognition_service.config import load_config
from recognition_service.models import load_network
from recognition_service.running import RunningService
from recognition_service.state import create_state
from tests.conftest import ROOT

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stubs made from protos/ alone."""
    folder = tmp_path_factory.mktemp("stubs")
    protos = [str(path) for path in sorted((ROOT / "protos" / "duetface" / "v1").glob("*.proto"))]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT / "protos")]
    subprocess.run([*command, f"--python_out={folder}", f"--grpc_python_out={folder}", *protos], check=True)
    for package in (folder / "duetface", folder / "duetface" / "v1"):
        (package / "__init__.py").touch()  # a package without it would yield to the installed project
    return folder


def recorded_codes(portraits: dict[str, Path]) -> list[dict[str, Any]]:
    """What an agent would send of two pictures of one person and one of another, as plain numbers."""
    protector = Protector.load(models_root())
    captures = []
    for name in ("obama", "obama2", "biden"):
        outcome = protector.protect(read_picture(portraits[name]))
        assert outcome.probe is not None, outcome.reason
        (face,) = outcome.probe.faces
        captures.append({plane: codes.tolist() for plane, codes in face.planes.items()})
    return captures


def test_a_client_made_from_the_protos_alone_enrols_verifies_and_streams(
    stubs: Path, portraits: dict[str, Path], tmp_path: Path
) -> None:
    """The contract is the protos and the page, not our Python: a judge in another language has no more."""
    state = tmp_path / "state"
    create_state(state, "test.example", datetime.now(UTC))
    door = tmp_path / "door-1"
    Authority.load(state / "ca").issue_client([Role.AGENT], "door-1", door, datetime.now(UTC))
    codes = tmp_path / "codes.json"
    codes.write_text(json.dumps(recorded_codes(portraits)))
    config = load_config(state, {})
    with RunningService(config, load_network(config.models)) as service:
        arguments = [stubs, door, state / "clients" / "operator", service.address, codes]
        # -I: isolated, so that not even the working folder or an environment variable leads to the project.
        command = [sys.executable, "-I", str(HERE / "client.py"), *map(str, arguments)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told == {
        "health": "SERVING",
        "digest_fits": True,
        "revisions_rise": True,
        "verify_own": "OUTCOME_ACCEPT",
        "verify_other": "OUTCOME_REJECT",
        "stream": ["OUTCOME_ACCEPT alice", "OUTCOME_REJECT"],
    }
