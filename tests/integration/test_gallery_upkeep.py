# ruff: noqa: F811  # fixtures are imported, then named as arguments
"""What an operator does to a gallery by command, beside a running service that goes on answering."""

import contextlib
import json
import re
import shutil
import sqlite3
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli.connection import open_gallery
from duetface.client import Consent
from duetface.errors import ServiceError
from duetface.identity import Role
from duetface.manifest import ModelCatalogue, models_root
from gallery.followers import report
from gallery.gallery import Gallery, GalleryOptions
from gallery.receipt import Receipt
from gallery.templates import read_templates
from recognition_service.state import create_state
from tests.fakes.network import probe_of
from tests.integration.conftest import Site, consent, enrol
from tests.integration.upkeep import SPACE, accepted, copied, duetface, one_line, stored_consent  # noqa: F401  # `duetface` is a fixture
from tests.unit.cli.conftest import Ran, Run, _root_logger_as_before, run  # noqa: F401  # `run` is a fixture
from tests.unit.gallery.world import OPERATOR, person


def test_an_erasure_beside_a_running_service_is_followed_by_it_and_proven(
    site: Site, duetface: Run, tmp_path: Path
) -> None:
    """Rows, keys, index of the service, files: gone; the same search finds them all in the copy from before."""
    client = site.client(Role.OPERATOR)
    enrol(client, "alice", 1)
    enrol(client, "bob", 2)
    before = copied(site.realm.state / "gallery.db", tmp_path / "before.db")
    assert accepted(client, "alice", 1)
    told = duetface("erase", "alice", "--yes", "--out", tmp_path / "receipt.json", "--json")
    assert told.code == 0, told.err
    receipt = json.loads(told.out)
    assert (receipt["subject_id"], receipt["templates"]) == ("alice", 2)
    assert len(receipt["followers"]) == 1
    assert "sealed_fingerprints" not in receipt
    Receipt.from_json((tmp_path / "receipt.json").read_text("utf-8")).verify()
    assert (tmp_path / "receipt.json").stat().st_mode & 0o777 == 0o600
    assert not accepted(client, "alice", 1)
    assert client.identify(probe_of(1, 9)).outcome == "reject"
    assert accepted(client, "bob", 2)
    clean = duetface("prove-erased", tmp_path / "receipt.json", "--service", site.address, "--json")
    assert (clean.code, json.loads(clean.out)["found"]) == (0, {}), clean.err
    searched = json.loads(clean.out)["searched"]
    assert str(site.realm.state / "gallery.db") in searched
    assert any(name.startswith("the index of space") for name in searched)
    found = duetface("prove-erased", tmp_path / "receipt.json", before, "--service", site.address, "--json")
    assert (found.code, list(json.loads(found.out)["found"])) == (1, [str(before)])
    assert "FOUND" in duetface("prove-erased", tmp_path / "receipt.json", before, "--service", site.address).out


def test_what_is_left_in_the_memory_of_a_service_is_found_through_it(site: Site, duetface: Run, tmp_path: Path) -> None:
    """A service that does not let go of a vector is told by name; its search is in the audit."""
    enrol(site.client(Role.OPERATOR), "alice", 1, captures=1)
    realm = site.gallery._realm
    with realm.store.reading() as connection:
        (stored,) = read_templates(connection, realm.realm_id)
        rotated = stored.open(realm.vault)
    enrol(site.client(Role.OPERATOR), "bob", 2, captures=1)
    assert duetface("erase", "alice", "--yes", "--out", tmp_path / "receipt.json").code == 0
    (space,) = site.gallery._view._spaces.values()
    space.index.add([999], rotated[None])
    found = duetface("prove-erased", tmp_path / "receipt.json", "--service", site.address, "--json")
    assert found.code == 1
    (place,) = json.loads(found.out)["found"]
    assert place.startswith("the index of space")
    last = site.gallery.audit(site.gallery.last_audit_id - 1)[0]
    assert (last.action, last.actor.role, last.outcome) == ("erasure_searched", "operator", "found")


