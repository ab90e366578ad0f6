"""Every refusal: which error becomes which gRPC status and which machine-readable reason.

The errors below are narrower cases of `duetface.errors` that only the service tells apart.
`TABLE` is the one place where an error class meets a status; the nearest class of an error counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from duetface.errors import (
    AccessError,
    ConsentError,
    ContractError,
    DuetFaceError,
    ExistsError,
    GalleryError,
    MessageError,
    NotFoundError,
    OverloadedError,
    SequenceError,
    SignatureError,
    TemplateLimitError,
)
from duetface.v1 import errors_pb2

ERROR_DOMAIN = "duetface"


class NonceError(SequenceError):
    """A nonce is unknown, spent, expired, or was handed to another certificate."""


class ReplayError(SequenceError):
    """A sequence was seen before under this nonce."""


class StaleError(SequenceError):
    """A capture is older than the realm allows."""


class RoleError(AccessError):
    """The certificate's roles may not call this method."""


class RevokedError(AccessError):
    """The certificate was revoked or has expired since the handshake."""


class FieldError(MessageError):
    """A field other than a face is missing, too long or out of range."""


class StreamOrderError(MessageError):
    """The messages of a stream came in a wrong order."""


class QualityError(ContractError):
    """The capture's quality is below the enrolment policy."""


class RevisionError(DuetFaceError):
    """The asked revision was not reached in time."""


class DrainingError(DuetFaceError):
    """The service is shutting down, or the stream reached its maximum age."""


class StartingError(DuetFaceError):
    """The service listens, but does not know everybody yet."""


@dataclass(frozen=True)
class Refusal:
    """What a caller gets: the status of gRPC and the reason of google.rpc.ErrorInfo."""

    status: StatusCode
    reason: "errors_pb2.ErrorReason.ValueType"


TABLE: Mapping[type[DuetFaceError], Refusal] = {
    RoleError: Refusal(StatusCode.PERMISSION_DENIED, errors_pb2.ERROR_REASON_ROLE),
    RevokedError: Refusal(StatusCode.PERMISSION_DENIED, errors_pb2.ERROR_REASON_REVOKED),
    AccessError: Refusal(StatusCode.PERMISSION_DENIED, errors_pb2.ERROR_REASON_FOREIGN_CERTIFICATE),
    SignatureError: Refusal(StatusCode.UNAUTHENTICATED, errors_pb2.ERROR_REASON_SIGNATURE),
    NonceError: Refusal(StatusCode.ABORTED, errors_pb2.ERROR_REASON_NONCE),
    StaleError: Refusal(StatusCode.ABORTED, errors_pb2.ERROR_REASON_STALE),
    SequenceError: Refusal(StatusCode.ABORTED, errors_pb2.ERROR_REASON_REPLAY),
    FieldError: Refusal(StatusCode.INVALID_ARGUMENT, errors_pb2.ERROR_REASON_INVALID_FIELD),
    StreamOrderError: Refusal(StatusCode.INVALID_ARGUMENT, errors_pb2.ERROR_REASON_STREAM_ORDER),
    MessageError: Refusal(StatusCode.INVALID_ARGUMENT, errors_pb2.ERROR_REASON_MALFORMED_FACE),
    QualityError: Refusal(StatusCode.FAILED_PRECONDITION, errors_pb2.ERROR_REASON_LOW_QUALITY),
    ContractError: Refusal(StatusCode.FAILED_PRECONDITION, errors_pb2.ERROR_REASON_UNKNOWN_SPLIT),
    ConsentError: Refusal(StatusCode.FAILED_PRECONDITION, errors_pb2.ERROR_REASON_NO_CONSENT),
    NotFoundError: Refusal(StatusCode.NOT_FOUND, errors_pb2.ERROR_REASON_NOT_FOUND),
    ExistsError: Refusal(StatusCode.ALREADY_EXISTS, errors_pb2.ERROR_REASON_ALREADY_EXISTS),
    OverloadedError: Refusal(StatusCode.RESOURCE_EXHAUSTED, errors_pb2.ERROR_REASON_OVERLOADED),
    TemplateLimitError: Refusal(StatusCode.RESOURCE_EXHAUSTED, errors_pb2.ERROR_REASON_TEMPLATE_LIMIT),
    RevisionError: Refusal(StatusCode.UNAVAILABLE, errors_pb2.ERROR_REASON_REVISION_NOT_REACHED),
    DrainingError: Refusal(StatusCode.UNAVAILABLE, errors_pb2.ERROR_REASON_DRAINING),
    StartingError: Refusal(StatusCode.UNAVAILABLE, errors_pb2.ERROR_REASON_STARTING),
    GalleryError: Refusal(StatusCode.INTERNAL, errors_pb2.ERROR_REASON_GALLERY),
}


def refusal_of(error: DuetFaceError) -> Refusal:
    """The row of the nearest class; INTERNAL without a reason for an error that no caller should see."""
    for kind in type(error).__mro__:
        if kind in TABLE:
            return TABLE[kind]
    return Refusal(StatusCode.INTERNAL, errors_pb2.ERROR_REASON_UNSPECIFIED)


def reason_name(error: DuetFaceError) -> str:
    """The reason as ErrorInfo and the audit hold it, e.g. "ERROR_REASON_NONCE"."""
    return errors_pb2.ErrorReason.Name(refusal_of(error).reason)


def rich_status(error: DuetFaceError) -> status_pb2.Status:
    """The google.rpc.Status of an error: message, ErrorInfo and, for an overload, RetryInfo."""
    refusal = refusal_of(error)
    details = [_packed(error_details_pb2.ErrorInfo(reason=reason_name(error), domain=ERROR_DOMAIN))]
    if isinstance(error, OverloadedError):
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(error.retry_after_s * 1000))
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    # What an INTERNAL error says concerns the operator's log, not the caller.
    message = "internal error: see the service's log" if refusal.status is StatusCode.INTERNAL else str(error)
    return status_pb2.Status(code=refusal.status.value[0], message=message, details=details)


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
