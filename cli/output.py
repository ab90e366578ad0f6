"""Results on standard output, everything else on standard error."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def result(text: str) -> None:
    """One line of a result on standard output."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def result_json(value: object) -> None:
    """A result as one line of JSON on standard output."""
    result(json.dumps(value, default=plain, ensure_ascii=False))


def result_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A result as a table on standard output, each cell whole when it is not a terminal."""
    console = Console(file=sys.stdout) if sys.stdout.isatty() else Console(file=sys.stdout, width=200)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else _cell(cell) for cell in row))
    console.print(table)


def note(text: str) -> None:
    """One line for a person on standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return str(value).replace("[", "\\[")  # rich would take brackets for markup


def plain(value: object) -> Any:
    """What JSON has no word for."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, frozenset | set | tuple):
        return sorted(value) if isinstance(value, frozenset | set) else list(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} does not go into JSON")
