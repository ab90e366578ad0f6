"""The log of a folder's enrolment: it lets a run go on, and keeps nothing of who was deleted."""

from pathlib import Path

import pytest

from duetface.errors import ConfigError
from edge_agent.enrolment_log import EnrolmentLog


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A file; what is in it does not matter to the log."""
    path = tmp_path / "a.jpg"
    path.write_bytes(b"picture")
    return path


def test_a_run_that_was_broken_off_finds_what_it_had_done(tmp_path: Path, picture: Path) -> None:
    """By the picture's content, and past a line that a crash cut off."""
    EnrolmentLog(tmp_path / "state" / "log").write("alice", picture, "7")
    with (tmp_path / "state" / "log").open("a", encoding="utf-8") as file:
        file.write('{"subject_id": "al')
    again = EnrolmentLog(tmp_path / "state" / "log")
    assert again.template_of("alice", picture) == "7"
    assert again.template_of("bob", picture) == ""
    picture.write_bytes(b"another picture")
    assert again.template_of("alice", picture) == ""


def test_only_the_owner_may_read_the_log(tmp_path: Path, picture: Path) -> None:
    """A digest tells whoever has the picture that it was enrolled, and as whom."""
    log = EnrolmentLog(tmp_path / "log")
    log.write("alice", picture, "7")
    log.write("bob", picture, "8")
    assert (tmp_path / "log").stat().st_mode & 0o077 == 0
    log.forget("bob")
    assert (tmp_path / "log").stat().st_mode & 0o077 == 0


def test_what_was_deleted_goes_from_the_log(tmp_path: Path, picture: Path) -> None:
    """By subject, by template, and by what the service still holds; an empty log is no file."""
    other = tmp_path / "b.jpg"
    other.write_bytes(b"other")
    log = EnrolmentLog(tmp_path / "log")
    for subject, path, template in (("alice", picture, "1"), ("alice", other, "2"), ("bob", picture, "3")):
        log.write(subject, path, template)
    log.forget_template("1")
    assert EnrolmentLog(tmp_path / "log").template_of("alice", picture) == ""
    assert EnrolmentLog(tmp_path / "log").template_of("alice", other) == "2"
    log.keep_only("alice", {"9"})
    assert not EnrolmentLog(tmp_path / "log").knows("alice")
    assert EnrolmentLog(tmp_path / "log").knows("bob")
    log.forget("bob")
    assert not (tmp_path / "log").exists()


def test_a_log_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Going on without it would enrol everybody twice."""
    (tmp_path / "log").mkdir()
    with pytest.raises(ConfigError, match="log: Is a directory"):
        EnrolmentLog(tmp_path / "log")
