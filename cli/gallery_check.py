"""`duetface gallery check` and `export`: is the gallery healthy, and what is held about one person."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import output
from cli.connection import existing_state, local_actor, open_gallery
from cli.exits import ExitCode
from cli.options import Json, State, SubjectId

if TYPE_CHECKING:
    from gallery.checking import CheckReport

CHECK = "Examples: `duetface gallery check`, `duetface gallery check --plot scores.png --json`"
EXPORT = "Examples: `duetface gallery export alice --out alice.json`, `duetface gallery export alice`"


def check(
    fmr: Annotated[
        float | None,
        typer.Option("--fmr", help="False match rate to compare at.", show_default="config.toml's target_fmr"),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Write the genuine and impostor scores as a picture.")
    ] = None,
    compare: Annotated[
        int, typer.Option("--compare", min=2, help="Templates compared with one another at most.")
    ] = 20_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another one draws other people of a large realm.")] = 0,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Look a realm over: audit and templates whole, people told apart, pictures good enough.

    Tells pairs of subjects that resemble each other more than the false match rate allows (one person under two
    names, or a twin), templates far from all others of their subject, and poor ones.
    Opens every template and compares every pair of them.  Pairs grow with the square: of more templates than
    `--compare`, those of a random sample of people are compared, and it says so.
    Exit code 0: nothing to look at.  1: pairs or far templates were told.
    """
    from gallery.checking import Sample
    from recognition_service.config import load_config
    from recognition_service.models import load_network

    config = load_config(existing_state(state))
    network = load_network(config.models)
    point = network.operating_point(fmr if fmr is not None else config.decisions.target_fmr)
    with open_gallery(state) as gallery:
        sample = Sample(compare, seed)
        report = gallery.maintenance.check(network.space_digest, point.threshold, config.enrolment.warn_quality, sample)
    if plot is not None:
        from gallery.score_plot import plot_scores

        plot_scores(report.scores, point.threshold, plot)
    _tell(report, point.fmr, seed, as_json)
    raise typer.Exit(ExitCode.REJECTED if report.alike or report.odd else ExitCode.DONE)


def _tell(report: "CheckReport", fmr: float, seed: int, as_json: bool) -> None:
    impostors = int(report.scores.impostor.sum())
    told = {
        "audit_rows": report.audit_rows,
        "templates": report.templates,
        "people": report.people,
        "templates_compared": report.templates_compared,
        "people_compared": report.people_compared,
        "seed": seed,
        "fmr": fmr,
        "impostor_pairs": impostors,
        "false_matches": report.false_matches,
        "false_matches_expected": impostors * fmr,
    }
    found = {"alike": report.alike, "odd": report.odd, "poor": report.poor}
    if as_json:
        output.result_json({**told, **found})
        return
    output.result(f"{report.audit_rows} audit record(s), none removed or changed; {report.templates} template(s) open")
    if report.people_compared < report.people:
        output.result(
            f"compared: {report.templates_compared} template(s) of {report.people_compared} people out of "
            f"{report.people}, drawn with --seed {seed}; pairs with anybody else were not looked at"
        )
    for first, second in report.alike:
        output.result(f"alike: {first} and {second} (one person under two names?)")
    for subject, template in report.odd:
        output.result(f"far from its own: template {template} of {subject} (another person's picture?)")
    for subject, template in report.poor:
        output.result(f"poor: template {template} of {subject}")
    output.result(
        f"{report.false_matches} of {impostors} pairs of different people match at FMR {fmr:g}; "
        f"{impostors * fmr:.1f} would be expected"
    )


def export(
    subject: SubjectId,
    out: Annotated[Path | None, typer.Option("--out", help="File, mode 0600.", show_default="standard output")] = None,
    state: State = None,
) -> None:
    """Write what is held about a person as JSON: record, consents, templates, audit.  The export itself is audited.

    Embeddings are given as they are held: turned by the realm's secret, base64 of float32.
    """
    from duetface.identity import write_private

    with open_gallery(state) as gallery:
        held = gallery.maintenance.export(subject, local_actor())
    if out is None:
        output.result_json(held)
        return
    text = json.dumps(held, default=output.plain, ensure_ascii=False, indent=2)
    write_private(out, f"{text}\n".encode())
    output.note(f"written to {out}")
