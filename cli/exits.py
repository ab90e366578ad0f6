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

# A refusal says itself what to do; here is the command that does it, by ErrorReason, where there is one.
COMMANDS = {
    "role": "`duetface certs issue --role ROLE --name NAME` makes one, --identity names it",
    "foreign_certificate": "`duetface certs issue` makes one, --identity names it",
    "revoked": "`duetface certs issue`",
    "unknown_split": "`duetface models list` shows what is installed here",
    "template_limit": "`duetface gallery show SUBJECT`, then `duetface gallery delete SUBJECT --template ID`",
}
NEW_SUBJECT = "--consent VERSION, the text that the person agreed to"

# Which extra brings a package that may not be installed.
EXTRAS = {
    **dict.fromkeys(("alembic", "faiss", "grpc_reflection", "sqlalchemy", "structlog"), "service"),
    **dict.fromkeys(("PIL", "ai_edge_litert", "av", "cv2"), "edge"),
    "onnxruntime": "edge,service",
    "pkcs11": "hsm",
    "pyarrow": "milvus",
    "matplotlib": "report",
}


def exit_code(error: DuetFaceError) -> ExitCode:
    """The exit code of an error: 4 when another machine or device said no, 2 when the caller can mend it here."""
    return ExitCode.REFUSED if isinstance(error, REFUSALS) else ExitCode.MISUSE


def one_line(error: DuetFaceError) -> str:
    """The error for a person, on one line, with the command that mends it where one is known."""
    line = " ".join(str(error).split())
    # A consent that the service misses can be of another kind, e.g. a legal hold; ours is always the option's.
    command = NEW_SUBJECT if isinstance(error, ConsentError) else COMMANDS.get(getattr(error, "reason", ""))
    return f"{line} ({command})" if command else line
