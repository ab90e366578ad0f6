"""The Authenticate stream: configuration first, then faces; decisions as they are made.

One face of a stream is decided at a time and one waits; a newer one takes the waiting one's place.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from duetface.codec import decision_to_message
from duetface.errors import ContractError, DuetFaceError, OverloadedError
from duetface.types import Decision
from duetface.v1 import verification_pb2
from recognition_service.access import Caller
from recognition_service.admission import Admission
from recognition_service.clocks import Clocks
from recognition_service.decision import OVERLOADED, SUPERSEDED, Verdict
from recognition_service.pipeline import Operation, Question, Recogniser, recognise
from recognition_service.refusals import DrainingError, FieldError, StreamOrderError
from recognition_service.rpc.fields import number_of, optional_subject_id_of, purpose_of
from recognition_service.rpc.vouching import vouched_in_stream
from recognition_service.session import NONCE_BYTES, StreamSession

MAX_SPLITS = 4
UNANSWERED_MAX = 64  # faces turned away but not told yet; then the stream is read no further

Requests = AsyncIterator[verification_pb2.AuthenticateRequest]


@dataclass(frozen=True)
class Vouched:
    """A probe whose nonce, sequence and signature were checked."""

    sequence: int
    probe: bytes


@dataclass(frozen=True)
class TurnedAway:
    """A probe that is answered without being looked at."""

    sequence: int
    verdict: Verdict


class Inbox:
    """Between the reader of a stream and its decisions: holds the newest probe, and whom to turn away.

    When a probe comes while another waits, the older is turned away as superseded.  When UNANSWERED_MAX are
    turned away and not fetched, `put` waits: the client that does not read its answers is not read either.
    """

    def __init__(self) -> None:
        """Open and empty."""
        self._latest: Vouched | None = None
        self._turned_away: deque[TurnedAway] = deque()
        self._error: DuetFaceError | None = None
        self._closed = False
        self._changed = asyncio.Condition()

    async def put(self, item: Vouched | TurnedAway) -> None:
        """Hand over what came; ignored once closed."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or len(self._turned_away) < UNANSWERED_MAX)
            if self._closed:
                return
            if isinstance(item, TurnedAway):
                self._turned_away.append(item)
            else:
                if self._latest is not None:
                    self._turned_away.append(TurnedAway(self._latest.sequence, SUPERSEDED))
                self._latest = item
            self._changed.notify_all()

    async def close(self, error: DuetFaceError | None = None) -> None:
        """Take nothing more in.  error: raised by `take` after everything accepted was taken; the first one counts."""
        async with self._changed:
            if not self._closed:
                self._closed, self._error = True, error
            self._changed.notify_all()

    async def take(self) -> Vouched | TurnedAway | None:
        """The next to answer, those turned away first; None at the end of the stream."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._turned_away or self._latest or self._closed)
            self._changed.notify_all()
            if self._turned_away:
                return self._turned_away.popleft()
            item, self._latest = self._latest, None
            if item is None and self._error is not None:
                raise self._error
            return item


class Streams:
    """Serves every open stream, and ends them all when the service drains."""

    def __init__(
        self, recogniser: Recogniser, admission: Admission, max_age_s: float, deadline_s: float, clocks: Clocks
    ) -> None:
        """max_age_s: of a stream; the guard ends it.  deadline_s: seconds for the configuration, and for one face."""
        self._recogniser = recogniser
        self._admission = admission
        self._max_age_s = max_age_s
        self._deadline_s = deadline_s
        self._clocks = clocks
        self._opening: set[asyncio.Timeout] = set()
        self._open: set[Inbox] = set()

    async def drain(self) -> None:
        """End every stream after the faces that were accepted."""
        for limit in self._opening:
            if not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time())
        for inbox in tuple(self._open):
            await inbox.close(DrainingError("the service is shutting down: reconnect"))

    async def serve(self, requests: Requests, caller: Caller) -> AsyncIterator[verification_pb2.AuthenticateResponse]:
        """The answers of one stream."""
        question = await self._opened(requests, caller)
        inbox, session = Inbox(), StreamSession(secrets.token_bytes(NONCE_BYTES))
        self._open.add(inbox)
        reader = asyncio.create_task(self._read_all(requests, session, caller, inbox))
        try:
            yield self._ready(session)
            while (item := await inbox.take()) is not None:
                decision = await self._answer(item, question)
                yield verification_pb2.AuthenticateResponse(decision=decision_to_message(decision))
            await reader  # an error that nobody foresaw is the guard's to log
        finally:
            self._open.discard(inbox)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _opened(self, requests: Requests, caller: Caller) -> Question:
        """The configuration, which must come as soon as any call must end: a silent stream takes a place."""
        try:
            async with asyncio.timeout(self._deadline_s) as limit:
                self._opening.add(limit)
                try:
                    return await self._configuration(requests, caller)
                finally:
                    self._opening.discard(limit)
        except TimeoutError as error:
            raise DrainingError("the stream brought no configuration in time: open a new one") from error

    def _ready(self, session: StreamSession) -> verification_pb2.AuthenticateResponse:
        ready = verification_pb2.StreamReady(nonce=session.nonce)
        ready.valid_for.FromMilliseconds(round(self._max_age_s * 1000))
        return verification_pb2.AuthenticateResponse(ready=ready)

    async def _configuration(self, requests: Requests, caller: Caller) -> Question:
        first = await anext(requests, None)
        if first is None or first.WhichOneof("content") != "configuration":
            raise StreamOrderError("the first message of a stream must be its configuration")
        configuration = first.configuration
        digests = configuration.split_digests
        if not 1 <= len(digests) <= MAX_SPLITS or any(len(digest) != 32 for digest in digests):
            raise FieldError(f"got {len(digests)} split digests, expected 1 to {MAX_SPLITS} of 32 bytes")
        if not any(digest in self._recogniser.splits for digest in digests):
            raise ContractError("no split of the stream is served here: update the agent")
        return Question(
            operation=Operation.AUTHENTICATE,
            caller=caller,
            deadline_s=0.0,  # each face has its own
            subject_id=optional_subject_id_of(configuration.subject_id),
            purpose=purpose_of(configuration.purpose),
            at_least_revision=number_of("at_least_revision", configuration.at_least_revision),
        )

    async def _read_all(self, requests: Requests, session: StreamSession, caller: Caller, inbox: Inbox) -> None:
        try:
            await self._read(requests, session, caller, inbox)
        except DuetFaceError as error:
            await inbox.close(error)
        finally:
            await inbox.close()  # whatever happened: nobody else ends the wait for the next face

    async def _read(self, requests: Requests, session: StreamSession, caller: Caller, inbox: Inbox) -> None:
        async for request in requests:
            if request.WhichOneof("content") != "signed_probe":
                raise StreamOrderError("after its configuration a stream holds signed probes only")
            signed = request.signed_probe
            try:
                self._admission.admit(caller.peer.fingerprint, self._clocks.monotonic_s())
            except OverloadedError:
                await inbox.put(TurnedAway(signed.sequence, OVERLOADED))
                continue
            probe, session = vouched_in_stream(signed, caller, session)
            await inbox.put(Vouched(signed.sequence, probe))

    async def _answer(self, item: Vouched | TurnedAway, question: Question) -> Decision:
        if isinstance(item, TurnedAway):
            return self._recogniser.unlooked(item.verdict, item.sequence)
        deadline_s = self._clocks.monotonic_s() + self._deadline_s
        try:
            return await recognise(self._recogniser, item.probe, question.of_face(item.sequence, deadline_s))
        except OverloadedError:
            return self._recogniser.unlooked(OVERLOADED, item.sequence)
