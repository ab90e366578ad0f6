"""The `duetface` command."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from cli import (
    agent,
    audit,
    certs,
    consent,
    decide,
    doctor,
    enroll,
    evaluate,
    gallery,
    gallery_upgrade,
    models,
    service,
    unlock,
)
from cli.exits import EXTRAS, ExitCode, exit_code, one_line
from duetface.errors import DuetFaceError

app = typer.Typer(
    name="duetface",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # its locals could hold a picture or a key
    rich_markup_mode="markdown",
    help="Face authentication whose pictures never leave the device.",
    epilog="Exit codes: 0 done or accepted, 1 rejected, 2 misuse, 3 no usable face, 4 service or device not there, "
    "or the request refused.",
)
app.command("init", epilog="Example: `duetface init --realm hq --host faces.hq.example`")(service.init)
app.command("serve", epilog="Example: `duetface serve --listen 0.0.0.0:50061`")(service.serve)
app.command("enroll", epilog=enroll.EXAMPLES)(enroll.enroll)
app.command("verify", epilog="Example: `duetface verify alice photo.jpg`")(decide.verify)
app.command("identify", epilog="Example: `duetface identify photo.jpg --json`")(decide.identify)
app.add_typer(agent.app, name="agent")
gallery.app.add_typer(gallery_upgrade.app, name="upgrade")
app.add_typer(gallery.app, name="gallery")
app.add_typer(consent.app, name="consent")
app.command("unlock", epilog=unlock.EXAMPLES)(unlock.unlock)
app.add_typer(certs.app, name="certs")
app.add_typer(audit.app, name="audit")
app.add_typer(models.app, name="models")
app.command("evaluate", epilog=evaluate.EXAMPLE)(evaluate.evaluate)
app.command("doctor", epilog="Example: `duetface doctor --json`")(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        from duetface import __version__

        sys.stdout.write(f"duetface {__version__}\n")
        raise typer.Exit


@app.callback()
def duetface(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Face authentication whose pictures never leave the device."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns its exit code."""
    try:
        app(args=list(argv) if argv is not None else None, prog_name="duetface")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except DuetFaceError as error:
        sys.stderr.write(f"duetface: {one_line(error)}\n")
        return exit_code(error)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        sys.stderr.write(f"duetface: {error.name} is not installed: pip install 'duetface[{extra}]'\n")
        return ExitCode.MISUSE
    return ExitCode.DONE


def run() -> None:
    """Entry point of the console script."""
    # Our matrices are small: a second BLAS thread costs more than it saves, and on a busy device ten times so.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # gRPC writes lines of its own to standard error; whatever they say, our one line says it better.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        sys.exit(main())
    except Exception:  # noqa: BLE001  # Python's own exit code of a crash, 1, would read as "rejected"
        traceback.print_exc()
        sys.exit(ExitCode.CRASHED)
