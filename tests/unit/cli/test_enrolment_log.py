"""Which log `enroll --from-dir` goes on with."""

from pathlib import Path

import pytest

from cli.connection import enrolment_log
from tests.unit.cli.conftest import Run


def test_a_realm_that_is_made_anew_has_a_log_of_its_own(
    run: Run, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its template ids begin at one again: by the realm's name alone, people would be skipped who are not there."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "log"))
    picture = tmp_path / "a.jpg"
    picture.write_bytes(b"picture")
    enrolment_log(state, None).write("alice", picture, "1")
    assert run("init", "--state", tmp_path / "anew", "--realm", "test.example").code == 0
    assert enrolment_log(state, None).template_of("alice", picture) == "1"
    assert enrolment_log(tmp_path / "anew", None).template_of("alice", picture) == ""
    operator = state / "clients" / "operator"
    assert enrolment_log(None, operator).template_of("alice", picture) == "1", "a copied identity is of the same realm"
