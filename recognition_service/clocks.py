"""The two clocks of the service, handed in so that rules and tests can set them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clocks:
    """monotonic_s: seconds, for deadlines, nonces and rates.  now: the wall clock in UTC, for people and consents."""

    monotonic_s: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = _utc_now
