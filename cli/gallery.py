"""`duetface gallery`: who is enrolled."""

from dataclasses import asdict
from typing import Annotated

import typer

from cli import gallery_check, gallery_erasure, gallery_keys, gallery_move, gallery_proof, output
from cli.connection import connect, enrolment_log
from cli.options import Identity, Json, Service, State, SubjectId, Yes, agree
from duetface.errors import ConfigError

app = typer.Typer(
    no_args_is_help=True,
    help="Who is enrolled; and the gallery's upkeep: erasure with proof, keys, retention, hygiene.",
    epilog="Examples: `duetface gallery list`, `duetface gallery show alice`, `duetface gallery erase alice`",
)


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
    """Delete a subject with templates, consent and keys, or one template of it, by asking a service.

    It stops answering at once; its bytes go in the background.
    `erase` waits for that and proves it; `receipt REVISION` fetches the proof of this deletion later.
    """
    what = f"template {template} of {subject}" if template else f"{subject} with everything that is held"
    agree(f"Delete {what}?", yes, "deleting")
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


app.command("erase", epilog=gallery_erasure.ERASE)(gallery_erasure.erase)
app.command("receipt", epilog=gallery_erasure.RECEIPT)(gallery_erasure.receipt)
app.command("prove-erased", epilog=gallery_proof.EXAMPLE)(gallery_proof.prove_erased)
app.command("purge", epilog=gallery_erasure.PURGE)(gallery_erasure.purge)
app.command("hold", epilog=gallery_erasure.HOLD)(gallery_erasure.hold)
app.command("release", epilog=gallery_erasure.RELEASE)(gallery_erasure.release)
app.command("export", epilog=gallery_check.EXPORT)(gallery_check.export)
app.command("check", epilog=gallery_check.CHECK)(gallery_check.check)
app.command("rotate-keys", epilog=gallery_keys.EXAMPLE)(gallery_keys.rotate_keys)
app.command("move", epilog=gallery_move.EXAMPLE)(gallery_move.move)