def test_only_an_operator_with_an_own_receipt_has_a_service_searched(site: Site, duetface: Run, tmp_path: Path) -> None:
    """A receipt that was changed, made up, too long, or of another realm is refused by a reason."""
    enrol(site.client(Role.OPERATOR), "alice", 1)
    assert duetface("erase", "alice", "--yes", "--out", tmp_path / "receipt.json").code == 0
    whole = (tmp_path / "receipt.json").read_text("utf-8")
    fields = json.loads(whole)
    for bad in ("", "[]", "{}", whole.replace("alice", "bob"), json.dumps({**fields, "public_key": 5}), "x" * 800_000):
        with pytest.raises(ServiceError) as refused:
            site.client(Role.OPERATOR).search_erased(bad)
        assert (refused.value.status, refused.value.reason) == ("INVALID_ARGUMENT", "invalid_field"), bad[:40]
    with pytest.raises(ServiceError) as refused:
        site.client(Role.VERIFIER).search_erased(whole)
    assert refused.value.reason == "role"
    create_state(tmp_path / "other", "other.example", datetime.now(UTC))
    with open_gallery(tmp_path / "other") as other:
        other.create_subject("x", "", stored_consent(), OPERATOR)
        foreign = other.maintenance.erasure_receipt(other.delete_subject("x", OPERATOR)).to_json()
    with pytest.raises(ServiceError, match="not of this realm"):
        site.client(Role.OPERATOR).search_erased(foreign)
    (tmp_path / "foreign.json").write_text(foreign)
    told = duetface("prove-erased", tmp_path / "foreign.json")
    assert (told.code, one_line(told), "not of this realm" in told.err) == (2, True, True)


def test_a_deletion_over_grpc_gets_its_receipt_later(site: Site, duetface: Run) -> None:
    """`delete` answers a revision at once; `receipt` waits for the bytes.  A revision that erased nothing has none."""
    client = site.client(Role.OPERATOR)
    enrol(client, "alice", 1)
    revision = client.delete_subject("alice")
    told = duetface("receipt", revision)
    assert told.code == 0, told.err
    assert "alice: 2 template(s) erased" in told.out
    assert (site.realm.state / "receipts" / f"erasure-{revision}.json").is_file()
    none = duetface("receipt", 1)
    assert (none.code, one_line(none), "revision 1 is no erasure" in none.err) == (2, True, True)


def test_a_replica_that_does_not_follow_withholds_the_receipt_and_not_the_deletion(site: Site, duetface: Run) -> None:
    """What happened is said, and how to ask again."""
    client = site.client(Role.OPERATOR)
    enrol(client, "alice", 1)
    report(site.gallery._realm, "stuck", 1)
    refused = duetface("erase", "alice", "--yes", "--wait", 0.2)
    assert (refused.code, one_line(refused)) == (2, True)
    assert "alice is deleted but not proven gone: replicas stuck have not followed" in refused.err
    assert not accepted(client, "alice", 1)
    report(site.gallery._realm, "stuck", site.gallery.revision)
    (revision,) = [word.strip("`)") for word in refused.err.split() if word.strip("`)").isdigit()][-1:]
    assert duetface("receipt", revision).code == 0


def test_nobody_under_a_legal_hold_is_erased_until_it_is_lifted(site: Site, duetface: Run) -> None:
    """By no way; the line names the command that lifts it."""
    client = site.client(Role.OPERATOR)
    enrol(client, "alice", 1)
    assert "alice is held" in duetface("hold", "alice").out
    for refused in (
        duetface("erase", "alice", "--yes"),
        duetface("delete", "alice", "--yes", "--service", site.address),
    ):
        assert refused.code in (2, 4)
        assert one_line(refused)
        assert "legal hold" in refused.err
    assert "`duetface gallery release alice`" in duetface("erase", "alice", "--yes").err
    assert accepted(client, "alice", 1)
    assert json.loads(duetface("release", "alice", "--json").out)["held"] is False
    assert duetface("erase", "alice", "--yes").code == 0
    for command in ("hold", "release", "export"):
        unknown = duetface(command, "alice")
        assert (unknown.code, one_line(unknown), "no such subject" in unknown.err) == (2, True, True)


def test_an_erasure_needs_a_yes_and_names_whom_it_does_not_find(site: Site, duetface: Run) -> None:
    """Nothing is erased by a slip."""
    unasked = duetface("erase", "alice")
    assert (unasked.code, "erasing needs --yes" in unasked.err) == (2, True)
    unknown = duetface("erase", "nobody", "--yes")
    assert (unknown.code, one_line(unknown), "no such subject" in unknown.err) == (2, True, True)
    assert not (site.realm.state / "receipts").exists()


