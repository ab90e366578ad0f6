"""How many calls run, and what the end waits for."""

import asyncio

import pytest

from duetface.errors import OverloadedError
from recognition_service.refusals import DrainingError
from recognition_service.rpc.guard import InFlight


async def test_one_certificate_runs_at_most_its_limit_and_others_are_free() -> None:
    """One runaway client must not take every place."""
    in_flight = InFlight(limit=2)
    with in_flight.call("greedy"), in_flight.call("greedy"):
        with pytest.raises(OverloadedError, match="2 calls of this certificate run"), in_flight.call("greedy"):
            pass
        with in_flight.call("modest"):
            assert in_flight.running == 3
    with in_flight.call("greedy"):
        assert in_flight.running == 1


async def test_idle_comes_when_the_last_call_ends_even_by_failure() -> None:
    """Drain waits for exactly that."""
    in_flight = InFlight(limit=2)
    await asyncio.wait_for(in_flight.idle(), 1)
    with pytest.raises(ValueError, match="broken"), in_flight.call("a"), in_flight.call("b"):
        waiting = asyncio.create_task(in_flight.idle())
        await asyncio.sleep(0)
        assert not waiting.done()
        raise ValueError("broken")
    await asyncio.wait_for(waiting, 1)


async def test_what_the_end_does_not_wait_for_counts_for_its_certificate_all_the_same() -> None:
    """A health watch takes a place, holds up no end, and says NOT_SERVING while the service drains."""
    in_flight = InFlight(limit=2)
    in_flight.draining = True
    with in_flight.call("a", awaited=False), in_flight.call("a", awaited=False):
        assert in_flight.running == 0
        await asyncio.wait_for(in_flight.idle(), 1)
        with pytest.raises(OverloadedError, match="2 calls"), in_flight.call("a", awaited=False):
            pass


async def test_nothing_new_runs_once_the_service_drains() -> None:
    """Refused with a reason that means: elsewhere."""
    in_flight = InFlight(limit=2)
    in_flight.draining = True
    with pytest.raises(DrainingError, match="reconnect"), in_flight.call("a"):
        pass
