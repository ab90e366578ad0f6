"""Writes docs/cli.md from the commands themselves: `make docs`; a test compares."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from cli.main import app

HEAD = """# The `duetface` command

Generated from `--help` by `make docs`.

Results go to standard output, everything else to standard error.
Every command that prints a result takes `--json`.

| exit code | meaning |
|---|---|
| 0 | done, or accepted |
| 1 | rejected; something was found that should not be there (`gallery prove-erased`, `gallery check`) |
| 2 | misuse: an argument, file, key or state folder is unusable |
| 3 | retry: no usable face |
| 4 | the service or device is not there, or the request was refused |
| 130 | stopped by Ctrl-C before the end; the same command goes on |

Shell completion: `duetface --install-completion`.
"""


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its full name, in the order of `--help`."""
    inner = getattr(command, "commands", {})
    if not inner or command.invoke_without_command:
        yield name, command
    for word, one in inner.items():
        yield from commands(one, f"{name} {word}")


def reference() -> str:
    """The whole page."""
    pages = [_page(name, command) for name, command in commands(typer.main.get_command(app), "duetface")]
    return "\n".join([HEAD, *pages]).rstrip() + "\n"


def command_names() -> list[str]:
    """Full names, such as "duetface gallery list"."""
    return [name for name, _ in commands(typer.main.get_command(app), "duetface")]


def examples() -> list[tuple[str, str]]:
    """Full name and examples of every command."""
    return [(name, command.epilog or "") for name, command in commands(typer.main.get_command(app), "duetface")]


def _page(name: str, command: Any) -> str:
    context = typer.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    lines = [f"## {name}", "", "```", usage, "```", "", *_paragraphs(command.help or ""), ""]
    rows = [row for parameter in command.params if (row := _row(parameter))]
    if rows:
        lines += ["| | |", "|---|---|", *rows, ""]
    if command.epilog:
        lines += [command.epilog, ""]
    return "\n".join(lines)


def _paragraphs(text: str) -> list[str]:
    """The help as it stands in the source: one sentence a line."""
    return [line.strip() for line in text.strip().splitlines()]


def _row(parameter: Any) -> str:
    """One argument or option as a row of a table."""
    if getattr(parameter, "hidden", False):
        return ""
    names = ", ".join(parameter.opts) if parameter.param_type_name == "option" else parameter.metavar or parameter.name
    words = [(parameter.help or "").strip()]
    shown = parameter.show_default
    if isinstance(shown, str):
        words.append(f"Default: {shown}.")
    elif shown and parameter.default not in (None, False, "", (), []) and not callable(parameter.default):
        words.append(f"Default: `{parameter.default}`.")
    if parameter.required:
        words.append("Required.")
    if parameter.envvar:
        words.append(f"Environment: `{parameter.envvar}`.")
    return f"| `{names}` | {' '.join(words)} |"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
