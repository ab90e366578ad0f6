"""The one error tree of DuetFace.

    DuetFaceError
    ├── ConfigError        a setting, file or key is unusable: refuse to start (CLI exit 2)
    ├── ModelError         a model file or manifest is missing, damaged or foreign: refuse to start (exit 2)
    ├── CaptureError       a picture or video cannot be read (exit 2); see also:
    │   └── DeviceError    a camera or stream is gone (exit 4)
    ├── ContractError      spec, model or space differ between the two ends (FAILED_PRECONDITION)
    ├── MessageError       a message is malformed: shape, length, value (INVALID_ARGUMENT)
    ├── SequenceError      replayed, late or foreign nonce or sequence (ABORTED)
    ├── SignatureError     a probe's signature does not verify (UNAUTHENTICATED)
    ├── AccessError        certificate, role or realm not allowed (PERMISSION_DENIED)
    ├── NotFoundError      no such subject or template, told to operators only (NOT_FOUND)
    ├── ExistsError        the subject is there already (ALREADY_EXISTS)
    ├── ConsentError       no valid consent for this purpose (FAILED_PRECONDITION)
    ├── TemplateLimitError the subject has as many templates as allowed (RESOURCE_EXHAUSTED)
    ├── OverloadedError    a bounded queue is full; retry later (RESOURCE_EXHAUSTED)
    ├── GalleryError       the store or an index cannot be trusted or written (INTERNAL)
    └── ServiceError       the service cannot be reached or refused the request (CLI exit 4)

A message says what was got, what was expected and what to do.
It never holds a pixel, an embedding, a name, a key or a similarity.
A face that does not match is a decision, not an error.
"""


class DuetFaceError(Exception):
    """Base of every error that DuetFace raises on purpose."""


class ConfigError(DuetFaceError):
    """A setting, a key file or a certificate is unusable."""


class ModelError(DuetFaceError):
    """A model file or its manifest is missing, damaged or of another kind."""


class CaptureError(DuetFaceError):
    """A picture or a video file cannot be read."""


class DeviceError(CaptureError):
    """A camera or a network stream is not there, or went away."""


class ContractError(DuetFaceError):
    """The two ends do not share the split or the template space that a message needs."""


class MessageError(DuetFaceError):
    """A message is malformed: a length, shape, range or value that its spec forbids."""


class SequenceError(DuetFaceError):
    """A nonce or sequence was seen before, is too old, or belongs to somebody else."""


class SignatureError(DuetFaceError):
    """A signature is absent or does not verify with the device's certificate."""


class AccessError(DuetFaceError):
    """The caller's certificate, role or realm does not allow this."""


class NotFoundError(DuetFaceError):
    """There is no such subject, template or partition."""


class ExistsError(DuetFaceError):
    """There is such a subject or partition already."""


class ConsentError(DuetFaceError):
    """There is no valid consent for what was asked."""


class TemplateLimitError(DuetFaceError):
    """The subject has as many templates of one space as the gallery allows."""


class OverloadedError(DuetFaceError):
    """A bounded queue is full; the caller should wait and try again."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        """retry_after_s: seconds to wait, sent to the peer as a retry delay."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class GalleryError(DuetFaceError):
    """The gallery's store or index is damaged, locked, full, or does not fit its keys."""


class ServiceError(DuetFaceError):
    """The recognition service cannot be reached, or refused the request."""

    def __init__(self, message: str, *, status: str = "UNAVAILABLE", reason: str = "") -> None:
        """status: the gRPC status name.  reason: the machine-readable ErrorReason, if one was sent."""
        super().__init__(message)
        self.status = status
        self.reason = reason
