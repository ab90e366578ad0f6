"""Order, replay and expiry of probes: rules without I/O, clock or randomness of their own.

A unary call spends one nonce of a `NonceBook`; a stream has a `StreamSession` of its own.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from duetface.errors import OverloadedError
from recognition_service.refusals import NonceError, ReplayError

NONCE_BYTES = 32


@dataclass(frozen=True)
class _Issued:
    fingerprint: str
    expires_at_s: float


class NonceBook:
    """Single-use nonces, each bound to the certificate it was handed to.

    lifetime_s: how long one can be spent, at most 30 s by the contract.
    limit: nonces in flight for one certificate; when full, `issue` refuses until the oldest expires.
    random_bytes: the source of randomness, e.g. secrets.token_bytes.
    Times are seconds of one monotonic clock, handed in with each call.
    """

    def __init__(self, lifetime_s: float, limit: int, random_bytes: Callable[[int], bytes]) -> None:
        """lifetime_s: (0, 30] s.  limit: 1 or more."""
        self._lifetime_s = lifetime_s
        self._limit = limit
        self._random_bytes = random_bytes
        self._issued: OrderedDict[bytes, _Issued] = OrderedDict()  # by expiry, since all live equally long
        self._in_flight: dict[str, int] = {}

    def issue(self, fingerprint: str, now_s: float) -> bytes:
        """A fresh nonce of 32 bytes.  Raises OverloadedError when the certificate has too many in flight."""
        self._forget_expired(now_s)
        if self._in_flight.get(fingerprint, 0) >= self._limit:
            raise OverloadedError(
                f"{self._limit} nonces are in flight for this certificate: spend or let expire",
                retry_after_s=self._first_expiry_s(fingerprint) - now_s,
            )
        nonce = self._random_bytes(NONCE_BYTES)
        self._issued[nonce] = _Issued(fingerprint, now_s + self._lifetime_s)
        self._in_flight[fingerprint] = self._in_flight.get(fingerprint, 0) + 1
        return nonce

    def spend(self, nonce: bytes, fingerprint: str, now_s: float) -> None:
        """Use a nonce up.  Raises NonceError if unknown, spent, expired or of another certificate.

        A foreign nonce is not spent: who guesses or steals one must not be able to block its owner.
        """
        self._forget_expired(now_s)
        issued = self._issued.get(nonce)
        if issued is None or issued.fingerprint != fingerprint:
            # One message for all cases: a stranger must not learn that a nonce exists.
            raise NonceError("the nonce is unknown, spent, expired or another certificate's: ask for a new one")
        self._forget(nonce, issued)

    def in_flight(self, fingerprint: str) -> int:
        """How many nonces of this certificate are neither spent nor known to be expired."""
        return self._in_flight.get(fingerprint, 0)

    def _forget_expired(self, now_s: float) -> None:
        while self._issued:
            nonce, issued = next(iter(self._issued.items()))
            if issued.expires_at_s > now_s:
                return
            self._forget(nonce, issued)

    def _forget(self, nonce: bytes, issued: _Issued) -> None:
        del self._issued[nonce]
        left = self._in_flight[issued.fingerprint] - 1
        if left:
            self._in_flight[issued.fingerprint] = left
        else:  # certificates come and go; their entries must not stay
            del self._in_flight[issued.fingerprint]

    def _first_expiry_s(self, fingerprint: str) -> float:
        return next(issued.expires_at_s for issued in self._issued.values() if issued.fingerprint == fingerprint)


@dataclass(frozen=True)
class StreamSession:
    """What a stream has seen: one nonce for its whole life, sequences that only rise."""

    nonce: bytes
    next_sequence: int = 0

    def accept(self, nonce: bytes, sequence: int) -> "StreamSession":
        """The session after this probe.  Gaps are fine: the device drops stale frames.

        Raises NonceError for another nonce, ReplayError for a sequence that is not above all before.
        """
        if nonce != self.nonce:
            raise NonceError("the probe carries another nonce than this stream's first answer")
        if sequence < self.next_sequence:
            raise ReplayError(f"sequence {sequence} came again: expected {self.next_sequence} or later")
        return replace(self, next_sequence=sequence + 1)
