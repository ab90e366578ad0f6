"""How fast work in the background goes: slowly while nobody waits for it, at full speed as soon as somebody does."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

# Of one processor, at most.
_SHARE = 1 / 8


class WorkStopped(Exception):
    """Raised in work that was asked to end."""


class Pace:
    """Long work calls `rest` after each step of about a millisecond, and waits there seven times as long as it worked.

    So a request finds the processor, its cache and Python's lock taken for one step at most.
    """

    def __init__(self) -> None:
        """Slow, until `hurried`."""
        self._lock = threading.Lock()
        self._waiting = 0
        self._stopped = False
        self._at_once = threading.Event()  # set as long as nobody is to rest
        self._began_s = time.monotonic()

    def begin(self) -> None:
        """The work begins now."""
        self._began_s = time.monotonic()

    def rest(self) -> None:
        """After a step of the one thread that works.  Raises WorkStopped after `stop`."""
        worked_s = time.monotonic() - self._began_s
        self._at_once.wait(worked_s * (1 / _SHARE - 1))
        if self._stopped:
            raise WorkStopped
        self.begin()

    @contextmanager
    def hurried(self) -> Iterator[None]:
        """Somebody waits for the work as long as the block runs."""
        with self._lock:
            self._waiting += 1
            self._at_once.set()
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1
                if not self._waiting and not self._stopped:
                    self._at_once.clear()

    def stop(self) -> None:
        """End the work at its next rest, for good."""
        with self._lock:
            self._stopped = True
            self._at_once.set()
