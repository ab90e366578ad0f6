"""One thread that does what a request asked for after the request was answered, and again until nothing is left."""

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

# Deletions come in groups; they share one search.
_GATHER_S = 1.0
_RETRY_S = 60.0


class Background:
    """Runs `work` soon after `wake`; however often it is woken meanwhile, there is one run at a time and one waiting.

    Nothing is promised: work that a stop, a crash or an error leaves undone must be found again by whoever begins.
    """

    def __init__(self, name: str, work: Callable[[], int]) -> None:
        """name: of the thread.  work: returns how much is left, which is tried again every minute."""
        self._name = name
        self._work = work
        self._asked = threading.Event()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Have the work done soon; returns at once.  After `close` it does nothing."""
        with self._lock:
            self._asked.set()
            if self._thread is None and not self._stopped.is_set():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def _run(self) -> None:
        left = False
        while True:
            self._asked.wait(_RETRY_S if left else None)
            if self._stopped.wait(_GATHER_S):
                return
            self._asked.clear()
            left = self._attempt()

    def _attempt(self) -> bool:
        try:
            left = self._work()
        except Exception as error:  # noqa: BLE001 - nobody waits for this thread; it must live on to try again
            logger.warning("background work failed", extra={"work": self._name, "kind": type(error).__name__})
            return True
        if left:
            logger.warning("background work is not finished", extra={"work": self._name, "left": left})
        return left > 0

    def close(self) -> None:
        """Begin nothing any more, and wait for a run that has begun."""
        with self._lock:
            self._stopped.set()
            self._asked.set()
        if self._thread is not None:
            self._thread.join()
