"""Enrol people from pictures: picture -> probe -> template, each refused picture with its reason.

Pictures are read, judged and encoded here, on the device; only probes go to the service.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from duetface.client import Client, Consent
from duetface.errors import CaptureError, ConfigError, ConsentError, ServiceError
from duetface.types import Probe
from edge_agent.enrolment_log import EnrolmentLog
from edge_agent.pipeline import Protector
from edge_agent.sources import PICTURE_SUFFIXES, read_picture


@dataclass(frozen=True)
class Enrolled:
    """What became of one picture.

    template_id: empty unless a template was made, or had been made before (skipped).
    refusal: why there is none: a RetryReason such as "no_face", or a line about the file.
    warnings: what an operator should look at, e.g. "far_from_own".
    """

    subject_id: str
    picture: str
    template_id: str = ""
    refusal: str = ""
    warnings: tuple[str, ...] = ()
    skipped: bool = False


def judge(protector: Protector, picture: Path) -> tuple[Probe | None, str]:
    """The probe of a picture, or None and why there is none."""
    try:
        outcome = protector.protect(read_picture(picture))
    except CaptureError as error:
        return None, str(error)
    probe = None if outcome.probe is None else as_of_now(outcome.probe)
    return probe, "" if outcome.reason is None else str(outcome.reason)


def as_of_now(probe: Probe) -> Probe:
    """The probe of a file, to be sent at once: its age would only tell how busy this machine is."""
    return replace(probe, captured_at_monotonic_ns=time.monotonic_ns())


class Enrolment:
    """Adds pictures to the gallery of one service."""

    def __init__(self, client: Client, protector: Protector, consent: Consent | None, partition: str = "") -> None:
        """consent: of subjects that are not there yet; without one only subjects that are there can get pictures."""
        self._client = client
        self._protector = protector
        self._consent = consent
        self._partition = partition
        self._there: set[str] = set()

    def add(self, subject_id: str, picture: Path, label: str = "") -> Enrolled:
        """Make one template of one picture; a subject that is new is added at its first usable picture.

        Raises ServiceError if the service is gone or refuses for another reason than the picture,
        ConsentError if the subject is new and no consent was given.
        """
        probe, refusal = judge(self._protector, picture)
        result = Enrolled(subject_id, str(picture), refusal=refusal)
        if probe is None:
            return result
        self._ensure_subject(subject_id, label)
        return self.add_probe(result, as_of_now(probe), label)

    def add_probe(self, result: Enrolled, probe: Probe, label: str = "") -> Enrolled:
        """As `add`, of a probe that is at hand; fills in what became of it."""
        self._ensure_subject(result.subject_id, label)
        try:
            added = self._client.add_template(result.subject_id, probe, self._partition)
        except ServiceError as error:
            if error.reason != "low_quality":
                raise
            return replace(result, refusal=error.reason)
        return replace(result, template_id=added.template_id, warnings=added.warnings)

    def _ensure_subject(self, subject_id: str, label: str) -> None:
        if subject_id in self._there:
            return
        try:
            self._client.subject(subject_id, self._partition)
        except ServiceError as error:
            if error.reason != "not_found":
                raise
            if self._consent is None:
                raise ConsentError(f"{subject_id} is new: say which consent was given") from error
            self._client.create_subject(subject_id, label, self._consent, self._partition)
        self._there.add(subject_id)


def pictures_of(folder: Path) -> dict[str, list[Path]]:
    """Subject id -> pictures by name, of a folder that holds one folder a person.

    Raises ConfigError if it is no folder or holds no such pictures.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder: expected one folder a person, with pictures in it")
    people = {
        person.name: sorted(file for file in person.iterdir() if is_picture(file))
        for person in sorted(folder.iterdir())
        if person.is_dir()
    }
    found = {name: pictures for name, pictures in people.items() if pictures}
    if not found:
        raise ConfigError(f"{folder} holds no pictures: expected FOLDER/PERSON/*.jpg (or png, webp, bmp, tiff)")
    return found


def is_picture(path: Path) -> bool:
    """Whether the file's name says that it is a picture."""
    return path.is_file() and path.suffix.lower() in PICTURE_SUFFIXES


def enrol_folder(
    people: dict[str, list[Path]], enrolment: Enrolment, client: Client, log: EnrolmentLog
) -> Iterator[Enrolled]:
    """Enrol every picture, one result each; what the log and the service both know of is skipped."""
    for subject_id, pictures in people.items():
        held: set[str] = set()
        if log.knows(subject_id):
            held = _templates_held(client, subject_id)
            log.keep_only(subject_id, held)
        for picture in pictures:
            before = log.template_of(subject_id, picture)
            if before in held:
                yield Enrolled(subject_id, str(picture), template_id=before, skipped=True)
                continue
            result = enrolment.add(subject_id, picture)
            if result.template_id:
                log.write(subject_id, picture, result.template_id)
            yield result


def rehearse(people: dict[str, list[Path]], protector: Protector) -> Iterator[Enrolled]:
    """Judge every picture and send nothing."""
    for subject_id, pictures in people.items():
        for picture in pictures:
            yield Enrolled(subject_id, str(picture), refusal=judge(protector, picture)[1])


def summary(results: list[Enrolled]) -> dict[str, object]:
    """Counts and every result, for JSON."""
    return {
        "enrolled": sum(bool(one.template_id) and not one.skipped for one in results),
        "skipped": sum(one.skipped for one in results),
        "refused": sum(bool(one.refusal) for one in results),
        "usable": sum(not one.refusal for one in results),
        "results": [asdict(one) for one in results],
    }


def subjects_without_template(results: list[Enrolled]) -> list[str]:
    """Subjects of whom no picture was usable."""
    everybody = dict.fromkeys(one.subject_id for one in results)
    return [name for name in everybody if not any(r.subject_id == name and not r.refusal for r in results)]


def _templates_held(client: Client, subject_id: str) -> set[str]:
    try:
        return {template.template_id for template in client.templates(subject_id)}
    except ServiceError as error:
        if error.reason != "not_found":
            raise
        return set()
