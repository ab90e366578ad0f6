"""What the device's modules log, as lines for a person on standard error."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

# What every record has; the rest is what the call gave as `extra`.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class KeyValueFormatter(logging.Formatter):
    """The event, then what it is about as key=value; text with spaces in quotes.

    Only plain text and numbers are shown: bytes and arrays could hold a face or a key.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        """One line of a record."""
        pairs = (f"{key}={_shown(value)}" for key, value in vars(record).items() if key not in _USUAL)
        return " ".join((record.getMessage(), *pairs))


class ConsoleHandler(logging.Handler):
    """Writes above a status line that the same console shows, from any thread."""

    def __init__(self, console: Console) -> None:
        """console: on standard error."""
        super().__init__()
        self._console = console
        self.setFormatter(KeyValueFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        try:
            self._console.print(self.format(record), markup=False, highlight=False, soft_wrap=True)
        except Exception:  # noqa: BLE001  # a log line must not end what it tells of
            self.handleError(record)


@contextmanager
def logged_on(console: Console) -> Iterator[None]:
    """Show what is logged inside the block."""
    handler = ConsoleHandler(console)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def _shown(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if not value or set(value) & set(' "=\n\t') else value
    return str(value) if isinstance(value, int | float | None) else f"<{type(value).__name__}>"
