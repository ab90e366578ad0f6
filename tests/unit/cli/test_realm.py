"""`init` and `certs`: a realm from nothing."""

import json
import shutil
import sqlite3
from pathlib import Path

from tests.unit.cli.conftest import Run


def test_init_makes_keys_that_only_their_owner_can_read(state: Path) -> None:
    """Whoever reads ca.key lets anybody in; whoever reads realm.key opens the templates."""
    files = [path for path in state.rglob("*") if path.is_file()]
    assert {"ca.key", "realm.key", "rotation.key", "server.key", "client.key", "gallery.db"} <= {f.name for f in files}
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    assert state.stat().st_mode & 0o077 == 0


def test_init_twice_is_refused_and_changes_nothing(run: Run, state: Path) -> None:
    """A second root would lock every device out, and a second realm key would lose every template."""
    before = {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}
    again = run("init", "--state", state)
    assert again.code == 2
    assert again.err.count("\n") == 1
    assert "holds a realm already" in again.err
    assert before == {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}


def test_init_into_a_folder_with_other_files_is_refused(run: Run, tmp_path: Path) -> None:
    """Somebody's home must not become a state folder by a slip."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    refused = run("init", "--state", tmp_path / "home")
    assert refused.code == 2
    assert "is not empty" in refused.err
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["letter.txt"]


def test_an_init_that_fails_leaves_nothing_behind(run: Run, tmp_path: Path) -> None:
    """Half a realm would be taken for a whole one."""
    refused = run("init", "--state", tmp_path / "new" / "state", "--realm", "not a host name")
    assert refused.code == 2
    assert "realm 'not a host name'" in refused.err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_init_without_a_state_option_uses_the_users_data_folder(run: Run, tmp_path: Path) -> None:
    """The shortest way must work: `duetface init`, then `duetface serve`."""
    assert run("init").code == 0
    assert (tmp_path / "XDG_DATA_HOME" / "duetface" / "config.toml").is_file()


def test_the_address_that_init_was_told_is_the_one_that_commands_ask(run: Run, tmp_path: Path) -> None:
    """A port that is given once must not have to be given again."""
    told = run("init", "--state", tmp_path / "s", "--listen", "127.0.0.1:50999", "--json")
    assert json.loads(told.out)["address"] == "127.0.0.1:50999"
    asked = run("gallery", "list", "--state", tmp_path / "s")
    assert asked.code == 4
    assert "127.0.0.1:50999" in asked.err


def test_an_address_that_nobody_could_reach_is_refused_by_option_or_key(run: Run, state: Path, tmp_path: Path) -> None:
    """127.0.0.1:80000 once listened on 14464 and said nothing."""
    for wrong in ("127.0.0.1:80000", "127.0.0.1:0", ":50061", "nowhere"):
        made = run("init", "--state", tmp_path / "new", "--listen", wrong)
        served = run("serve", "--state", state, "--listen", wrong)
        for refused in (made, served):
            assert (refused.code, refused.err.count("\n")) == (2, 1)
            assert refused.err.startswith(f"duetface: --listen: got '{wrong}'")
    named = run("init", "--state", tmp_path / "new", "--host", "hq.example:50061")
    assert (named.code, "--host: got 'hq.example:50061'" in named.err) == (2, True)
    assert not (tmp_path / "new").exists()
    config = state / "config.toml"
    config.write_text(config.read_text("utf-8").replace("127.0.0.1:50061", "127.0.0.1:80000"), "utf-8")
    for command in (("serve",), ("gallery", "list")):
        refused = run(*command, "--state", state)
        assert (refused.code, "listen.address: got '127.0.0.1:80000'" in refused.err) == (2, True), command


def test_a_new_certificate_is_listed_shown_and_revoked(run: Run, state: Path) -> None:
    """The whole life of a device's certificate by command."""
    issued = run("certs", "issue", "--role", "agent", "--name", "door-1", "--state", state)
    assert issued.code == 0
    assert str(state / "clients" / "door-1") in issued.out
    assert "duetface agent" in issued.out
    (row,) = [
        one for one in json.loads(run("certs", "list", "--state", state, "--json").out) if one["name"] == "door-1"
    ]
    assert (row["roles"], row["status"], row["realm"]) == (["agent"], "valid", "test.example")
    assert run("certs", "revoke", "door-1", "--state", state).code == 0
    assert "revoked" in run("certs", "show", "door-1", "--state", state).out


def test_a_certificate_can_hold_two_roles(run: Run, state: Path) -> None:
    """`duetface evaluate` against a running service needs operator and auditor in one."""
    told = run(
        "certs", "issue", "--role", "operator", "--role", "auditor", "--name", "evaluator", "--state", state, "--json"
    )
    assert json.loads(told.out)["roles"] == ["auditor", "operator"]


