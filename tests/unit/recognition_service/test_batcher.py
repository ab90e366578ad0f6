"""Micro-batches: who is computed together, who is dropped, what is refused."""

import asyncio
import time

import numpy as np
import pytest

from duetface.errors import MessageError, ModelError, OverloadedError
from recognition_service.batcher import Batcher
from tests.fakes.network import ProjectionEmbedder, face_of

SOON = 30.0


def batcher(embedder: ProjectionEmbedder, batch_max: int = 4, wait_s: float = 0.05, queue_max: int = 16) -> Batcher:
    """A batcher on the real clock."""
    return Batcher(embedder, time.monotonic, batch_max=batch_max, batch_wait_s=wait_s, queue_max=queue_max)


def deadline() -> float:
    """Far enough away."""
    return time.monotonic() + SOON


async def held(embedder: ProjectionEmbedder, queue: Batcher) -> asyncio.Task[object]:
    """Occupy the network with one face until `embedder.gate` opens."""
    embedder.gate.clear()
    first = asyncio.create_task(queue.submit(face_of(0), deadline()))
    await asyncio.sleep(0.2)  # longer than the wait for company
    assert queue.waiting == 0
    return first


async def test_faces_that_come_together_are_computed_together_each_with_its_own_result() -> None:
    """The point of a batch, and that nobody gets a neighbour's embedding."""
    embedder = ProjectionEmbedder()
    async with batcher(embedder) as queue:
        results = await asyncio.gather(*(queue.submit(face_of(person), deadline()) for person in range(4)))
    assert embedder.batches == [4]
    for person, result in enumerate(results):
        np.testing.assert_allclose(result, embedder.embed([face_of(person)])[0], atol=1e-6)


async def test_a_face_alone_does_not_wait_longer_than_stated() -> None:
    """One door at night must not pay for batches."""
    embedder = ProjectionEmbedder()
    async with batcher(embedder, wait_s=0.02) as queue:
        started = time.monotonic()
        await queue.submit(face_of(1), deadline())
        assert time.monotonic() - started < 1.0
    assert embedder.batches == [1]


async def test_more_faces_than_a_batch_holds_are_split() -> None:
    """Memory of a batch is bounded."""
    embedder = ProjectionEmbedder()
    async with batcher(embedder, batch_max=4) as queue:
        await asyncio.gather(*(queue.submit(face_of(person), deadline()) for person in range(10)))
    assert sum(embedder.batches) == 10
    assert max(embedder.batches) == 4


async def test_a_full_queue_refuses_and_what_was_accepted_is_finished() -> None:
    """Refusing early keeps the promises already made."""
    embedder = ProjectionEmbedder()
    async with batcher(embedder, queue_max=3) as queue:
        first = await held(embedder, queue)
        accepted = [asyncio.create_task(queue.submit(face_of(n), deadline())) for n in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="3 faces wait") as refused:
            await queue.submit(face_of(9), deadline())
        assert refused.value.retry_after_s >= 0.1
        embedder.gate.set()
        assert len(await asyncio.gather(first, *accepted)) == 4


async def test_a_departed_caller_gives_up_its_place() -> None:
    """A peer that hung up must not cost the network a face, nor another caller a place."""
    embedder = ProjectionEmbedder()
    async with batcher(embedder, queue_max=1) as queue:
        first = await held(embedder, queue)
        departed = asyncio.create_task(queue.submit(face_of(1), deadline()))
        await asyncio.sleep(0)
        departed.cancel()
        await asyncio.gather(departed, return_exceptions=True)
        assert queue.waiting == 0
        stays = asyncio.create_task(queue.submit(face_of(2), deadline()))
        await asyncio.sleep(0)
        embedder.gate.set()
        await asyncio.gather(first, stays)
    assert sum(embedder.batches) == 2


async def test_a_face_past_its_deadline_is_not_computed() -> None:
    """Nobody waits for it any more."""
    embedder = ProjectionEmbedder()
    async with batcher(embedder) as queue:
        first = await held(embedder, queue)
        with pytest.raises(OverloadedError, match="deadline passed"):
            await queue.submit(face_of(1), time.monotonic() + 0.01)
        assert queue.waiting == 0
        embedder.gate.set()
        await first
    assert embedder.batches == [1]


async def test_leaving_finishes_the_queue_and_takes_nothing_new() -> None:
    """Drain: accepted work is done, new work is refused."""
    embedder = ProjectionEmbedder()
    async with batcher(embedder, wait_s=0.5) as queue:
        accepted = [asyncio.create_task(queue.submit(face_of(n), deadline())) for n in range(3)]
        await asyncio.sleep(0)
    assert len(await asyncio.gather(*accepted)) == 3
    with pytest.raises(OverloadedError):
        await queue.submit(face_of(1), deadline())


async def test_a_failing_network_fails_its_batch_only() -> None:
    """The worker must outlive one bad run."""

    class FailsOnce(ProjectionEmbedder):
        def embed(self, faces):  # type: ignore[no-untyped-def]
            if not self.batches:
                self.batches.append(0)
                raise ModelError("server.onnx is damaged: restore it")
            return super().embed(faces)

    async with batcher(FailsOnce()) as queue:
        with pytest.raises(ModelError, match="damaged"):
            await queue.submit(face_of(1), deadline())
        assert (await queue.submit(face_of(1), deadline())).shape == (512,)


async def test_a_bad_face_does_not_fail_its_neighbours() -> None:
    """The others in a batch are other people at other doors."""

    class RefusesBlankFaces(ProjectionEmbedder):
        def embed(self, faces):  # type: ignore[no-untyped-def]
            if any(not face.planes["coefficients"].any() for face in faces):
                raise MessageError("a face gives no embedding: its planes hold nothing")
            return super().embed(faces)

    blank = face_of(1)
    blank.planes["coefficients"][:] = 0
    async with batcher(RefusesBlankFaces()) as queue:
        faces = [face_of(0), blank, face_of(2)]
        results = await asyncio.gather(*(queue.submit(face, deadline()) for face in faces), return_exceptions=True)
    assert [type(result) for result in results] == [np.ndarray, MessageError, np.ndarray]
