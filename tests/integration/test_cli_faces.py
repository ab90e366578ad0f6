# ruff: noqa: F811  # fixtures are imported, then named as arguments
"""The command line on real pictures, with the shipped networks and a real service."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from duetface.authority import Authority
from duetface.identity import Role
from duetface.manifest import ModelCatalogue, models_root
from gallery.calibration import Calibration
from recognition_service.config import load_config
from recognition_service.models import load_network
from recognition_service.running import RunningService
from recognition_service.state import create_state
from tests.unit.cli.conftest import Ran, Run, _root_logger_as_before, run  # noqa: F401  # `run` is a fixture

Portraits = dict[str, Path]


@dataclass(frozen=True)
class Site:
    """A realm whose service runs with the shipped networks."""

    state: Path
    address: str

    def identity(self, *roles: Role) -> Path:
        """Folder of a certificate with these roles."""
        folder = self.state / "clients" / "-".join(roles)
        if not folder.exists():
            now = datetime.now(UTC)
            Authority.load(self.state / "ca").issue_client(list(roles), folder.name, folder, now)
        return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One service for the whole module: subjects of each test have names of their own."""
    state = tmp_path_factory.mktemp("site") / "state"
    create_state(state, "site.example", datetime.now(UTC))
    config = load_config(state)
    with RunningService(config, load_network(config.models)) as service:
        yield Site(state, service.address)


@pytest.fixture
def duetface(run: Run, site: Site) -> Run:
    """Runs a command against the service."""

    def ran(*arguments: object) -> Ran:
        return run(*arguments, "--state", site.state, "--service", site.address)

    return ran


def one_line(ran: Ran) -> bool:
    """Whether standard error holds one line, and no traceback."""
    return ran.err.count("\n") == 1 and "Traceback" not in ran.err


