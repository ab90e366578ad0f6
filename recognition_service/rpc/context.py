"""What the service reads of a gRPC call: whose certificate, how much time, and how to refuse it."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Protocol

import grpc

from duetface.errors import AccessError
from recognition_service.access import Caller
from recognition_service.clocks import Clocks


class Context(Protocol):
    """The part of grpc.aio.ServicerContext that is used here; grpc itself ships no types."""

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """What the TLS handshake found; "x509_pem_cert" holds the client's certificate."""

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline; None without one."""

    async def abort(self, code: grpc.StatusCode, details: str = "") -> NoReturn:
        """End the call with a status."""

    async def abort_with_status(self, status: Any) -> NoReturn:
        """End the call with a rich status."""


def certificates_of(context: Context) -> Sequence[bytes]:
    """The PEM of the certificates that the TLS handshake checked: one, or none."""
    return context.auth_context().get("x509_pem_cert", ())


def caller_of(context: Context) -> Caller:
    """Who calls.  Raises AccessError if there is no certificate, or it names nobody of DuetFace's."""
    certificates = certificates_of(context)
    if len(certificates) != 1:
        raise AccessError("the connection carries no client certificate: mutual TLS is required")
    return Caller.from_pem(bytes(certificates[0]))


def deadline_of(context: Context, longest_s: float, clocks: Clocks) -> float:
    """Monotonic seconds at which a call's answer is worth nothing; a caller without deadline gets the longest."""
    remaining_s = context.time_remaining()
    return clocks.monotonic_s() + (longest_s if remaining_s is None else min(longest_s, remaining_s))
