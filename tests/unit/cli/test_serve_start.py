"""What must keep `serve` from starting, each told with file and remedy."""

import shutil
from pathlib import Path

import pytest

from duetface.identity import write_private
from tests.unit.cli.conftest import Run


def test_serve_does_not_start_without_its_revocation_list(run: Run, state: Path) -> None:
    """It would run and refuse everybody, and nobody would know why."""
    (state / "revoked.json").unlink()
    refused = run("serve", "--state", state, "--listen", "127.0.0.1:50998")
    assert refused.code == 2
    assert f"{state / 'revoked.json'}" in refused.err
    assert "restore it from a backup" in refused.err.splitlines()[-1]


@pytest.mark.parametrize("name", ["server.crt", "server.key", "ca.crt"])
def test_serve_names_a_damaged_file_of_its_certificate(run: Run, state: Path, name: str) -> None:
    """Exit 2, not 4: nobody else refused anything."""
    write_private(state / "server" / name, b"-----BEGIN NOTHING-----")
    refused = run("serve", "--state", state, "--listen", "127.0.0.1:50998")
    assert refused.code == 2
    assert f"server/{name} is damaged" in refused.err
    assert "restore it from a backup" in refused.err.splitlines()[-1]


def test_a_damaged_certificate_of_a_client_is_named_by_every_command_that_reads_it(run: Run, state: Path) -> None:
    """One bad file must not hide the others."""
    write_private(state / "clients" / "verifier" / "client.crt", b"nothing")
    for command in (("certs", "list"), ("doctor",)):
        told = run(*command, "--state", state)
        assert told.code == 2
        assert "verifier/client.crt is damaged" in told.out + told.err
    asked = run("gallery", "list", "--state", state, "--identity", state / "clients" / "verifier")
    assert (asked.code, "issue a new one with `duetface certs issue`" in asked.err) == (2, True)


def test_a_missing_identity_is_told_with_the_command_that_makes_one(run: Run, state: Path, tmp_path: Path) -> None:
    """Before anything is asked of the service."""
    asked = run("gallery", "list", "--state", state, "--identity", tmp_path / "nowhere")
    assert (asked.code, "`duetface certs issue`" in asked.err, asked.err.count("\n")) == (2, True, 1)
    (tmp_path / "known").mkdir()
    asked = run("evaluate", "--known", tmp_path, "--strangers", tmp_path, "--service", "127.0.0.1:9", "--state", state)
    assert asked.code == 2
    assert "duetface certs issue --role operator --role auditor --name evaluator" in asked.err
    shutil.copytree(state / "clients" / "operator", state / "clients" / "evaluator")
    asked = run("evaluate", "--known", tmp_path, "--strangers", tmp_path, "--service", "127.0.0.1:9", "--state", state)
    assert asked.code == 4
