"""The device's end of `Authenticate`: one probe after another out, one decision after another back.

A thread of its own keeps the connection: it opens with the configuration, gets the stream's nonce,
signs each probe with a rising sequence, and after a break connects again with capped, jittered
back-off.  It says whether it is on-line and never decides anything by itself.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc

from duetface.client import CHANNEL_OPTIONS, Client, service_error
from duetface.codec import by_digest, decision_from_message, probe_to_bytes
from duetface.errors import ContractError, DuetFaceError, ServiceError
from duetface.identity import ClientIdentity, sign_probe
from duetface.spec import SplitSpec
from duetface.types import Decision, Probe
from duetface.v1 import verification_pb2, verification_pb2_grpc
from edge_agent.backoff import Backoff

READY_WITHIN_S: Final = 10.0
CALL_TIMEOUT_S: Final = 10.0
STREAM_TIMEOUT_S: Final = 24 * 3600.0  # the service closes a stream sooner, by its own maximum age
EVENTS: Final = 256
FRESH_S: Final = 1.5  # the service refuses captures older than 2 s unless told otherwise; a newer one is at hand

# Trying again cannot help: certificate, role, contract or software must change first.
TERMINATING: Final = frozenset(
    {"UNAUTHENTICATED", "PERMISSION_DENIED", "FAILED_PRECONDITION", "INVALID_ARGUMENT", "UNIMPLEMENTED", "NOT_FOUND"}
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Online:
    """The service has answered and takes probes.

    split_digests: of those that both ends know, 32 bytes each: a probe should have a face for every one.
    """

    split_digests: frozenset[bytes] = frozenset()


@dataclass(frozen=True)
class Offline:
    """There is no connection; the next try is in delay_s seconds."""

    reason: str
    delay_s: float


@dataclass(frozen=True)
class Refused:
    """The service will not have this agent; the stream has ended for good."""

    error: DuetFaceError


@dataclass(frozen=True)
class Decided:
    """One decision.

    tag: what came with the probe.  wire_bytes: size of the signed probe.  round_trip_ms: from signing on.
    """

    decision: Decision
    tag: int
    wire_bytes: int
    round_trip_ms: float


@dataclass(frozen=True)
class Stale:
    """A probe waited too long for a connection and was not sent; `tag` came with it."""

    tag: int


StreamEvent = Online | Offline | Refused | Decided | Stale


@dataclass(frozen=True)
class _Sent:
    tag: int
    wire_bytes: int
    sent_at_ns: int


class DecisionStream:
    """A connection that mends itself.

    The outbox holds one probe; a newer one takes its place, and the older is counted in `superseded`.
    Events wait in a queue of EVENTS; when it is full the oldest is dropped: nobody was looking at it.
    """

    def __init__(
        self,
        address: str,
        identity: ClientIdentity,
        split_digests: tuple[bytes, ...],
        subject_id: str = "",
        purpose: str = "",
        backoff: Backoff | None = None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """address: HOST:PORT.  split_digests: that probes may have.  subject_id: 1:1 if set, else 1:N.

        monotonic_ns: the clock of the probes' capture times.
        """
        self.superseded = 0
        self._address = address
        self._identity = identity
        self._split_digests = split_digests
        self._configuration = verification_pb2.StreamConfiguration(subject_id=subject_id, purpose=purpose)
        self._backoff = backoff or Backoff()
        self._monotonic_ns = monotonic_ns
        self._changed = threading.Condition()
        self._outbox: tuple[Probe, int] | None = None
        self._sent: dict[int, _Sent] = {}
        self._closed = threading.Event()
        self._events: queue.Queue[StreamEvent] = queue.Queue(maxsize=EVENTS)
        self._call: Any = None  # grpc ships no types
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def submit(self, probe: Probe, tag: int) -> None:
        """Send a probe as soon as there is a connection; `tag` comes back with its decision."""
        with self._changed:
            self.superseded += self._outbox is not None
            self._outbox = probe, tag
            self._changed.notify_all()

    def next_event(self, timeout_s: float = 0.0) -> StreamEvent | None:
        """Return what happened next, or None if nothing did in time."""
        try:
            return self._events.get(block=timeout_s > 0, timeout=timeout_s or None)
        except queue.Empty:
            return None

    def close(self) -> None:
        """End the connection; probes without an answer are given up."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
            call = self._call
        if call is not None:
            call.cancel()
        if self._thread.ident is not None:
            self._thread.join(timeout=CALL_TIMEOUT_S)

    def _run(self) -> None:
        while not self._closed.is_set():
            reason = self._connect_once()
            if reason is None or self._closed.is_set():
                return
            with self._changed:
                self._sent.clear()
                self._outbox = None  # it will be stale; the camera has a newer one by then
            delay_s = self._backoff.next_delay_s()
            logger.warning("offline", extra={"address": self._address, "delay_s": round(delay_s, 1)})
            self._tell(Offline(reason, delay_s))
            self._closed.wait(delay_s)

    def _connect_once(self) -> str | None:
        """Hold one connection until it breaks; returns why, or None if it is not to be tried again."""
        try:
            self._session()
        except ServiceError as error:
            if error.status not in TERMINATING:
                return str(error)
            self._tell(Refused(error))
            return None
        except DuetFaceError as error:
            self._tell(Refused(error))
            return None
        return "the service ended the stream"

    def _session(self) -> None:
        credentials = self._identity.channel_credentials()
        with grpc.secure_channel(self._address, credentials, options=CHANNEL_OPTIONS) as channel:
            splits = self._served_splits(channel)
            stub = verification_pb2_grpc.VerificationServiceStub(channel)
            outgoing = _Outgoing(self, splits)
            try:
                call = stub.Authenticate(outgoing.requests(), timeout=STREAM_TIMEOUT_S)
                with self._changed:
                    self._call = call
                outgoing.cancel = call.cancel
                for answer in call:
                    self._receive(answer, outgoing)
            except grpc.RpcError as error:
                if self._closed.is_set():
                    return
                raise outgoing.failure or service_error(error, self._address) from error
            finally:
                outgoing.end()

    def _served_splits(self, channel: grpc.Channel) -> Mapping[bytes, SplitSpec]:
        """Return the splits that both ends know.  Raises ContractError if there is none."""
        served = by_digest(Client(channel, self._address, self._identity, CALL_TIMEOUT_S).info().splits)
        common = {digest: split for digest, split in served.items() if digest in self._split_digests}
        if not common:
            raise ContractError(f"{self._address} serves no split of this agent: install the same release on both ends")
        return common

    def _receive(self, answer: verification_pb2.AuthenticateResponse, outgoing: "_Outgoing") -> None:
        if answer.HasField("ready"):
            outgoing.set_nonce(answer.ready.nonce)
            self._backoff.reset()
            self._tell(Online(frozenset(outgoing.splits)))
            return
        decision = decision_from_message(answer.decision)
        sent = self._sent.pop(decision.sequence, None)
        if sent is None:
            logger.warning("decision without a question", extra={"sequence": decision.sequence})
            return
        round_trip_ms = (self._monotonic_ns() - sent.sent_at_ns) / 1e6
        self._tell(Decided(decision, sent.tag, sent.wire_bytes, round_trip_ms))

    def _take(self, ended: threading.Event) -> tuple[Probe, int] | None:
        """Wait for a fresh probe; None once the stream is closed, the connection ended, or a second has gone.

        A connection that has ended takes nothing: the probe is for the one after it.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._outbox or ended.is_set() or self._closed.is_set(), timeout=1.0)
            if ended.is_set():
                return None
            taken, self._outbox = self._outbox, None
        if taken is not None and self._monotonic_ns() - taken[0].captured_at_monotonic_ns > FRESH_S * 1e9:
            self._tell(Stale(taken[1]))
            return None
        return taken

    def _sign(self, probe: Probe, tag: int, nonce: bytes, sequence: int, splits: Mapping[bytes, SplitSpec]) -> Any:
        now_ns = self._monotonic_ns()
        signed = sign_probe(self._identity, nonce, sequence, probe_to_bytes(probe, splits, now_ns))
        self._sent[sequence] = _Sent(tag, signed.ByteSize(), now_ns)
        return verification_pb2.AuthenticateRequest(signed_probe=signed)

    def _tell(self, event: StreamEvent) -> None:
        while True:
            try:
                self._events.put_nowait(event)
                return
            except queue.Full:
                self.next_event()


class _Outgoing:
    """The requests of one connection; gRPC reads them in a thread of its own."""

    def __init__(self, stream: DecisionStream, splits: Mapping[bytes, SplitSpec]) -> None:
        self.failure: DuetFaceError | None = None
        self.cancel: Callable[[], object] = lambda: None
        self._stream = stream
        self.splits = splits
        self._nonce = b""
        self._ready = threading.Event()
        self._ended = threading.Event()

    def set_nonce(self, nonce: bytes) -> None:
        """The service is ready for probes."""
        self._nonce = nonce
        self._ready.set()

    def end(self) -> None:
        """The connection is gone."""
        self._ended.set()
        self._ready.set()
        with self._stream._changed:
            self._stream._changed.notify_all()

    def requests(self) -> Iterator[verification_pb2.AuthenticateRequest]:
        """Yield the configuration, then each probe of the outbox, until the connection ends."""
        configuration = verification_pb2.StreamConfiguration()
        configuration.CopyFrom(self._stream._configuration)
        configuration.split_digests.extend(self.splits)
        yield verification_pb2.AuthenticateRequest(configuration=configuration)
        if not self._ready.wait(READY_WITHIN_S):
            self.failure = ServiceError("the service did not get ready in time", status="DEADLINE_EXCEEDED")
            self.cancel()
            return
        try:
            yield from self._probes()
        except DuetFaceError as error:  # gRPC would only say that the iterator failed
            self.failure = error
            self.cancel()

    def _probes(self) -> Iterator[verification_pb2.AuthenticateRequest]:
        sequence = 0
        while not self._ended.is_set() and not self._stream._closed.is_set():
            taken = self._stream._take(self._ended)
            if taken is not None:
                yield self._stream._sign(*taken, self._nonce, sequence, self.splits)
                sequence += 1
