"""Lock-out after failures, as NIST SP 800-63B-4 asks of biometric comparison.

After 5 consecutive failures each further attempt has to wait at least 30 s, and after 50 there is none:
section "use of biometrics", figures for a verifier that makes no presentation-attack detection.
The counters live in the gallery, so a restart does not reset them.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class LockOutPolicy:
    """delay_after, stop_after: consecutive failures.  delay_s: seconds between attempts from delay_after on."""

    delay_after: int = 5
    delay_s: float = 30.0
    stop_after: int = 50

    def locked(self, failures: int, last_failure_at: datetime | None, now: datetime) -> bool:
        """Whether an attempt at `now` must be refused unlooked.

        failures: consecutive ones of one subject or one device.  Times are timezone-aware.
        A refused attempt is no failure: an honest client that asks too early must not reach the stop.
        """
        if failures >= self.stop_after:
            return True
        if failures < self.delay_after or last_failure_at is None:
            return False
        return now - last_failure_at < timedelta(seconds=self.delay_s)


class OneAtATime:
    """One attempt at a time on one key, so that parallel guesses cannot outrun their failure counter.

    A lock is kept only while somebody holds or awaits it.
    """

    def __init__(self) -> None:
        """No key is held."""
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Hold the key's lock; waiting is bounded by the caller's deadline, which cancels it."""
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            users = self._locks[key][1] - 1
            if users:
                self._locks[key] = (lock, users)
            else:
                del self._locks[key]

    def __len__(self) -> int:
        """How many keys are in use."""
        return len(self._locks)
