"""A service as one of several that share a realm: it loads its gallery, follows the others, and saves what it has.

Notices of commits only wake the follower sooner; looking at the store every `poll_s` seconds is what can be relied on.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from duetface.errors import ConfigError, GalleryError
from gallery.gallery import Gallery
from gallery.wakeup import Wakeup
from recognition_service.clocks import Clocks

logger = logging.getLogger(__name__)

TOLD_EVERY_S = 5.0  # how often loading says how far it is


async def load(gallery: Gallery, clocks: Clocks) -> None:
    """Fill the indexes; says how far it is.  Raises GalleryError."""
    total, started_s, told_s = await asyncio.to_thread(lambda: gallery.template_total), clocks.monotonic_s(), 0.0

    def tell(templates: int) -> None:
        nonlocal told_s
        if clocks.monotonic_s() - told_s >= TOLD_EVERY_S:
            told_s = clocks.monotonic_s()
            logger.info("loading", extra={"templates": templates, "of": total})

    revision = await asyncio.to_thread(gallery.load, tell)
    seconds = round(clocks.monotonic_s() - started_s, 1)
    if total:
        logger.info("loaded", extra={"templates": total, "revision": revision, "seconds": seconds})


@contextlib.contextmanager
def following(gallery: Gallery, poll_s: float, find_database: Callable[[], str]) -> Iterator[None]:
    """Follow what other processes commit, in a thread, as long as the block runs.

    find_database: the URL that is configured now; asked once `duetface gallery move` has taken the realm there.
    """
    follower = _Follower(gallery, poll_s, find_database)
    follower.thread.start()
    try:
        yield
    finally:
        follower.stop()


class _Follower:
    """The thread that follows."""

    def __init__(self, gallery: Gallery, poll_s: float, find_database: Callable[[], str]) -> None:
        self.thread = threading.Thread(target=self._run, name="follow", daemon=True)
        self._gallery = gallery
        self._poll_s = poll_s
        self._find_database = find_database
        self._database = find_database()
        self._stopped = threading.Event()
        self._wakeup: Wakeup | None = None

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopped.set()
        self._hang_up()
        self.thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._wait()
                if not self._stopped.is_set():
                    self._gallery.refresh()
                    self._go_along()
            except (ConfigError, GalleryError) as error:
                logger.error("gallery not followed", extra={"cause": str(error)})
                self._stopped.wait(self._poll_s)
        self._hang_up()

    def _go_along(self) -> None:
        """Where the realm was moved to, once the configuration names that place."""
        if self._gallery.maintenance.moved_to() is None:
            return
        database = self._find_database()
        if database == self._database:
            return
        self._gallery.maintenance.continue_at(database)
        self._database = database
        self._hang_up()
        logger.info("gallery moved", extra={"revision": self._gallery.revision})

    def _wait(self) -> None:
        """Until somebody committed or it is time to look; a broken line for notices is made anew the next time."""
        try:
            wakeup = self._wakeup = self._wakeup or self._gallery.wakeup()
            wakeup.wait(self._poll_s)
        except GalleryError as error:
            logger.warning("no notices: looking every so often", extra={"cause": str(error)})
            self._hang_up()
            self._stopped.wait(self._poll_s)

    def _hang_up(self) -> None:
        wakeup, self._wakeup = self._wakeup, None
        if wakeup is not None:
            wakeup.close()


class Saver:
    """Writes the sealed snapshot: a cache, without which a service starts more slowly, and that is all."""

    def __init__(self, gallery: Gallery) -> None:
        """Nothing is written yet."""
        self._gallery = gallery
        self._saved_revision = -1

    def save(self) -> None:
        """Write it, unless nothing has changed since; blocking."""
        try:
            if self._gallery.revision != self._saved_revision:
                self._saved_revision = self._gallery.maintenance.write_snapshot()
                logger.info("snapshot written", extra={"revision": self._saved_revision})
        except GalleryError as error:
            logger.warning("snapshot not written", extra={"cause": str(error)})

    @asynccontextmanager
    async def every(self, seconds: float) -> AsyncIterator[None]:
        """Save again and again, as long as the block runs."""

        async def save_again() -> None:
            while True:
                await asyncio.sleep(seconds)
                await asyncio.to_thread(self.save)

        task = asyncio.create_task(save_again(), name="snapshots")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
