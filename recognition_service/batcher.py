"""Micro-batches over all calls and streams: the server network runs on several faces at once.

A batch starts when it is full, or when its first face has waited long enough.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from duetface.errors import OverloadedError
from duetface.types import ProtectedFace

Embedding = NDArray[np.float32]  # (512,), unit length


class FaceEmbedder(Protocol):
    """The server network; blocking, called in one thread."""

    def embed(self, faces: Sequence[ProtectedFace]) -> NDArray[np.float32]:
        """(B, 512) float32 of unit length, in the order of the faces."""
        ...


@dataclass(frozen=True, eq=False)
class _Place:
    """One face in the queue.  embedding: done early if nobody waits for it any more."""

    face: ProtectedFace
    embedding: asyncio.Future[Embedding]


class Batcher:
    """A bounded queue before the server network, and the one task that empties it.

    When the queue is full, `submit` refuses with OverloadedError: what was accepted keeps its deadline.
    A caller that is cancelled gives up its place; a face past its deadline is not computed.
    Use as an async context manager; leaving it finishes what was accepted.
    """

    def __init__(
        self,
        embedder: FaceEmbedder,
        clock_s: Callable[[], float],
        *,
        batch_max: int,
        batch_wait_s: float,
        queue_max: int,
    ) -> None:
        """clock_s: monotonic seconds.  batch_wait_s: how long the first face of a batch waits for company."""
        self._embedder = embedder
        self._clock_s = clock_s
        self._batch_max = batch_max
        self._batch_wait_s = batch_wait_s
        self._queue_max = queue_max
        self._queue: deque[_Place] = deque()
        self._changed = asyncio.Event()
        self._closing = False
        self._batch_seconds = 0.05  # moving average of a run of the network, for the retry delay
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embed")
        self._worker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Batcher":
        """Start the worker on the running loop."""
        self._worker = asyncio.create_task(self._work(), name="batcher")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the queue and stop."""
        self._closing = True
        self._changed.set()
        if self._worker is not None:
            await self._worker
        self._thread.shutdown()

    async def submit(self, face: ProtectedFace, deadline_s: float) -> Embedding:
        """The embedding of one face, (512,) float32 of unit length.

        deadline_s: monotonic seconds.  Raises OverloadedError if the queue is full or the deadline passes in it.
        """
        if self._closing or len(self._queue) >= self._queue_max:
            raise OverloadedError(
                f"{len(self._queue)} faces wait for the server network: try again later", self._retry_after_s()
            )
        place = _Place(face, asyncio.get_running_loop().create_future())
        self._queue.append(place)
        self._changed.set()
        try:
            async with asyncio.timeout(deadline_s - self._clock_s()):
                return await place.embedding
        except TimeoutError as error:
            raise OverloadedError(
                "the deadline passed before the network ran: allow more time", self._retry_after_s()
            ) from error
        finally:
            if place in self._queue:  # the caller left, or its deadline passed, before its turn
                self._queue.remove(place)

    @property
    def waiting(self) -> int:
        """How many faces are in the queue."""
        return len(self._queue)

    def _retry_after_s(self) -> float:
        return max(0.1, len(self._queue) / self._batch_max * self._batch_seconds)

    async def _work(self) -> None:
        while not self._closing or self._queue:
            batch = await self._next_batch()
            if batch:
                await self._run(batch)

    async def _next_batch(self) -> list[_Place]:
        if not self._queue:
            self._changed.clear()
            await self._changed.wait()
        await self._wait_for_company()
        batch: list[_Place] = []
        while self._queue and len(batch) < self._batch_max:
            place = self._queue.popleft()
            if not place.embedding.done():
                batch.append(place)
        return batch

    async def _wait_for_company(self) -> None:
        try:
            async with asyncio.timeout(self._batch_wait_s):
                while not self._closing and len(self._queue) < self._batch_max:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return

    async def _run(self, batch: Sequence[_Place]) -> None:
        started_s = self._clock_s()
        faces = [place.face for place in batch]
        try:
            embeddings = await asyncio.get_running_loop().run_in_executor(self._thread, self._embedder.embed, faces)
            embedded = list(zip(batch, embeddings, strict=True))
        except Exception as error:  # noqa: BLE001  # it belongs to those who wait; the worker must live on
            await self._blame(batch, error)
            return
        self._batch_seconds += 0.1 * (self._clock_s() - started_s - self._batch_seconds)
        for place, embedding in embedded:
            if not place.embedding.done():
                place.embedding.set_result(embedding)

    async def _blame(self, batch: Sequence[_Place], error: Exception) -> None:
        """One bad face must not fail its neighbours, who are other people's: each is tried alone."""
        if len(batch) > 1:
            for place in batch:
                await self._run([place])
        elif not batch[0].embedding.done():
            batch[0].embedding.set_exception(error)
