"""Logs of the running service: JSON lines on standard error, fixed event names plus keys.

Modules log through the standard library with `extra`; here it is rendered.  Values that could hold a face,
a template or a key are never rendered, whoever logs them.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

Event = MutableMapping[str, Any]

# What an event may hold.  Bytes and arrays are how probes, templates, nonces and keys look in this code.
_PLAIN = (str, int, float, bool, type(None))

CHATTY = ("alembic", "asyncio", "grpc")  # they tell at "info" what concerns nobody who runs a service


def configure_logging(stream: TextIO | None = None) -> None:
    """Render every record of the process as one JSON line.  stream: standard error unless given.

    The level of the root logger is left as it is.
    """
    before: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        only_plain_values,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    logging.getLogger().handlers = [handler]
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)


def only_plain_values(_logger: object, _name: str, event: Event) -> Event:
    """Put the kind in place of every value that is no plain text or number, also inside lists."""
    return {key: value if key.startswith("_") else _plain(value) for key, value in event.items()}


def _plain(value: object) -> object:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return f"<{type(value).__name__}>"
