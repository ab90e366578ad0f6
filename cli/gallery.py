"""`duetface gallery`: who is enrolled."""

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from cli import gallery_move, output
from cli.connection import connect, enrolment_log
from cli.options import Identity, Json, Service, State
from duetface.errors import ConfigError

app = typer.Typer(
    no_args_is_help=True,
    help="Who is enrolled: list, show and delete.",
    epilog="Examples: `duetface gallery list`, `duetface gallery show alice`, `duetface gallery delete alice`",
)

app.command("move", epilog=gallery_move.EXAMPLE)(gallery_move.move)

SubjectId = Annotated[str, typer.Argument(metavar="SUBJECT", help="The subject's id.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command("list", epilog="Example: `duetface gallery list --json`")
def list_(state: State = None, service: Service = None, identity: Identity = None, as_json: Json = False) -> None:
    """List every subject with its consent and number of templates."""
    with connect(state, service, identity) as client:
        subjects = list(client.subjects())
    if as_json:
        output.result_json([asdict(subject) for subject in subjects])
        return
    rows = [
        (one.subject_id, one.label, one.template_count, one.consent.purpose, one.consent.text_version,
         one.consent.expires_at or "never")
        for one in subjects
    ]  # fmt: skip
    output.result_table(("subject", "label", "templates", "purpose", "consent", "expires"), rows)
    output.note(f"{len(subjects)} subject(s)")


@app.command(epilog="Example: `duetface gallery show alice`")
def show(
    subject: SubjectId, state: State = None, service: Service = None, identity: Identity = None, as_json: Json = False
) -> None:
    """Show one subject: consent and templates, never their values."""
    with connect(state, service, identity) as client:
        found = client.subject(subject)
        templates = list(client.templates(subject))
    if as_json:
        output.result_json({**asdict(found), "templates": [asdict(template) for template in templates]})
        return
    consent = found.consent
    output.result(f"{found.subject_id}  {found.label}".rstrip())
    output.result(f"enrolled {found.created_at:%Y-%m-%d %H:%M} UTC")
    output.result(
        f"consent  {consent.purpose}, text {consent.text_version}, given {consent.given_at:%Y-%m-%d}, "
        f"until {f'{consent.expires_at:%Y-%m-%d}' if consent.expires_at else 'it is withdrawn'}"
    )
    rows = [
        (one.template_id, f"{one.quality:.2f}", one.device, one.created_at, one.space_digest.hex()[:12])
        for one in templates
    ]
    output.result_table(("template", "quality", "device", "added", "space"), rows)


@app.command(epilog="Examples: `duetface gallery delete alice`, `duetface gallery delete alice --template ID --yes`")
def delete(
    subject: SubjectId,
    template: Annotated[str | None, typer.Option("--template", help="Only this template.")] = None,
    yes: Yes = False,
    state: State = None,
    service: Service = None,
    identity: Identity = None,
    as_json: Json = False,
) -> None:
    """Delete a subject with templates, consent and keys, or one template of it."""
    what = f"template {template} of {subject}" if template else f"{subject} with everything that is held"
    _ask(f"Delete {what}?", yes)
    with connect(state, service, identity) as client:
        if template is None:
            revision = client.delete_subject(subject)
        else:
            if template not in {one.template_id for one in client.templates(subject)}:
                raise ConfigError(f"{subject} has no template {template}: `duetface gallery show {subject}`")
            revision = client.delete_template(template)
    if as_json:
        output.result_json({"subject_id": subject, "template_id": template, "revision": revision})
    else:
        output.result(f"deleted {what}; revision {revision}")
    log = enrolment_log(state, identity)  # a digest of a picture must not outlive what was made of it
    if template is None:
        log.forget(subject)
    else:
        log.forget_template(template)


def _ask(question: str, yes: bool) -> None:
    """Go on only when the person said so."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError("deleting needs --yes where nobody can be asked")
    if not typer.confirm(question, err=True):
        raise ConfigError("nothing was deleted")