def test_a_purge_tells_what_is_due_and_then_erases_it(site: Site, duetface: Run) -> None:
    """Ended consents, old templates, never the held; the service notices."""
    client = site.client(Role.OPERATOR)
    soon = Consent("tests", "1", datetime.now(UTC) - timedelta(minutes=1), datetime.now(UTC) + timedelta(seconds=1))
    for number, name in enumerate(("ended", "kept"), start=1):
        client.create_subject(name, "", soon)
        client.add_template(name, probe_of(number))
    enrol(client, "bob", 3)
    assert duetface("hold", "kept").code == 0
    time.sleep(1.1)
    due = duetface("purge", "--dry-run", "--json")
    assert json.loads(due.out) == {"dry_run": True, "subjects": ["ended"], "templates": [], "held": ["kept"]}
    assert client.subject("ended").subject_id == "ended"
    unasked = duetface("purge")
    assert (unasked.code, "erasing needs --yes" in unasked.err) == (2, True)
    done = duetface("purge", "--yes")
    assert (done.code, done.out.splitlines()) == (0, ["erased: subject ended", "kept under a legal hold: subject kept"])
    assert [subject.subject_id for subject in client.subjects()] == ["bob", "kept"]
    assert duetface("purge", "--older-than", 1, "--dry-run").code == 0
    assert accepted(client, "bob", 3)


