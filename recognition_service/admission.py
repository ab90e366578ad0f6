"""Who may ask how often: a token bucket for each certificate, asked before a byte of a request is parsed."""

from collections import OrderedDict
from dataclasses import dataclass

from duetface.errors import OverloadedError

MAX_BUCKETS = 10_000  # certificates remembered; a full bucket that is forgotten is made again, also full


@dataclass
class _Bucket:
    tokens: float
    at_s: float


class Admission:
    """One token bucket a certificate: `burst` requests at once, `rate_per_s` lasting.

    A class without I/O or clock; times are seconds of one monotonic clock.
    When a bucket is empty the request is refused with the time until its next token: nothing is queued here.
    """

    def __init__(self, rate_per_s: float, burst: int) -> None:
        """rate_per_s > 0; burst >= 1."""
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()  # least recently used first

    def admit(self, fingerprint: str, now_s: float) -> None:
        """Take one token.  Raises OverloadedError with the wait for the next one."""
        bucket = self._bucket(fingerprint, now_s)
        bucket.tokens = min(self._burst, bucket.tokens + (now_s - bucket.at_s) * self._rate_per_s)
        bucket.at_s = now_s
        if bucket.tokens < 1.0:
            raise OverloadedError(
                f"more than {self._rate_per_s:g} requests a second by this certificate: wait",
                retry_after_s=(1.0 - bucket.tokens) / self._rate_per_s,
            )
        bucket.tokens -= 1.0

    def _bucket(self, fingerprint: str, now_s: float) -> _Bucket:
        bucket = self._buckets.setdefault(fingerprint, _Bucket(float(self._burst), now_s))
        self._buckets.move_to_end(fingerprint)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        return bucket
