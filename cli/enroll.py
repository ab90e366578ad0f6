"""`duetface enroll`: add people to the gallery, from pictures, a folder, or a camera."""

import shlex
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import output
from cli.connection import connect, enrolment_log
from cli.device import camera_frames, load_protector
from cli.exits import ExitCode
from cli.options import Identity, Json, Service, State
from duetface.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from duetface.client import Client, Consent
    from edge_agent.enrolment import Enrolled, Enrolment
    from edge_agent.enrolment_log import EnrolmentLog
    from edge_agent.pipeline import Protector

SubjectId = Annotated[
    str | None, typer.Argument(metavar="SUBJECT", help="A pseudonymous id, e.g. a badge number.", show_default=False)
]
Pictures = Annotated[
    list[Path] | None, typer.Argument(metavar="PICTURES", help="Two or more are best.", show_default=False)
]
FromDir = Annotated[Path | None, typer.Option("--from-dir", help="A folder with one folder of pictures a person.")]
Camera = Annotated[str | None, typer.Option("--camera", help="Take the pictures here: 0, /dev/video2, rtsp://...")]
Count = Annotated[int, typer.Option("--count", min=1, max=20, help="Captures to take with --camera.")]
Label = Annotated[str, typer.Option("--label", help="A name for people; may be left out.")]
ConsentVersion = Annotated[
    str | None, typer.Option("--consent", metavar="VERSION", help="Version of the text that the person agreed to.")
]
ConsentPurpose = Annotated[str, typer.Option("--consent-purpose", help="What the templates may be used for.")]
ConsentDays = Annotated[int | None, typer.Option("--consent-days", min=1, help="Days until the consent ends.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Judge the pictures, send nothing.")]

EXAMPLES = (
    "Examples: `duetface enroll alice a.jpg b.jpg --consent 2026-01`, "
    "`duetface enroll alice --camera 0 --consent 2026-01`, "
    "`duetface enroll --from-dir people/ --consent 2026-01 --dry-run`"
)
WARNINGS = {
    "far_from_own": "does not look like this subject's other pictures. Is it the same person?",
    "close_to_other": "looks like another subject. Is this person enrolled already?",
    "low_quality": "is of low quality. A better one would be recognised more surely.",
}


def enroll(
    subject: SubjectId = None,
    pictures: Pictures = None,
    from_dir: FromDir = None,
    camera: Camera = None,
    count: Count = 3,
    label: Label = "",
    consent: ConsentVersion = None,
    consent_purpose: ConsentPurpose = "access",
    consent_days: ConsentDays = None,
    dry_run: DryRun = False,
    state: State = None,
    service: Service = None,
    identity: Identity = None,
    as_json: Json = False,
) -> None:
    """Enrol one person from pictures or a camera, or everybody of a folder.

    A new subject needs --consent: the version of the text that the person agreed to.
    A picture that cannot be used is told and passed over; one that is missing makes the exit code 2.
    What leaves this machine is one protected probe a picture, never the picture.
    """
    people = _people(subject, pictures, from_dir, camera)
    if dry_run:
        results = _rehearse(people)
    else:
        given = _consent(consent, consent_purpose, consent_days)
        with connect(state, service, identity) as client:
            info = client.info()  # is it there: before a person poses or a network is loaded
            protector = load_protector(info, for_enrolment=True)
            if camera is not None:
                results = _with_camera(client, protector, given, str(subject), label, camera, count)
            else:
                log = None if from_dir is None else enrolment_log(state, identity)
                results = _with_pictures(client, protector, given, people, label, log)
    told = _tell(results, as_json, dry_run)
    missing = any(not picture.is_file() for pictures in people.values() for picture in pictures)
    raise typer.Exit(ExitCode.MISUSE if missing else told)


