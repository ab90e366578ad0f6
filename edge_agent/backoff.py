"""How long to wait before the next try: doubling, capped, jittered, so that a fleet does not return at once."""

import random
from collections.abc import Callable


class Backoff:
    """Delays of one thing that is tried again and again; not for two threads at once."""

    def __init__(
        self, first_s: float = 0.5, cap_s: float = 30.0, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        """first_s, cap_s: mean of the first and of the longest delay, seconds.  uniform: the source of chance."""
        self._first_s = first_s
        self._cap_s = cap_s
        self._uniform = uniform
        self._failures = 0

    def next_delay_s(self) -> float:
        """Return the seconds to wait after one more failure: 0.5 to 1.5 times min(cap, first * 2^failures)."""
        # The exponent is capped before the power is taken: a night without network overflows no float.
        mean_s = min(self._cap_s, self._first_s * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return mean_s * self._uniform(0.5, 1.5)

    def reset(self) -> None:
        """Start over after a success."""
        self._failures = 0
