"""What a log line may hold."""

import io
import json
import logging
from collections.abc import Iterator

import numpy as np
import pytest

from recognition_service.logs import configure_logging


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the service would write to standard error."""
    root = logging.getLogger()
    before, level = root.handlers, root.level
    stream = io.StringIO()
    configure_logging(stream)
    root.setLevel(logging.INFO)
    yield stream
    root.handlers, root.level = before, level


def test_a_line_is_json_with_event_level_logger_and_keys(lines: io.StringIO) -> None:
    """A machine reads it."""
    logging.getLogger("recognition_service.test").info("serving", extra={"address": "127.0.0.1:1", "subjects": 3})
    line = json.loads(lines.getvalue())
    assert (line["event"], line["level"], line["logger"]) == ("serving", "info", "recognition_service.test")
    assert (line["address"], line["subjects"]) == ("127.0.0.1:1", 3)
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    "secret", [b"\x01\x02nonce", np.ones(512, np.float32), {"embedding": [0.1]}, [b"key"], (b"key",)]
)
def test_bytes_arrays_and_objects_are_never_rendered(lines: io.StringIO, secret: object) -> None:
    """That is how faces, templates, nonces and keys look here, and a slip must not write one to a disk."""
    logging.getLogger("x").info("slip", extra={"value": secret})
    rendered = json.loads(lines.getvalue())["value"]
    assert rendered in ("<bytes>", "<ndarray>", "<dict>", ["<bytes>"])
