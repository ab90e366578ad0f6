"""The guard before every RPC: certificate and role, then the rate of the certificate, then parsing.

One interceptor wraps the handlers of all services, health and reflection included, and turns every
error of ours into its status.  Requests arrive here as bytes, so nothing of a refused caller is parsed.
"""

import asyncio
import inspect
import logging
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from duetface.errors import (
    AccessError,
    ContractError,
    DuetFaceError,
    MessageError,
    OverloadedError,
    SequenceError,
    SignatureError,
)
from recognition_service.access import Gatekeeper
from recognition_service.admission import Admission
from recognition_service.audit import AuditTrail
from recognition_service.refusals import (
    DrainingError,
    FieldError,
    reason_name,
    refusal_of,
    rich_status,
)
from recognition_service.rpc.context import Context, caller_of, certificates_of

logger = logging.getLogger(__name__)

# A health watch may stay open as long as the client likes: it must not hold up the end.
OUR_METHODS = "/duetface."
RETRY_AFTER_S = 0.2  # about the time of a call under load

# What somebody tried that they should not have; an overload or a typing error of an operator is none of these.
AUDITED = (AccessError, SignatureError, SequenceError, MessageError, ContractError)


class InFlight:
    """Counts the calls and streams that run, and refuses new ones once the service drains.

    limit: of one certificate.  When it is reached the next call is refused with OverloadedError, so that one
    runaway client cannot take every place in the queue before the network.
    """

    def __init__(self, limit: int) -> None:
        """Nothing runs yet."""
        self.draining = False
        self._limit = limit
        self._running: Counter[str] = Counter()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def running(self) -> int:
        """Calls and streams of all certificates."""
        return self._running.total()

    async def idle(self) -> None:
        """Wait until nothing runs."""
        await self._idle.wait()

    @contextmanager
    def call(self, fingerprint: str) -> Iterator[None]:
        """One call of a certificate.  Raises DrainingError when the service shuts down, OverloadedError."""
        if self.draining:
            raise DrainingError("the service is shutting down: reconnect")
        if self._running[fingerprint] >= self._limit:
            raise OverloadedError(f"{self._limit} calls of this certificate run: wait for one to end", RETRY_AFTER_S)
        self._running[fingerprint] += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._running[fingerprint] -= 1
            self._running += Counter()  # drops certificates at zero
            if not self._running:
                self._idle.set()


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc ships no types
    """Wraps each handler with the checks of this module."""

    def __init__(
        self,
        gatekeeper: Gatekeeper,
        admission: Admission,
        audit: AuditTrail,
        in_flight: InFlight,
        clock_s: Callable[[], float],
    ) -> None:
        """clock_s: monotonic seconds."""
        self._gatekeeper = gatekeeper
        self._admission = admission
        self._audit = audit
        self._in_flight = in_flight
        self._clock_s = clock_s

    async def intercept_service(
        self,
        continuation: Callable[[Any], Awaitable[Any]],
        handler_call_details: Any,
    ) -> Any:
        """The guarded handler; None for a method that nobody serves, which gRPC answers with UNIMPLEMENTED."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        return self._guarded(handler_call_details.method, handler)

    def _guarded(self, method: str, handler: Any) -> Any:
        parse = handler.request_deserializer

        async def unary(raw: bytes, context: Context) -> Any:
            async with self._checked(method, context):
                return await handler.unary_unary(_parsed(parse, raw), context)

        async def server_stream(raw: bytes, context: Context) -> AsyncIterator[Any]:
            async with self._checked(method, context):
                async for answer in _answers(handler.unary_stream(_parsed(parse, raw), context)):
                    yield answer

        async def both_stream(raws: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
            async with self._checked(method, context):
                requests = self._checked_each(method, context, parse, raws)
                async for answer in _answers(handler.stream_stream(requests, context)):
                    yield answer

        # No service of ours takes a stream and gives one answer; such a method would stay without handler.
        make, guarded = {
            (False, False): (grpc.unary_unary_rpc_method_handler, unary),
            (False, True): (grpc.unary_stream_rpc_method_handler, server_stream),
            (True, True): (grpc.stream_stream_rpc_method_handler, both_stream),
        }[handler.request_streaming, handler.response_streaming]
        return make(guarded, request_deserializer=None, response_serializer=handler.response_serializer)

    @asynccontextmanager
    async def _checked(self, method: str, context: Context) -> AsyncIterator[None]:
        try:
            caller = caller_of(context)
            self._gatekeeper.check(method, caller)
            self._admission.admit(caller.peer.fingerprint, self._clock_s())
            fingerprint = caller.peer.fingerprint
            with self._in_flight.call(fingerprint) if method.startswith(OUR_METHODS) else nullcontext():
                yield
        except DuetFaceError as error:
            await self._refuse(method, context, error)
        except grpc.aio.AbortError:
            raise
        except NotImplementedError:  # a method of the contract that a servicer leaves out, e.g. Health/List
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{method} is not served here")
        except Exception as error:  # noqa: BLE001  # a defect of ours must end one call, not the service
            # The message of a foreign exception may hold anything, so only its kind and place are logged.
            frames = traceback.format_tb(error.__traceback__)
            logger.error("unexpected error", extra={"method": method, "kind": type(error).__name__, "frames": frames})
            await context.abort(grpc.StatusCode.INTERNAL, "internal error: see the service's log")

    async def _checked_each(
        self, method: str, context: Context, parse: Callable[[bytes], Any], raws: AsyncIterator[bytes]
    ) -> AsyncIterator[Any]:
        """The messages of a stream.  A certificate may be revoked while the stream is open, so each is checked."""
        caller = caller_of(context)
        async for raw in raws:
            self._gatekeeper.check(method, caller)
            yield _parsed(parse, raw)

    async def _refuse(self, method: str, context: Context, error: DuetFaceError) -> None:
        refusal = refusal_of(error)
        logger.info("refused", extra={"method": method, "status": refusal.status.name, "reason": reason_name(error)})
        if refusal.status is grpc.StatusCode.INTERNAL:
            logger.error("failed", extra={"method": method, "cause": str(error)})
        if isinstance(error, AUDITED):
            await self._audit.refusal(method, certificates_of(context), error)
        await context.abort_with_status(rpc_status.to_status(rich_status(error)))


def _parsed(parse: Callable[[bytes], Any], raw: bytes) -> Any:
    try:
        return parse(raw)
    except DecodeError as error:
        raise FieldError(
            "the request is not the message that this method takes: generate from the same protos"
        ) from error


async def _answers(answers: Any) -> AsyncIterator[Any]:
    """The answers of a handler in either form of gRPC: a generator, or a coroutine that writes by itself."""
    if inspect.isawaitable(answers):
        await answers
        return
    async for answer in answers:
        yield answer