def test_a_purge_beside_a_long_reader_says_what_is_left(run: Run, tmp_path: Path) -> None:
    """The people are gone; a back-up tool that is at it keeps their old pages for a while."""
    state = tmp_path / "state"
    create_state(state, "still.example", datetime.now(UTC))
    text = (state / "config.toml").read_text("utf-8")
    (state / "config.toml").write_text(text.replace("busy_timeout_ms = 5000", "busy_timeout_ms = 50"), "utf-8")
    with open_gallery(state) as gallery:
        gallery.create_subject("ended", "", stored_consent(), OPERATOR)
        gallery.withdraw_consents("ended", OPERATOR)
    with contextlib.closing(sqlite3.connect(state / "gallery.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM subjects").fetchone()
        done = run("gallery", "purge", "--yes", "--state", state)
        assert (done.code, "a long reader keeps bytes of 1 deletion(s)" in done.err) == (0, True), done
        withheld = run("gallery", "receipt", 3, "--state", state)
        assert (withheld.code, one_line(withheld), "is not complete" in withheld.err) == (2, True, True)
    assert run("gallery", "receipt", 3, "--state", state).code == 0


def test_an_export_holds_everything_of_one_person_and_nothing_of_another(
    site: Site, duetface: Run, tmp_path: Path
) -> None:
    """For the person who asks; in a private file or on standard output; audited."""
    client = site.client(Role.OPERATOR)
    client.create_subject("alice", "Alice A.", consent())
    client.add_template("alice", probe_of(1))
    enrol(client, "somebody-else", 2)  # base64 may hold any short name by chance
    assert duetface("export", "alice", "--out", tmp_path / "alice.json").code == 0
    path = tmp_path / "alice.json"
    held = json.loads(path.read_text("utf-8"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert held["subject"]["label"] == "Alice A."
    assert [len(held[key]) for key in ("templates", "embeddings")] == [1, 1]
    assert "somebody-else" not in path.read_text("utf-8")
    again = json.loads(duetface("export", "alice").out)
    assert [row["action"] for row in again["audit"]][-2:] == ["subject_exported", "subject_exported"]


@pytest.fixture
def people_of_the_shipped_space(site: Site) -> None:
    """Two captures each of alice and bob, and mallory who is alice again, in the space that is shipped."""
    space = ModelCatalogue(models_root()).default_space().digest
    with open_gallery(site.realm.state) as gallery:
        for name, number, captures in (("alice", 1, (0, 1)), ("bob", 2, (0, 1)), ("mallory", 1, (2,))):
            gallery.create_subject(name, "", stored_consent(), OPERATOR)
            for capture in captures:
                quality = 0.1 if (name, capture) == ("bob", 1) else 0.9
                gallery.add_template(name, space, person(number, capture, dimension=512), quality, "d", OPERATOR)


@pytest.mark.usefixtures("people_of_the_shipped_space")
def test_a_check_names_doubles_and_poor_pictures_and_draws_the_scores(duetface: Run, tmp_path: Path) -> None:
    """What an operator should look at, beside how many false matches the rate would explain."""
    told = duetface("check", "--json")
    assert told.code == 1, told.err
    found = json.loads(told.out)
    assert found["alike"] == [["alice", "mallory"]]
    assert (found["templates"], found["impostor_pairs"], found["false_matches"]) == (5, 8, 2)
    assert found["false_matches_expected"] == pytest.approx(8 * found["fmr"])
    assert [subject for subject, _ in found["poor"]] == ["bob"]
    assert (found["templates_compared"], found["people_compared"], found["people"]) == (5, 3, 3)
    sampled = duetface("check", "--compare", 3, "--seed", 5)
    assert re.search(r"compared: [1-3] template\(s\) of [12] people out of 3, drawn with --seed 5", sampled.out)
    assert "compared:" not in duetface("check").out
    for option, value in (("--compare", 1), ("--seed", -1)):
        refused = duetface("check", option, value)
        assert (refused.code, option in refused.err, "Traceback" in refused.err) == (2, True, False)
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'duetface[report]'")
    drawn = duetface("check", "--plot", tmp_path / "scores.png")
    assert "alike: alice and mallory" in drawn.out
    assert (tmp_path / "scores.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    refused = duetface("check", "--plot", tmp_path / "scores.nothing")
    assert (refused.code, one_line(refused), "--plot" in refused.err) == (2, True, True)


def test_without_a_service_everything_works_as_well(run: Run, tmp_path: Path) -> None:
    """The state folder is enough; a memory that is not there need not be searched, one that was named must be."""
    state = tmp_path / "state"
    create_state(state, "still.example", datetime.now(UTC), address="127.0.0.1:9")
    with open_gallery(state) as gallery:
        gallery.create_subject("alice", "", stored_consent(), OPERATOR)
        gallery.add_template("alice", SPACE, person(1, dimension=512), 0.9, "d", OPERATOR)
    erased = run("gallery", "erase", "alice", "--yes", "--state", state, "--out", tmp_path / "r.json")
    assert (erased.code, "followed by no running service" in erased.out) == (0, True)
    proven = run("gallery", "prove-erased", tmp_path / "r.json", "--state", state)
    assert (proven.code, "no memory was searched: no service answers at 127.0.0.1:9" in proven.err) == (0, True)
    named = run("gallery", "prove-erased", tmp_path / "r.json", "--state", state, "--service", "127.0.0.1:9")
    assert (named.code, one_line(named)) == (4, True)
    missing = run("gallery", "prove-erased", tmp_path / "r.json", tmp_path / "nowhere.db", "--state", state)
    assert (missing.code, "is no file, and no folder with files" in missing.err) == (2, True)
    nothing = run("gallery", "prove-erased", tmp_path / "nowhere.json", "--state", state)
    assert (nothing.code, one_line(nothing), "nowhere.json: No such file" in nothing.err) == (2, True, True)


def test_a_snapshot_is_opened_to_be_searched(run: Run, tmp_path: Path) -> None:
    """It is sealed: as a file it would show nothing.  A copy from before is found, the one from after is clean."""
    state = tmp_path / "state"
    create_state(state, "still.example", datetime.now(UTC), address="127.0.0.1:9")
    with open_gallery(state) as operator:
        realm, keys = operator._realm.name, operator._realm.vault._keys
        operator.create_subject("alice", "", stored_consent(), OPERATOR)
        operator.add_template("alice", SPACE, person(1, dimension=512), 0.9, "d", OPERATOR)
    options = GalleryOptions(snapshot_path=state / "gallery.snapshot")
    with Gallery.open(str(state / "gallery.db"), realm, keys, lambda: datetime.now(UTC), options) as gallery:
        gallery.maintenance.write_snapshot()
    shutil.copy(state / "gallery.snapshot", tmp_path / "copy")
    assert run("gallery", "erase", "alice", "--yes", "--state", state, "--out", tmp_path / "r.json").code == 0
    assert not (state / "gallery.snapshot").exists()
    prove = ("gallery", "prove-erased", tmp_path / "r.json", "--state", state, "--json")
    with Gallery.open(str(state / "gallery.db"), realm, keys, lambda: datetime.now(UTC), options) as gallery:
        gallery.maintenance.write_snapshot()
    clean = run(*prove)
    assert (clean.code, str(state / "gallery.snapshot") in json.loads(clean.out)["searched"]) == (0, True)
    found = run(*prove, tmp_path / "copy")
    assert (found.code, list(json.loads(found.out)["found"])) == (1, [str(tmp_path / "copy")])


@pytest.mark.parametrize("command", [("check",), ("erase", "x", "--yes"), ("purge", "--yes"), ("rotate-keys",)])
def test_a_lost_key_or_database_is_named_in_one_line(
    site: Site, run: Run, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """Before anything is done."""
    state = tmp_path / "broken"
    create_state(state, "broken.example", datetime.now(UTC))
    (state / "keys" / "realm.key").rename(tmp_path / "realm.key")
    refused = run("gallery", *command, "--state", state)
    assert (refused.code, one_line(refused), "realm.key is missing" in refused.err) == (2, True, True)
    (tmp_path / "realm.key").rename(state / "keys" / "realm.key")
    (state / "keys" / "realm.key").write_bytes(bytes(32))
    refused = run("gallery", *command, "--state", state)
    assert (refused.code, "was made with another realm key" in refused.err) == (2, True)
    (state / "gallery.db").unlink()
    refused = run("gallery", *command, "--state", state)
    assert (refused.code, one_line(refused), "gallery.db is missing" in refused.err) == (2, True, True)
