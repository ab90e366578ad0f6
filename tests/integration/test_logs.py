"""What a whole day of a service leaves in its log and in its audit: nothing of a face, no secret."""

import base64
import io
import json
import logging
from collections.abc import Iterator

import pytest

from duetface.identity import Role
from recognition_service.logs import configure_logging
from tests.fakes.network import ProjectionEmbedder, face_of, probe_of
from tests.integration.conftest import Site, Start, enrol
from tests.integration.raw import refused
from tests.integration.test_stream import Stream


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything down to debug."""
    root = logging.getLogger()
    before, level = root.handlers, root.level
    stream = io.StringIO()
    configure_logging(stream)
    root.setLevel(logging.DEBUG)
    yield stream
    root.handlers, root.level = before, level


def spellings(secret: bytes) -> list[str]:
    """How bytes may slip into a text."""
    return [secret.hex(), base64.b64encode(secret).decode(), repr(secret)[2:-1]]


def a_day(site: Site) -> list[bytes]:
    """A bit of everything; returns the bytes that must stay out of every text."""
    operator, caller = site.client(Role.OPERATOR), site.caller(Role.AGENT, name="door-1")
    enrol(operator, "alice", person=1)
    signed = caller.signed(probe_of(1, 5))
    caller.verify(signed)
    refused(lambda: caller.verify(signed))
    tampered = caller.signed(probe_of(1, 6))
    tampered.probe += b"\x00"
    refused(lambda: caller.verify(tampered))
    stream = Stream(caller).ready()
    stream.show(2, 0)
    stream.decision()
    stream.close()
    site.client(Role.OPERATOR, Role.AUDITOR, name="evaluator").identify(probe_of(3))
    (embedding,) = ProjectionEmbedder().embed([face_of(1, 5)])
    keys = [path.read_bytes() for path in (site.realm.state / "keys").glob("*.key")]
    return [signed.nonce, signed.signature[:24], signed.probe[40:72], stream.nonce, embedding.tobytes()[:24], *keys]


def test_nothing_biometric_and_no_secret_is_logged_or_audited(log: io.StringIO, start: Start) -> None:
    """Logs are copied to places that nobody guards; the audit is read by people who must not impersonate."""
    site = start()
    secrets = a_day(site)
    audit = site.client(Role.AUDITOR).audit(limit=1000)
    text = log.getvalue()
    assert "refused" in text
    for kept in (text, repr(audit)):
        assert "similarity" not in kept
        assert "BEGIN" not in kept  # no certificate, no key
        for secret in secrets:
            assert not any(spelling in kept for spelling in spellings(secret))


def test_every_log_line_is_json_with_an_event_and_no_subject(log: io.StringIO, start: Start) -> None:
    """Who came and went stands in the audit, which is guarded; a log is not."""
    a_day(start())
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    ours = [line for line in lines if line["logger"].startswith("recognition_service")]
    assert {line["event"] for line in ours} <= {"refused", "draining", "serving", "model terms"}
    assert "alice" not in log.getvalue()