def test_an_unknown_role_a_taken_name_and_an_unknown_name_are_refused_in_one_line(run: Run, state: Path) -> None:
    """Each is a slip of the operator, told so that it can be mended."""
    slips = [
        (("issue", "--role", "king", "--name", "a"), "expected one of agent"),
        (("issue", "--role", "server", "--name", "a"), "expected one of agent"),
        (("issue", "--role", "agent", "--name", "operator"), "is there already: choose another --name"),
        (("issue", "--role", "agent", "--name", "Door 1"), "expected 1 to 63 of a-z"),
        (("show", "nobody"), "no certificate of nobody"),
    ]
    for arguments, expected in slips:
        refused = run("certs", *arguments, "--state", state)
        assert refused.code == 2, arguments
        assert expected in refused.err
        assert refused.err.count("\n") == 1


def test_a_missing_state_folder_is_named_with_the_remedy(run: Run, tmp_path: Path) -> None:
    """The first thing that goes wrong for a newcomer."""
    for command in (("serve",), ("certs", "list"), ("gallery", "list"), ("audit", "tail"), ("verify", "a", "b.jpg")):
        refused = run(*command, "--state", tmp_path / "nowhere")
        assert refused.code == 2, command
        assert "duetface init" in refused.err
        assert refused.err.count("\n") == 1


def test_serve_refuses_a_database_of_a_newer_release(run: Run, state: Path) -> None:
    """An older release would misread it; nothing may be changed."""
    with sqlite3.connect(state / "gallery.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    refused = run("serve", "--state", state)
    assert refused.code == 2
    assert "gallery.db" in refused.err
    assert refused.err.strip().splitlines()[-1].startswith("duetface: ")


def test_serve_refuses_a_lost_key_and_an_unknown_setting(run: Run, state: Path, tmp_path: Path) -> None:
    """Neither may be guessed: each is named with its file."""
    shutil.copytree(state, tmp_path / "lost")
    (tmp_path / "lost" / "keys" / "realm.key").unlink()
    refused = run("serve", "--state", tmp_path / "lost")
    assert (refused.code, "realm.key" in refused.err) == (2, True)
    with (state / "config.toml").open("a", encoding="utf-8") as file:
        file.write("\n[listne]\naddress = 'x:1'\n")
    refused = run("serve", "--state", state)
    assert (refused.code, "listne" in refused.err) == (2, True)


def test_a_device_is_revoked_by_name_wherever_its_folder_went(run: Run, state: Path, tmp_path: Path) -> None:
    """The stolen door had its certificate written straight to it; the authority's key is kept elsewhere."""
    issue = ("certs", "issue", "--role", "agent", "--state", state, "--name")
    assert run(*issue, "door-1", "--out", tmp_path / "usb-stick").code == 0
    assert "already" in run(*issue, "door-1", "--out", tmp_path / "other").err
    shutil.move(state / "ca", tmp_path / "safe")
    assert run("certs", "revoke", "door-1", "--state", state).code == 0
    assert json.loads(run("certs", "show", "door-1", "--state", state, "--json").out)["status"] == "revoked"


def test_a_certificate_is_revoked_by_its_file(run: Run, state: Path) -> None:
    """For one that was issued on another machine."""
    file = state / "clients" / "verifier" / "client.crt"
    assert run("certs", "revoke", "--certificate", file, "--state", state).code == 0
    assert json.loads(run("certs", "show", "verifier", "--state", state, "--json").out)["status"] == "revoked"
    nobody = run("certs", "revoke", "--state", state)
    assert (nobody.code, nobody.err.count("\n")) == (2, 1)


def test_a_changed_audit_record_is_named(run: Run, state: Path) -> None:
    """SECURITY.md promises that it shows; this is where it shows."""
    with sqlite3.connect(state / "gallery.db") as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(audit)")]
    assert "actor_name" in columns
    from cli.connection import open_gallery
    from gallery.records import Actor

    with open_gallery(state) as gallery:
        for reason in ("one", "two", "three"):
            gallery.record_event("refusal", Actor("test.example", "agent", "door-1", "aa"), reason)
    whole = run("audit", "verify", "--state", state)
    assert (whole.code, whole.out) == (0, "3 record(s), none removed or changed\n")
    with sqlite3.connect(state / "gallery.db") as database:
        for trigger in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {trigger[0]}")
        database.execute("UPDATE audit SET reason = 'nothing' WHERE audit_id = 2")
    changed = run("audit", "verify", "--state", state)
    assert changed.code == 2
    assert "row 2" in changed.err
