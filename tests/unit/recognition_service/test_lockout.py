"""The lock-out of NIST SP 800-63B-4: 5 failures, 30 seconds, 50 failures."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from recognition_service.lockout import LockOutPolicy, OneAtATime

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = LockOutPolicy()


@pytest.mark.parametrize("failures", range(5))
def test_fewer_than_five_failures_lock_nobody_out(failures: int) -> None:
    """A person may look away a few times."""
    assert not POLICY.locked(failures, NOW, NOW)


@pytest.mark.parametrize("failures", [5, 6, 49])
def test_from_the_fifth_on_an_attempt_waits_thirty_seconds(failures: int) -> None:
    """The standard's delay, to the second."""
    assert POLICY.locked(failures, NOW, NOW + timedelta(seconds=29.999))
    assert not POLICY.locked(failures, NOW, NOW + timedelta(seconds=30))


def test_after_fifty_there_are_no_more_attempts_however_long_one_waits() -> None:
    """Only an operator ends this."""
    assert POLICY.locked(50, NOW, NOW + timedelta(days=365))


def test_a_clock_that_was_set_back_does_not_open_the_lock() -> None:
    """A failure from the future is still a failure."""
    assert POLICY.locked(5, NOW, NOW - timedelta(hours=1))


async def test_attempts_on_one_key_follow_one_another() -> None:
    """Fifty parallel guesses must not all see the counter at four."""
    one_at_a_time, inside, most = OneAtATime(), 0, 0

    async def attempt() -> None:
        nonlocal inside, most
        async with one_at_a_time.hold("alice"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(attempt() for _ in range(20)))
    assert most == 1
    assert len(one_at_a_time) == 0


async def test_attempts_on_different_keys_do_not_wait_for_each_other() -> None:
    """One slow attempt must not stop the house."""
    one_at_a_time = OneAtATime()
    async with one_at_a_time.hold("alice"), asyncio.timeout(1), one_at_a_time.hold("bob"):
        assert len(one_at_a_time) == 2


async def test_a_cancelled_attempt_leaves_nothing_behind() -> None:
    """A peer that hangs up while waiting must not block the next."""
    one_at_a_time = OneAtATime()
    async with one_at_a_time.hold("alice"):
        waiting = asyncio.create_task(one_at_a_time.hold("alice").__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert len(one_at_a_time) == 0
