"""`duetface evaluate`: error rates on one's own people."""

import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import output
from cli.connection import connect, identity_folder
from cli.device import load_protector
from cli.options import Json, State
from duetface.errors import ConfigError

if TYPE_CHECKING:
    from duetface.client import Client, ServiceInfo
    from edge_agent.evaluation import Tally
    from recognition_service.config import Models

EXAMPLE = "Example: `duetface evaluate --known people/ --strangers others/ --enroll-per-subject 2 --json`"
EVALUATOR = "evaluator"

Known = Annotated[Path, typer.Option("--known", help="A folder with one folder of pictures a person.")]
Strangers = Annotated[Path, typer.Option("--strangers", help="A folder with pictures of people who are not enrolled.")]
PerSubject = Annotated[int, typer.Option("--enroll-per-subject", min=1, help="Pictures to enrol of each, by name.")]
Plot = Annotated[Path | None, typer.Option("--plot", help="Write a DET plot: .png, .svg or .pdf.")]
Service = Annotated[
    str | None,
    typer.Option(
        "--service",
        metavar="HOST:PORT",
        help="A running service; needs the operator's and the auditor's role.",
        show_default="one of its own, in a temporary state folder",
    ),
]
Space = Annotated[
    str | None,
    typer.Option(
        "--space",
        metavar="NAME",
        help="Template space of its own service: see `duetface models list`.",
        show_default="the shipped default",
    ),
]
Identity = Annotated[
    Path | None,
    typer.Option("--identity", help="Certificate that is operator and auditor.", show_default="clients/evaluator"),
]


def evaluate(
    known: Known,
    strangers: Strangers,
    enroll_per_subject: PerSubject = 2,
    plot: Plot = None,
    space: Space = None,
    service: Service = None,
    identity: Identity = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Enrol the first pictures of each person, identify the rest and the strangers, count the errors.

    Everything goes over gRPC into a scratch partition that is dropped afterwards.
    TPIR counts pictures without a usable face as misses; fta is their share.
    """
    from edge_agent.evaluation import Evaluation, report

    if service is not None and space is not None:
        raise ConfigError("--space is for a service of its own: a running --service has its space in config.toml")
    with _own_service(space) if service is None else _running_service(state, service, identity) as client:
        info = client.info()
        protectors = load_protector(info, for_enrolment=True), load_protector(info)
        evaluation = Evaluation(client, *protectors, f"evaluate-{secrets.token_hex(6)}", datetime.now(UTC))
        with _progress() as progress:
            tally = evaluation.run(known, strangers, enroll_per_subject, progress)
    figures = report(tally, info.fmr, _threshold(info))
    if plot is not None:
        _plot(tally, plot)
    if as_json:
        output.result_json(figures)
    else:
        _tell(figures)


def _running_service(state: Path | None, service: str, identity: Path | None) -> "Client":
    folder = identity_folder(identity, state, EVALUATOR)
    if identity is None and not folder.is_dir():
        raise ConfigError(
            f"{folder} is not there: duetface certs issue --role operator --role auditor --name {EVALUATOR}"
        )
    return connect(state, service, folder)


@contextmanager
def _own_service(space: str | None) -> "Iterator[Client]":
    """A service of its own on a free loopback port, gone with its state folder afterwards.

    space: name of a shipped template space; None for the default's.
    """
    from duetface.authority import Authority
    from duetface.client import Client
    from duetface.identity import ClientIdentity, Role
    from recognition_service.config import load_config
    from recognition_service.models import load_network
    from recognition_service.running import RunningService
    from recognition_service.state import create_state

    with tempfile.TemporaryDirectory(prefix="duetface-") as temporary:
        state, now = Path(temporary) / "state", datetime.now(UTC)
        create_state(state, "evaluation", now)
        folder = state / "clients" / EVALUATOR
        Authority.load(state / "ca").issue_client([Role.OPERATOR, Role.AUDITOR], EVALUATOR, folder, now)
        config = load_config(state)
        if space is not None:
            config = config.model_copy(update={"models": _models_of(space)})
        with (
            RunningService(config, load_network(config.models)) as running,
            Client.connect(running.address, ClientIdentity.load(folder)) as client,
        ):
            yield client


def _models_of(space: str) -> "Models":
    from duetface.manifest import ModelCatalogue, models_root
    from recognition_service.config import Models

    catalogue = ModelCatalogue(models_root())
    known = {found.name: found for found in catalogue.spaces()}
    if space not in known:
        raise ConfigError(f"--space {space!r} is not there; there are {sorted(known)}")
    return Models(split=catalogue.split_by_digest(known[space].split_digest).name, space=space)


def _threshold(info: "ServiceInfo") -> float | None:
    """The similarity at the service's FMR, if its template space is installed here as well."""
    from duetface.manifest import ModelCatalogue, models_root
    from gallery.calibration import Calibration

    for space in ModelCatalogue(models_root()).spaces():
        if space.digest == info.space_digest:
            return Calibration.from_dict(space.calibration).threshold_at(info.fmr)
    return None


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("")
        yield lambda step, done, total: bar.update(task, description=step, completed=done, total=total)


def _plot(tally: "Tally", path: Path) -> None:
    from duetface.metrics import Rate
    from edge_agent.det_plot import plot_det

    scores = tally.scores
    fpir = Rate(tally.accepted_strangers, len(scores.strangers))
    plot_det(scores, (fpir, Rate(tally.accepted_own, len(scores.own) + scores.missed)), path)
    output.note(f"DET plot in {path}")


def _tell(figures: dict[str, Any]) -> None:
    operating, counts = figures["operating"], figures["counts"]
    at = "unknown here" if operating["threshold"] is None else f"{operating['threshold']:.3f}"
    output.result(f"{counts['subjects']} people enrolled with {counts['templates']} pictures; "
                  f"{counts['known_probes']} probes of them, {counts['strangers']} of strangers")  # fmt: skip
    rows = [("FTA, no usable face", _rate(figures["fta"], figures["fta_interval"]), "")]
    for name in ("tpir", "fpir", "fnmr"):
        rate = _rate(operating[name], operating[f"{name}_interval"])
        rows.append((f"{name.upper()} as decided", rate, f"FMR {operating['fmr']:g}, threshold {at}"))
    for name in ("tpir_at_fpir_0.05", "tpir_at_fpir_0.02"):
        threshold = figures[f"{name}_threshold"]
        swept = "no threshold reaches it" if threshold is None else f"threshold swept to {threshold:.3f}"
        rows.append((name.replace("_", " "), _rate(figures[name], figures[f"{name}_interval"]), swept))
    output.result_table(("rate", "value [95 % interval]", "at"), rows)


def _rate(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.4f} [{interval[0]:.4f}, {interval[1]:.4f}]"
