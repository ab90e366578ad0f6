"""How a command ends: one exit code and one clear line for each kind of error."""

from enum import IntEnum

from duetface.errors import (
    AccessError,
    ConsentError,
    ContractError,
    DeviceError,
    DuetFaceError,
    OverloadedError,
    ServiceError,
)


class ExitCode(IntEnum):
    """What the shell gets to see."""

    DONE = 0  # done, or accepted
    REJECTED = 1
    MISUSE = 2  # an argument, file, key or state folder is unusable
    RETRY = 3  # no usable face
    REFUSED = 4  # service or device not there, or the request was refused
    CRASHED = 70  # a bug of ours (EX_SOFTWARE)


REFUSALS = (ServiceError, DeviceError, ContractError, OverloadedError, AccessError)

# What a person can do about a refusal, by its ErrorReason.
NEXT_STEPS = {
    "role": "use a certificate that has the role: `duetface certs issue --role ROLE --name NAME`, then --identity",
    "foreign_certificate": "use a certificate of this realm: `duetface certs issue`, then --identity",
    "revoked": "ask the operator for a new certificate: `duetface certs issue`",
    "unknown_split": "install the same release on both ends; `duetface models list` shows the splits",
    "stale": "check that the device's clock is not stopped and the network is not too slow; `duetface doctor`",
    "overloaded": "wait a little and try again",
    "draining": "the service is shutting down; try again when it is back",
    "gallery": "see the log of the service",
    "no_consent": "add --consent VERSION, the text that the person agreed to",
    "template_limit": "remove an older template: `duetface gallery show SUBJECT`, then `gallery delete`",
    "low_quality": "take a sharper, brighter picture from the front",
    "already_exists": "choose another id, or add pictures to the one that is there with `duetface enroll`",
    "not_found": "`duetface gallery list` shows who is there",
}


# Which extra brings a package that may not be installed.
EXTRAS = {
    **dict.fromkeys(("alembic", "faiss", "grpc_reflection", "sqlalchemy", "structlog"), "service"),
    **dict.fromkeys(("PIL", "ai_edge_litert", "av", "cv2"), "edge"),
    "onnxruntime": "edge,service",
    "matplotlib": "report",
}


def exit_code(error: DuetFaceError) -> ExitCode:
    """The exit code of an error: 4 when another machine or device said no, 2 when the caller can mend it here."""
    return ExitCode.REFUSED if isinstance(error, REFUSALS) else ExitCode.MISUSE


def one_line(error: DuetFaceError) -> str:
    """The error for a person, on one line, with the next step where one is known."""
    line = " ".join(str(error).split())
    reason = "no_consent" if isinstance(error, ConsentError) else getattr(error, "reason", "")
    return f"{line} - {NEXT_STEPS[reason]}" if reason in NEXT_STEPS else line
