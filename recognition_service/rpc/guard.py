"""The guard before every RPC: certificate and role, then the rate of the certificate, then parsing.

One interceptor wraps the handlers of all services, health and reflection included, and turns every
error of ours into its status.  Requests arrive here as bytes, so nothing of a refused caller is parsed.
As long as a stream is open its certificate is checked again and again: it may be revoked or expire meanwhile.
"""

import asyncio
import inspect
import logging
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
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
    QualityError,
    StartingError,
    reason_name,
    refusal_of,
    rich_status,
)
from recognition_service.rpc.context import Context, caller_of, certificates_of

logger = logging.getLogger(__name__)

# Health and reflection are no work that the end has to wait for, and are answered while the service drains.
OUR_METHODS = "/duetface."
RETRY_AFTER_S = 0.2  # about the time of a call under load
RECHECK_S = 2.0  # how long a revoked certificate may keep a silent stream; a check reads one file's status

# What somebody tried that they should not have; an overload, a typing error of an operator or a blurred picture
# is none of these.
AUDITED = (AccessError, SignatureError, SequenceError, MessageError, ContractError)
NOT_AUDITED = (FieldError, QualityError)


class InFlight:
    """Counts the calls and streams that run, and refuses new ones once the service drains.

    limit: of one certificate.  When it is reached the next call is refused with OverloadedError, so that one
    runaway client cannot take every place in the queue before the network.
    """

    def __init__(self, limit: int) -> None:
        """Nothing runs yet.  starting, draining: set by the service, before and after the time that it serves."""
        self.starting = False
        self.draining = False
        self._limit = limit
        self._open: Counter[str] = Counter()
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def running(self) -> int:
        """Calls and streams of all certificates that the end waits for."""
        return self._running

    async def idle(self) -> None:
        """Wait until nothing runs."""
        await self._idle.wait()

    @contextmanager
    def call(self, fingerprint: str, *, awaited: bool = True) -> Iterator[None]:
        """One call of a certificate.  Raises StartingError, DrainingError when the service shuts down, OverloadedError.

        awaited: whether the end waits for it; what it does not wait for may begin while the service starts or drains.
        """
        if awaited and self.starting:
            raise StartingError("the service is still loading its gallery: try again, or ask another replica")
        if awaited and self.draining:
            raise DrainingError("the service is shutting down: reconnect")
        if self._open[fingerprint] >= self._limit:
            raise OverloadedError(f"{self._limit} calls of this certificate run: wait for one to end", RETRY_AFTER_S)
        self._count(fingerprint, 1, awaited=awaited)
        try:
            yield
        finally:
            self._count(fingerprint, -1, awaited=awaited)

    def _count(self, fingerprint: str, calls: int, *, awaited: bool) -> None:
        self._open[fingerprint] += calls
        if not self._open[fingerprint]:
            del self._open[fingerprint]  # certificates come and go; their entries must not stay
        self._running += calls if awaited else 0
        if self._running:
            self._idle.clear()
        else:
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
        max_age_s: float,
    ) -> None:
        """clock_s: monotonic seconds.  max_age_s: of a stream."""
        self._gatekeeper = gatekeeper
        self._admission = admission
        self._audit = audit
        self._in_flight = in_flight
        self._clock_s = clock_s
        self._max_age_s = max_age_s

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
            async with self._checked(method, context) as stay:
                async for answer in _answers(handler.unary_stream(_parsed(parse, raw), context), stay):
                    yield answer

        async def both_stream(raws: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
            async with self._checked(method, context) as stay:
                async for answer in _answers(handler.stream_stream(_requests(parse, raws, stay), context), stay):
                    yield answer

        # No service of ours takes a stream and gives one answer; such a method would stay without handler.
        make, guarded = {
            (False, False): (grpc.unary_unary_rpc_method_handler, unary),
            (False, True): (grpc.unary_stream_rpc_method_handler, server_stream),
            (True, True): (grpc.stream_stream_rpc_method_handler, both_stream),
        }[handler.request_streaming, handler.response_streaming]
        return make(guarded, request_deserializer=None, response_serializer=handler.response_serializer)

    @asynccontextmanager
    async def _checked(self, method: str, context: Context) -> AsyncIterator["_Stay"]:
        try:
            caller = caller_of(context)
            self._gatekeeper.check(method, caller)
            self._admission.admit(caller.peer.fingerprint, self._clock_s())
            with self._in_flight.call(caller.peer.fingerprint, awaited=method.startswith(OUR_METHODS)):
                yield _Stay(lambda: self._gatekeeper.check(method, caller), self._clock_s, self._max_age_s)
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

    async def _refuse(self, method: str, context: Context, error: DuetFaceError) -> None:
        refusal = refusal_of(error)
        logger.info("refused", extra={"method": method, "status": refusal.status.name, "reason": reason_name(error)})
        if refusal.status is grpc.StatusCode.INTERNAL:
            logger.error("failed", extra={"method": method, "cause": str(error)})
        if isinstance(error, AUDITED) and not isinstance(error, NOT_AUDITED):
            await self._audit.refusal(method, certificates_of(context), error)
        await context.abort_with_status(rpc_status.to_status(rich_status(error)))


class _Stay:
    """How long a stream may wait: until its certificate is refused, or its age is reached."""

    def __init__(self, check: Callable[[], None], clock_s: Callable[[], float], max_age_s: float) -> None:
        """check: raises what a refused certificate raises.  clock_s: monotonic seconds."""
        self._check = check
        self._clock_s = clock_s
        self._ends_s = clock_s() + max_age_s

    async def wait(self, step: Awaitable[Any]) -> Any:
        """The step's result.  Raises DrainingError at the maximum age, RevokedError; then the step is cancelled."""
        task = asyncio.ensure_future(step)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=min(RECHECK_S, max(0.0, self._ends_s - self._clock_s())))
                self._check()
                if self._clock_s() >= self._ends_s:
                    raise DrainingError("the stream reached its maximum age: open a new one")
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})


def _parsed(parse: Callable[[bytes], Any], raw: bytes) -> Any:
    try:
        return parse(raw)
    except DecodeError as error:
        raise FieldError(
            "the request is not the message that this method takes: generate from the same protos"
        ) from error


async def _requests(parse: Callable[[bytes], Any], raws: AsyncIterator[bytes], stay: _Stay) -> AsyncIterator[Any]:
    """The messages of a stream, as long as it may stay."""
    while (raw := await stay.wait(anext(raws, None))) is not None:
        yield _parsed(parse, raw)


async def _answers(answers: Any, stay: _Stay) -> AsyncIterator[Any]:
    """The answers of a handler in either form of gRPC: a generator, or a coroutine that writes by itself.

    A generator waits for requests, which end when the stream must; such a coroutine (Health/Watch) has to be ended.
    """
    if inspect.isawaitable(answers):
        await stay.wait(answers)
        return
    async for answer in answers:
        yield answer
