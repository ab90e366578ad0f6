"""A progress bar for the long parts of preparing a data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def track(items: Sequence[Item], what: str) -> Iterable[Item]:
    """The items, with a bar on standard error that says what is done to them; silent where rich is not installed."""
    try:
        from rich.console import Console
        from rich.progress import track as with_bar
    except ImportError:  # a lent GPU machine: docs/training.md
        return items
    return with_bar(items, what, console=Console(stderr=True))