def _people(
    subject: str | None, pictures: "Sequence[Path] | None", from_dir: Path | None, camera: str | None
) -> dict[str, list[Path]]:
    """Whom to enrol from which pictures; raises ConfigError unless exactly one way was asked for."""
    ways = (bool(pictures), from_dir is not None, camera is not None)
    if sum(ways) != 1 or (subject is None) != (from_dir is not None):
        raise ConfigError("expected SUBJECT PICTURES..., or SUBJECT --camera 0, or --from-dir FOLDER")
    if from_dir is not None:
        from edge_agent.enrolment import pictures_of

        return pictures_of(from_dir)
    return {str(subject): list(pictures or ())}


def _consent(version: str | None, purpose: str, days: int | None) -> "Consent | None":
    from duetface.client import Consent

    if version is None:
        return None
    now = datetime.now(UTC)
    return Consent(purpose, version, now, now + timedelta(days=days) if days else None)


def _rehearse(people: dict[str, list[Path]]) -> "list[Enrolled]":
    from edge_agent.enrolment import rehearse

    return _watched(rehearse(people, load_protector(for_enrolment=True)), sum(map(len, people.values())))


def _with_pictures(
    client: "Client",
    protector: "Protector",
    consent: "Consent | None",
    people: dict[str, list[Path]],
    label: str,
    log: "EnrolmentLog | None",
) -> "list[Enrolled]":
    """log: of a folder, whose run can go on where it was broken off."""
    from edge_agent.enrolment import Enrolment, enrol_folder

    enrolment = Enrolment(client, protector, consent)
    total = sum(map(len, people.values()))
    if log is not None:
        return _watched(enrol_folder(people, enrolment, client, log), total)
    return _watched(_one_by_one(people, enrolment, label), total)


def _one_by_one(people: dict[str, list[Path]], enrolment: "Enrolment", label: str) -> "Iterable[Enrolled]":
    for subject, pictures in people.items():
        for picture in pictures:
            yield enrolment.add(subject, picture, label)


def _watched(results: "Iterable[Enrolled]", total: int) -> "list[Enrolled]":
    """Collect the results: one line for each refused picture, a progress bar where somebody looks."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    collected = []
    with Progress(console=console, transient=True, disable=not sys.stderr.isatty() or total < 3) as progress:
        task = progress.add_task("enrolling", total=total)
        for one in results:
            collected.append(one)
            progress.advance(task)
            for line in _lines(one):
                console.print(line, markup=False)
    return collected


def _lines(one: "Enrolled") -> "Iterable[str]":
    if one.refusal:
        about_file = one.picture in one.refusal
        yield one.refusal if about_file else f"{one.picture}: refused, {one.refusal}"
    for warning in one.warnings:
        yield (
            f"{one.picture}: {WARNINGS.get(warning, warning)} "
            f"To take it back: duetface gallery delete {shlex.quote(one.subject_id)} --template {one.template_id}"
        )


def _tell(results: "list[Enrolled]", as_json: bool, dry_run: bool) -> ExitCode:
    from edge_agent.enrolment import subjects_without_template, summary

    without = subjects_without_template(results)
    if as_json:
        output.result_json({**summary(results), "subjects_without_usable_picture": without})
    else:
        counts = summary(results)
        if dry_run:
            output.result(f"{counts['usable']} usable, {counts['refused']} refused; nothing was sent")
        else:
            output.result(f"enrolled {counts['enrolled']}, skipped {counts['skipped']}, refused {counts['refused']}")
        for subject in without:
            output.note(f"{subject}: no usable picture")
    return ExitCode.RETRY if without else ExitCode.DONE


def _with_camera(
    client: "Client",
    protector: "Protector",
    consent: "Consent | None",
    subject: str,
    label: str,
    camera: str,
    count: int,
) -> "list[Enrolled]":
    from edge_agent.enrolment import Enrolment
    from edge_agent.guided import GuidedEnrolment

    guided = GuidedEnrolment(Enrolment(client, protector, consent), client, protector, output.note)
    with camera_frames(camera) as frames:
        return guided.run(subject, label, frames, count)
