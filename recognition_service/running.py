"""A service inside another program, on a free loopback port: for tests and for `duetface evaluate`."""

import asyncio
import threading
from concurrent.futures import Future
from types import TracebackType

from gallery.keys import KeyProvider
from recognition_service.clocks import Clocks
from recognition_service.config import ServiceConfig
from recognition_service.network import Network
from recognition_service.service import Service, running_service


class RunningService:
    """The real service in a thread with an event loop of its own.

        with RunningService(load_config(state), network) as service:
            Client.connect(service.address, identity)

    Leaving the block drains it.
    """

    def __init__(
        self,
        config: ServiceConfig,
        network: Network,
        clocks: Clocks | None = None,
        upcoming: Network | None = None,
        *,
        keys: KeyProvider | None = None,
    ) -> None:
        """config: its address is overridden by a free loopback port.  upcoming, keys: see running_service."""
        listen = config.listen.model_copy(update={"address": "127.0.0.1:0"})
        self._config = config.model_copy(update={"listen": listen})
        self._network = network
        self._upcoming = upcoming
        self._clocks = clocks or Clocks()
        self._keys = keys
        self._started: Future[Service] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="recognition service", daemon=True)

    def __enter__(self) -> "RunningService":
        """Start and wait until it listens.  Raises what keeps it from starting."""
        self._thread.start()
        self._started.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drain and wait for the end."""
        self.begin_stop()
        self._thread.join()

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return self.service.address

    @property
    def service(self) -> Service:
        """What runs."""
        return self._started.result()

    def begin_stop(self) -> None:
        """Start to drain, as SIGTERM would, without waiting."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with running_service(
                self._config, self._network, self._clocks, self._upcoming, keys=self._keys
            ) as service:
                self._started.set_result(service)
                await self._stop.wait()
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)
