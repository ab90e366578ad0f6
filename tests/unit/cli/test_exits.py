"""How an error reads: what is wrong, and what to do, each once."""

import pytest

from cli.exits import ExitCode, exit_code, one_line
from duetface.errors import ConfigError, ConsentError, ServiceError


def refused(message: str, reason: str) -> ServiceError:
    """A refusal of a service at h:1."""
    return ServiceError(f"h:1 refused: {message}", status="PERMISSION_DENIED", reason=reason)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            refused("ListSubjects is for operator: use another certificate", "role"),
            "h:1 refused: ListSubjects is for operator: use another certificate "
            "(`duetface certs issue --role ROLE --name NAME` makes one, --identity names it)",
        ),
        (
            refused("the certificate was revoked: ask the operator for a new one", "revoked"),
            "h:1 refused: the certificate was revoked: ask the operator for a new one (`duetface certs issue`)",
        ),
        (
            refused("the service is shutting down: reconnect", "draining"),
            "h:1 refused: the service is shutting down: reconnect",
        ),
        (
            refused("internal error: see the service's log", "gallery"),
            "h:1 refused: internal error: see the service's log",
        ),
        (
            refused("the subject is under a legal hold: lift the hold first", "no_consent"),
            "h:1 refused: the subject is under a legal hold: lift the hold first",
        ),
        (
            ConsentError("alice is new: say which consent was given"),
            "alice is new: say which consent was given (--consent VERSION, the text that the person agreed to)",
        ),
        (ConfigError("two\n  lines"), "two lines"),
    ],
)
def test_an_error_says_what_to_do_once(error: ServiceError | ConfigError, line: str) -> None:
    """The service has said it already: twice reads as if they were two things."""
    assert one_line(error) == line


def test_a_refusal_of_another_machine_is_told_from_a_slip_here() -> None:
    """4 is looked into there, 2 is mended here."""
    assert exit_code(refused("no", "role")) is ExitCode.REFUSED
    assert exit_code(ConfigError("no")) is ExitCode.MISUSE
    assert exit_code(ConsentError("no")) is ExitCode.MISUSE
