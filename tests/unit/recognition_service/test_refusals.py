"""Every error has one status and one reason, as the contract's comments say."""

import re
from pathlib import Path

import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode

from duetface import errors
from duetface.errors import DuetFaceError, GalleryError, OverloadedError
from duetface.v1 import errors_pb2
from recognition_service import refusals
from recognition_service.refusals import TABLE, NonceError, reason_name, refusal_of, rich_status

PROTO = Path(__file__).resolve().parents[3] / "protos" / "duetface" / "v1" / "errors.proto"


def test_each_reason_has_the_status_that_the_contract_states() -> None:
    """The proto's comment is what a client in another language is written from."""
    rows = re.findall(r"// ([A-Z_]+): [^\n]*\n  (ERROR_REASON_[A-Z_]+) =", PROTO.read_text(encoding="utf-8"))
    stated = {name: status for status, name in rows}
    ours = {errors_pb2.ErrorReason.Name(refusal.reason): refusal.status.name for refusal in TABLE.values()}
    assert ours == stated


def test_every_error_that_can_reach_a_caller_has_a_row() -> None:
    """A class without a row would be an INTERNAL that says nothing."""
    local_only = {"DuetFaceError", "ConfigError", "ModelError", "CaptureError", "DeviceError", "ServiceError"}
    for module in (errors, refusals):
        for name, kind in vars(module).items():
            if isinstance(kind, type) and issubclass(kind, DuetFaceError) and name not in local_only:
                assert refusal_of(_instance(kind)).reason != errors_pb2.ERROR_REASON_UNSPECIFIED, name


def _instance(kind: type[DuetFaceError]) -> DuetFaceError:
    return OverloadedError("full", 1.0) if kind is OverloadedError else kind("message")


def test_the_nearest_class_counts() -> None:
    """A nonce is not a replay, though both are errors of sequence."""
    assert reason_name(NonceError("unknown")) == "ERROR_REASON_NONCE"
    assert reason_name(errors.SequenceError("late")) == "ERROR_REASON_REPLAY"


def test_an_overload_says_how_long_to_wait() -> None:
    """Back-off without a figure is a guess."""
    status = rich_status(OverloadedError("full", 1.25))
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert (info.domain, info.reason) == ("duetface", "ERROR_REASON_OVERLOADED")
    assert retry.retry_delay.ToMilliseconds() == 1250


@pytest.mark.parametrize("error", [GalleryError("/var/lib/duetface/gallery.db: the disk is full"), DuetFaceError("x")])
def test_an_internal_error_does_not_tell_the_caller_about_our_files(error: DuetFaceError) -> None:
    """Paths and causes are for the operator's log."""
    status = rich_status(error)
    assert status.code == StatusCode.INTERNAL.value[0]
    assert status.message == "internal error: see the service's log"
