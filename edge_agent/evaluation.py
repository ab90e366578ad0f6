"""Measure error rates on one's own people: enrol over gRPC, identify over gRPC, count.

Nothing is measured that a real device would not meet: pictures go through the same Protector, the same contract and
the same service as a decision at a door, into a scratch partition that is dropped afterwards.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from duetface.client import Client, Consent
from duetface.errors import ConfigError
from duetface.metrics import OperatingPoint, Rate, SearchScores, search_scores
from duetface.types import Decision, Outcome
from edge_agent.enrolment import Enrolment, is_picture, judge, pictures_of
from edge_agent.pipeline import Protector

SWEPT_FPIR = (0.05, 0.02)
Progress = Callable[[str, int, int], None]


@dataclass
class Tally:
    """Counts of a run.

    own, strangers: as in SearchScores.  missed: known probes without a usable face.
    accepted_*: decisions of the service at its own threshold.
    """

    pictures: int = 0
    unusable: int = 0
    subjects: int = 0
    templates: int = 0
    not_enrolled: list[str] = field(default_factory=list)
    refusals: dict[str, int] = field(default_factory=dict)
    own: list[float] = field(default_factory=list)
    missed: int = 0
    accepted_own: int = 0
    accepted_other: int = 0
    strangers: list[float] = field(default_factory=list)
    accepted_strangers: int = 0

    def refuse(self, reason: str) -> None:
        """Count one picture of which no face could be used."""
        self.unusable += 1
        self.refusals[reason] = self.refusals.get(reason, 0) + 1

    @property
    def scores(self) -> SearchScores:
        """What the thresholds are swept over."""
        return search_scores(self.own, self.missed, self.strangers)


class Evaluation:
    """One run against one service, in a scratch partition of its own."""

    def __init__(
        self, client: Client, enroller: Protector, protector: Protector, partition: str, now: datetime
    ) -> None:
        """client: of a certificate that is operator and auditor.  enroller, protector: for references and probes."""
        consent = Consent(purpose="evaluation", text_version="duetface evaluate", given_at=now)
        self._client = client
        self._protector = protector
        self._partition = partition
        self._enrolment = Enrolment(client, enroller, consent, partition)
        self.tally = Tally()

    def run(self, known: Path, strangers: Path, enroll_per_subject: int, progress: Progress) -> Tally:
        """Enrol, identify, drop the partition.  progress: told the step, how many are done, and of how many.

        Raises ConfigError for folders that cannot answer the question.
        """
        people, unknown = pictures_of(known), _strangers(strangers)
        if enroll_per_subject < 1 or not any(len(p) > enroll_per_subject for p in people.values()):
            raise ConfigError(f"{known}: nobody has more than {enroll_per_subject} pictures, so nobody could be found")
        try:
            self._enrol(people, enroll_per_subject, progress)
            probes = [(name, p) for name, pictures in people.items() for p in pictures[enroll_per_subject:]]
            for done, (name, picture) in enumerate(probes):
                progress("known people", done, len(probes))
                self._known(name, picture)
            for done, picture in enumerate(unknown):
                progress("strangers", done, len(unknown))
                self._stranger(picture)
        finally:
            if self.tally.subjects:
                self._client.drop_partition(self._partition)
        return self.tally

    def _enrol(self, people: dict[str, list[Path]], count: int, progress: Progress) -> None:
        for done, (name, pictures) in enumerate(people.items()):
            progress("enrolment", done, len(people))
            results = [self._enrolment.add(name, picture) for picture in pictures[:count]]
            self.tally.pictures += len(results)
            made = sum(bool(result.template_id) for result in results)
            for result in results:
                if result.refusal:
                    self.tally.refuse(_kind(result.refusal))
            self.tally.templates += made
            self.tally.subjects += made > 0
            if not made:
                self.tally.not_enrolled.append(name)

    def _known(self, name: str, picture: Path) -> None:
        decision = self._identify(picture)
        if decision is None:
            self.tally.missed += 1
            return
        found = decision.nearest_subject_id == name
        self.tally.own.append(_similarity(decision) if found else -math.inf)
        if decision.outcome is Outcome.ACCEPT:
            self.tally.accepted_own += found
            self.tally.accepted_other += not found

    def _stranger(self, picture: Path) -> None:
        decision = self._identify(picture)
        if decision is not None:
            self.tally.strangers.append(_similarity(decision))
            self.tally.accepted_strangers += decision.outcome is Outcome.ACCEPT

    def _identify(self, picture: Path) -> Decision | None:
        """The service's decision, or None where no face could be used."""
        self.tally.pictures += 1
        probe, refusal = judge(self._protector, picture)
        if probe is None:
            self.tally.refuse(_kind(refusal))
            return None
        decision = self._client.identify(probe, purpose="evaluation", partition=self._partition)
        if decision.outcome is Outcome.RETRY:
            self.tally.refuse(decision.reason)
            return None
        return decision


def report(tally: Tally, fmr: float, threshold: float | None) -> dict[str, object]:
    """The figures of a run, for JSON.

    fmr, threshold: of the service's operating point; None if the threshold is not known here.
    tpir counts pictures of which no face could be used as misses; fpir and fnmr leave them out; fta counts them.
    fnmr is measured by search: another subject in the first place counts as a non-match, so it is an upper limit.
    """
    probes = len(tally.own) + tally.missed
    rates = {
        "tpir": Rate(tally.accepted_own, probes),
        "fpir": Rate(tally.accepted_strangers, len(tally.strangers)),
        "fnmr": Rate(len(tally.own) - tally.accepted_own, len(tally.own)),
    }
    unusable = Rate(tally.unusable, tally.pictures)
    figures: dict[str, object] = {
        "fta": unusable.value,
        "fta_interval": unusable.interval,
        "operating": {
            "fmr": fmr,
            "threshold": threshold,
            **{name: rate.value for name, rate in rates.items()},
            **{f"{name}_interval": rate.interval for name, rate in rates.items()},
            "misidentified": tally.accepted_other,
        },
    }
    for wanted in SWEPT_FPIR:
        figures |= _swept(f"tpir_at_fpir_{wanted}", tally.scores.at_fpir(wanted))
    figures["counts"] = {
        "subjects": tally.subjects,
        "templates": tally.templates,
        "not_enrolled": tally.not_enrolled,
        "known_probes": probes,
        "strangers": len(tally.strangers),
        "pictures": tally.pictures,
        "unusable": tally.refusals,
    }
    return figures


def _swept(name: str, point: OperatingPoint) -> dict[str, object]:
    threshold = point.threshold if math.isfinite(point.threshold) else None
    return {name: point.tpir.value, f"{name}_interval": point.tpir.interval, f"{name}_threshold": threshold}


def _similarity(decision: Decision) -> float:
    if decision.cosine_similarity is None:
        raise ConfigError("the service sent no similarity: the certificate needs the auditor's role as well")
    return decision.cosine_similarity


def _strangers(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if is_picture(path)) if folder.is_dir() else []
    if not found:
        raise ConfigError(f"{folder} holds no pictures of strangers: expected *.jpg (or png, webp, bmp, tiff) below it")
    return found


def _kind(refusal: str) -> str:
    """A RetryReason as it is; whatever else was said of a file as one kind, without its name."""
    return refusal if refusal.isidentifier() else "unreadable"