def no_face(folder: Path) -> Path:
    """A picture without a face."""
    path = folder / "wall.png"
    noise = np.random.default_rng(1).integers(90, 110, (300, 300, 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path


def test_the_enrolled_person_is_accepted_on_a_new_picture_and_another_is_rejected(
    duetface: Run, portraits: Portraits
) -> None:
    """The main job: exit code, words and JSON agree."""
    told = duetface("enroll", "main", portraits["obama"], portraits["obama3"], "--consent", "v1", "--json")
    assert (told.code, json.loads(told.out)["enrolled"]) == (0, 2)
    accepted = duetface("verify", "main", portraits["obama2"], "--json")
    assert accepted.code == 0
    decision = json.loads(accepted.out)
    assert (decision["outcome"], decision["subject_id"], decision["liveness"]) == ("accept", "main", "off")
    assert "cosine_similarity" not in decision
    assert duetface("identify", portraits["obama2"]).code == 0
    rejected = duetface("verify", "main", portraits["biden"])
    assert (rejected.code, rejected.out.split(":")[0]) == (1, "reject")
    assert duetface("identify", portraits["astronaut"], "--json").code == 1


def test_an_unknown_subject_gets_the_answer_of_one_that_does_not_match(duetface: Run, portraits: Portraits) -> None:
    """Who is enrolled is nobody's business."""
    duetface("enroll", "known", portraits["obama"], "--consent", "v1")
    stranger = duetface("verify", "known", portraits["biden"])
    unknown = duetface("verify", "nobody-of-that-name", portraits["biden"])
    assert (
        (stranger.code, stranger.out, stranger.err) == (unknown.code, unknown.out, unknown.err) == (1, unknown.out, "")
    )


def test_a_picture_without_a_face_is_a_retry_and_nothing_is_sent(
    duetface: Run, portraits: Portraits, tmp_path: Path
) -> None:
    """Exit 3, with what to do; the service must not hear of it."""
    before = duetface("audit", "tail", "-n", "1", "--json").out
    ran = duetface("identify", no_face(tmp_path), "--json")
    assert (ran.code, json.loads(ran.out)) == (3, {"outcome": "retry", "reason": "no_face"})
    assert "look at the camera" in duetface("verify", "anybody", no_face(tmp_path)).err
    assert duetface("audit", "tail", "-n", "1", "--json").out == before


def test_what_is_no_picture_is_misuse_in_one_line(duetface: Run, portraits: Portraits, tmp_path: Path) -> None:
    """A text, an empty file, a truncated picture, a missing file: exit 2, the file named."""
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "cut.jpg").write_bytes(portraits["biden"].read_bytes()[:5000])
    (tmp_path / "folder.jpg").mkdir()
    for name in ("text.jpg", "empty.jpg", "cut.jpg", "missing.jpg", "folder.jpg"):
        ran = duetface("identify", tmp_path / name)
        assert ran.code == 2, name
        assert one_line(ran), ran.err
        assert name in ran.err
    assert "is a folder" in ran.err
    assert "is a folder" in duetface("verify", "anybody", "").err
    nobody = duetface("verify", "", portraits["biden"])
    assert (nobody.code, one_line(nobody), "SUBJECT is empty" in nobody.err) == (2, True, True)


def test_a_new_subject_without_consent_is_refused(duetface: Run, portraits: Portraits) -> None:
    """A template without a permission must not come into being by leaving an option out."""
    ran = duetface("enroll", "unasked", portraits["obama"])
    assert (ran.code, one_line(ran)) == (2, True)
    assert "--consent" in ran.err
    assert duetface("gallery", "show", "unasked").code == 4


def test_enrolling_only_unusable_pictures_is_a_retry_with_a_line_for_each(duetface: Run, tmp_path: Path) -> None:
    """Nobody may think that they are enrolled when they are not, and no empty subject may stay behind."""
    (tmp_path / "text.jpg").write_text("not a picture")
    ran = duetface("enroll", "unlucky", no_face(tmp_path), tmp_path / "text.jpg", "--consent", "v1")
    assert ran.code == 3
    assert "wall.png: refused, no_face" in ran.err
    assert "text.jpg: not a picture" in ran.err
    assert "unlucky" not in duetface("gallery", "list", "--json").out


def test_a_missing_picture_is_told_and_the_others_go_on(duetface: Run, portraits: Portraits, tmp_path: Path) -> None:
    """What was sent before the slip must stand in the summary; exit 2, since a name was mistyped."""
    given = (portraits["obama"], tmp_path / "missing.jpg", portraits["obama2"], tmp_path)
    rehearsed = duetface("enroll", "slip", *given, "--dry-run")
    assert (rehearsed.code, rehearsed.out) == (2, "2 usable, 2 refused; nothing was sent\n")
    ran = duetface("enroll", "slip", *given, "--consent", "v1", "--json")
    told = json.loads(ran.out)
    assert (ran.code, told["enrolled"], told["refused"], len(told["results"])) == (2, 2, 2, 4)
    assert "missing.jpg: there is no such file" in ran.err
    assert f"{tmp_path}: is a folder" in ran.err


def test_a_folder_is_rehearsed_enrolled_and_gone_on_with(duetface: Run, portraits: Portraits, tmp_path: Path) -> None:
    """A long enrolment that breaks off must not begin anew, and a dry run must send nothing."""
    people = tmp_path / "people"
    for person, pictures in {"folder-a": ("obama", "obama2"), "folder-b": ("biden",)}.items():
        (people / person).mkdir(parents=True)
        for picture in pictures:
            shutil.copy(portraits[picture], people / person)
    shutil.copy(no_face(tmp_path), people / "folder-b")
    rehearsed = duetface("enroll", "--from-dir", people, "--dry-run")
    assert (rehearsed.code, "wall.png: refused" in rehearsed.err) == (0, True)
    assert "folder-a" not in duetface("gallery", "list").out
    first = json.loads(duetface("enroll", "--from-dir", people, "--consent", "v1", "--json").out)
    assert (first["enrolled"], first["skipped"], first["refused"]) == (3, 0, 1)
    again = json.loads(duetface("enroll", "--from-dir", people, "--consent", "v1", "--json").out)
    assert (again["enrolled"], again["skipped"], again["refused"]) == (0, 3, 1)
    assert duetface("gallery", "delete", "folder-a", "--yes").code == 0
    anew = json.loads(duetface("enroll", "--from-dir", people, "--consent", "v1", "--json").out)
    assert (anew["enrolled"], anew["skipped"]) == (2, 1)
    (log,) = Path(os.environ["XDG_STATE_HOME"]).rglob("enrolled-*.jsonl")
    for person in ("folder-a", "folder-b"):
        assert duetface("gallery", "delete", person, "--yes").code == 0
    assert not log.exists(), "a digest of a picture outlived the person's templates"


def test_exactly_one_way_of_enrolling_is_asked_for(duetface: Run, tmp_path: Path) -> None:
    """Options that contradict one another are refused, not ranked."""
    (tmp_path / "empty").mkdir()
    for arguments in ((), ("alice",), ("alice", "--from-dir", tmp_path), ("alice", "a.jpg", "--camera", "0")):
        ran = duetface("enroll", *arguments)
        assert (ran.code, one_line(ran)) == (2, True), arguments
    assert "holds no pictures" in duetface("enroll", "--from-dir", tmp_path / "empty").err
    assert "is no folder" in duetface("enroll", "--from-dir", tmp_path / "nowhere").err


def test_guided_enrolment_takes_back_what_does_not_agree(duetface: Run, portraits: Portraits, tmp_path: Path) -> None:
    """Somebody else who steps before the camera must not end up in this person's templates."""
    (tmp_path / "frames").mkdir()
    for index, name in enumerate(("obama", "obama2", "biden")):
        shutil.copy(portraits[name], tmp_path / "frames" / f"{index}.jpg")
    ran = duetface("enroll", "guided", "--camera", tmp_path / "frames", "--count", "3", "--consent", "v1", "--json")
    assert ran.code == 0
    results = json.loads(ran.out)["results"]
    assert [(bool(one["template_id"]), one["refusal"]) for one in results] == [
        (True, ""), (True, ""), (False, "far_from_own")
    ]  # fmt: skip
    assert "1 of 3 taken" in ran.err
    assert "taken back" in ran.err
    assert json.loads(duetface("gallery", "show", "guided", "--json").out)["template_count"] == 2


def test_the_gallery_is_listed_shown_and_cleared(duetface: Run, portraits: Portraits) -> None:
    """A privacy officer asks who is held, on which consent; and asks for it to go."""
    options = ("--consent", "2026-01", "--consent-purpose", "front door", "--consent-days", "30", "--label", "Badge 7")
    duetface("enroll", "officer", portraits["obama"], portraits["obama2"], *options)
    shown = json.loads(duetface("gallery", "show", "officer", "--json").out)
    assert (shown["label"], shown["template_count"], len(shown["templates"])) == ("Badge 7", 2, 2)
    consent = shown["consent"]
    assert (consent["purpose"], consent["text_version"]) == ("front door", "2026-01")
    expires, given = (datetime.fromisoformat(consent[key]) for key in ("expires_at", "given_at"))
    assert (expires - given).days == 30
    assert "2026-01" in duetface("gallery", "show", "officer").out
    assert duetface("gallery", "delete", "officer").code == 2, "without a terminal it needs --yes"
    template = shown["templates"][0]["template_id"]
    assert duetface("gallery", "delete", "officer", "--template", template, "--yes").code == 0
    assert duetface("gallery", "delete", "officer", "--template", template, "--yes").code == 2
    assert duetface("gallery", "delete", "officer", "--yes", "--json").code == 0
    gone = duetface("gallery", "show", "officer")
    assert (gone.code, one_line(gone)) == (4, True)


def test_every_decision_stands_in_the_audit(duetface: Run, portraits: Portraits) -> None:
    """`audit tail` is how an auditor sees who was let in, and by which certificate."""
    duetface("identify", portraits["biden"], "--purpose", "front door")
    (line,) = duetface("audit", "tail", "-n", "1", "--json").out.splitlines()
    record = json.loads(line)
    assert (record["event"], record["actor"], record["detail"]["purpose"]) == (
        "identify", "operator/operator", "front door"
    )  # fmt: skip
    assert "operator/operator" in duetface("audit", "tail").out


def test_an_absent_service_is_named_by_its_address(run: Run, site: Site, portraits: Portraits) -> None:
    """Exit 4 and the address tried: the first question is always "where did it look?"."""
    ran = run("identify", portraits["biden"], "--state", site.state, "--service", "127.0.0.1:9")
    assert (ran.code, one_line(ran)) == (4, True)
    assert "127.0.0.1:9" in ran.err
    for wrong in ("nowhere", "host:", "host:0", ":5", "host:99999"):
        assert run("gallery", "list", "--state", site.state, "--service", wrong).code == 2


def test_a_certificate_of_another_realm_or_role_is_refused(
    run: Run,
    site: Site,
    portraits: Portraits,
    tmp_path: Path,
) -> None:
    """Exit 4, in one line that says what to bring."""
    run("init", "--state", tmp_path / "other", "--realm", "other.example")
    foreign = tmp_path / "other" / "clients" / "operator"
    ran = run("gallery", "list", "--service", site.address, "--identity", foreign)
    assert (ran.code, one_line(ran)) == (4, True)
    for command in (("gallery", "list"), ("identify", portraits["biden"])):
        ran = run(*command, "--service", site.address, "--identity", site.state / "clients" / "auditor")
        assert (ran.code, one_line(ran)) == (4, True)
        assert "duetface certs issue --role" in ran.err


def test_a_revoked_certificate_is_refused_by_the_running_service(run: Run, site: Site) -> None:
    """A stolen device must be out at once, without a restart."""
    run("certs", "issue", "--role", "operator", "--name", "stolen", "--state", site.state)
    ask = ("gallery", "list", "--service", site.address, "--identity", site.state / "clients" / "stolen")
    assert run(*ask).code == 0
    run("certs", "revoke", "stolen", "--state", site.state)
    ran = run(*ask)
    assert (ran.code, "revoked" in ran.err) == (4, True)


def test_the_agent_prints_a_line_a_decision_and_checks_itself(
    run: Run,
    site: Site,
    portraits: Portraits,
    tmp_path: Path,
) -> None:
    """`agent` on a folder: the person who is enrolled is accepted by name; its doctor finds nothing."""
    run("enroll", "walker", portraits["obama"], portraits["obama3"], "--consent", "v1",
        "--state", site.state, "--service", site.address)  # fmt: skip
    (tmp_path / "frames").mkdir()
    shutil.copy(portraits["obama2"], tmp_path / "frames")
    device = ("--identity", site.identity(Role.AGENT), "--service", site.address, "--source", tmp_path / "frames")
    ran = run("agent", *device, "--subject", "walker")
    (line,) = ran.out.splitlines()
    decision = json.loads(line)
    assert (ran.code, decision["outcome"], decision["subject_id"]) == (0, "accept", "walker")
    assert decision["wire_bytes"] < 16_384
    assert run("agent", "doctor", *device).code == 0
    assert run("agent", "--source", "0", "--service", site.address).code == 2


def test_a_doctor_tells_what_is_wrong_here_from_what_is_wrong_there(
    run: Run,
    site: Site,
    duetface: Run,
    tmp_path: Path,
) -> None:
    """Exit 2 is mended here, exit 4 there."""
    assert duetface("doctor").code == 0
    absent = run("doctor", "--state", site.state, "--service", "127.0.0.1:9", "--json")
    assert absent.code == 4
    assert [f["name"] for f in json.loads(absent.out) if not f["ok"]] == ["service", "clock"]
    shutil.copytree(site.state, tmp_path / "copy")
    (tmp_path / "copy" / "keys" / "realm.key").chmod(0o644)
    spoilt = run("doctor", "--state", tmp_path / "copy", "--service", site.address)
    assert (spoilt.code, "chmod" in spoilt.out) == (2, True)


def people(folder: Path, portraits: Portraits) -> tuple[Path, Path]:
    """Known people and strangers, as `evaluate` takes them."""
    for person in ("obama", "second"):
        (folder / "known" / person).mkdir(parents=True)
    (folder / "strangers").mkdir()
    for name in ("obama", "obama2", "obama3"):
        shutil.copy(portraits[name], folder / "known" / "obama")
    shutil.copy(portraits["biden"], folder / "known" / "second" / "1.jpg")
    shutil.copy(portraits["biden"], folder / "known" / "second" / "2.jpg")
    shutil.copy(portraits["astronaut"], folder / "strangers")
    shutil.copy(no_face(folder), folder / "strangers")
    return folder / "known", folder / "strangers"


def test_evaluate_counts_as_a_person_would(run: Run, portraits: Portraits, tmp_path: Path) -> None:
    """Two people, two probes, one stranger and one unusable picture: every figure is known by hand."""
    known, strangers = people(tmp_path, portraits)
    ran = run("evaluate", "--known", known, "--strangers", strangers, "--enroll-per-subject", 1,
              "--plot", tmp_path / "det.png", "--json")  # fmt: skip
    assert ran.code == 0, ran.err
    figures = json.loads(ran.out)
    assert figures["counts"]["subjects"] == 2
    assert (figures["counts"]["known_probes"], figures["counts"]["strangers"]) == (3, 1)
    assert figures["fta"] == pytest.approx(1 / 7)
    assert figures["counts"]["unusable"] == {"no_face": 1}
    assert figures["operating"]["fmr"] == 1e-4
    assert -1 < figures["operating"]["threshold"] < 1
    assert figures["operating"]["fpir"] == 0
    assert figures["tpir_at_fpir_0.05"] >= figures["operating"]["tpir"] >= 1 / 3
    low, high = figures["tpir_at_fpir_0.02_interval"]
    assert low <= figures["tpir_at_fpir_0.02"] <= high
    assert (tmp_path / "det.png").read_bytes().startswith(b"\x89PNG")


def test_evaluate_compares_the_shipped_spaces(run: Run, portraits: Portraits, tmp_path: Path) -> None:
    """Another space has other thresholds; one that is not shipped, or a running service's, is refused by name."""
    known, strangers = people(tmp_path, portraits)
    evaluate = ("evaluate", "--known", known, "--strangers", strangers, "--enroll-per-subject", 1, "--json")
    ran = run(*evaluate, "--space", "r1-1-int8")
    assert ran.code == 0, ran.err
    shipped = ModelCatalogue(models_root())
    wanted = {space.name: Calibration.from_dict(space.calibration).threshold_at(1e-4) for space in shipped.spaces()}
    assert json.loads(ran.out)["operating"]["threshold"] == pytest.approx(wanted["r1-1-int8"])
    unknown = run(*evaluate, "--space", "r9")
    assert (unknown.code, "--space 'r9' is not there" in unknown.err) == (2, True)
    both = run(*evaluate, "--space", "l1-3", "--service", "127.0.0.1:1")
    assert (both.code, "--space is for a service of its own" in both.err) == (2, True)


def test_evaluate_leaves_a_running_service_as_it_was(
    run: Run,
    site: Site,
    duetface: Run,
    portraits: Portraits,
    tmp_path: Path,
) -> None:
    """The scratch partition is dropped, the run is audited, and one role alone is not enough."""
    known, strangers = people(tmp_path, portraits)
    evaluate = ("evaluate", "--known", known, "--strangers", strangers, "--enroll-per-subject", 1)
    before = duetface("gallery", "list", "--json").out
    both = site.identity(Role.OPERATOR, Role.AUDITOR)
    ran = run(*evaluate, "--service", site.address, "--identity", both)
    assert (ran.code, "TPIR as decided" in ran.out) == (0, True)
    assert duetface("gallery", "list", "--json").out == before
    assert "evaluation" in duetface("audit", "tail", "-n", "20", "--json").out
    alone = run(*evaluate, "--service", site.address, "--identity", site.state / "clients" / "operator")
    assert (alone.code, one_line(alone)) == (4, True)
    assert duetface("gallery", "list", "--json").out == before


def test_evaluate_refuses_folders_that_cannot_answer(run: Run, portraits: Portraits, tmp_path: Path) -> None:
    """One picture each leaves nobody to be found; an empty folder holds no stranger."""
    known, strangers = people(tmp_path, portraits)
    ran = run("evaluate", "--known", known, "--strangers", strangers, "--enroll-per-subject", 5)
    assert (ran.code, "nobody has more than 5" in ran.err) == (2, True)
    (tmp_path / "empty").mkdir()
    ran = run("evaluate", "--known", known, "--strangers", tmp_path / "empty")
    assert (ran.code, "no pictures of strangers" in ran.err) == (2, True)
