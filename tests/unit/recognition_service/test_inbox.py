"""Between the reader of a stream and its decisions."""

import asyncio

import pytest

from recognition_service.decision import OVERLOADED, SUPERSEDED
from recognition_service.refusals import DrainingError
from recognition_service.rpc.streaming import UNANSWERED_MAX, Inbox, TurnedAway, Vouched


async def test_the_newest_takes_the_place_of_the_one_that_waits() -> None:
    """A decision on an old frame opens the door for whoever stood there before."""
    inbox = Inbox()
    for sequence in range(3):
        await inbox.put(Vouched(sequence, b""))
    await inbox.close()
    taken = [await inbox.take() for _ in range(4)]
    assert taken == [TurnedAway(0, SUPERSEDED), TurnedAway(1, SUPERSEDED), Vouched(2, b""), None]


async def test_what_was_accepted_is_taken_before_the_error() -> None:
    """Drain finishes accepted work."""
    inbox = Inbox()
    await inbox.put(Vouched(0, b""))
    await inbox.close(DrainingError("the service is shutting down: reconnect"))
    assert await inbox.take() == Vouched(0, b"")
    with pytest.raises(DrainingError):
        await inbox.take()


async def test_a_client_that_does_not_read_is_not_read() -> None:
    """Otherwise its unread answers would fill the memory."""
    inbox = Inbox()
    for sequence in range(UNANSWERED_MAX):
        await inbox.put(TurnedAway(sequence, OVERLOADED))
    blocked = asyncio.create_task(inbox.put(TurnedAway(UNANSWERED_MAX, OVERLOADED)))
    await asyncio.sleep(0.01)
    assert not blocked.done()
    await inbox.take()
    await asyncio.wait_for(blocked, 1)


async def test_closing_frees_a_blocked_reader() -> None:
    """Drain must not wait for a client that does not read."""
    inbox = Inbox()
    for sequence in range(UNANSWERED_MAX):
        await inbox.put(TurnedAway(sequence, OVERLOADED))
    blocked = asyncio.create_task(inbox.put(Vouched(99, b"")))
    await asyncio.sleep(0)
    await inbox.close()
    await asyncio.wait_for(blocked, 1)
