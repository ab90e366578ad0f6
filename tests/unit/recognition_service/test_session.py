"""Nonces and sequences: the rules that refuse a replay, apart from any network."""

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetface.errors import OverloadedError
from recognition_service.refusals import NonceError, ReplayError
from recognition_service.session import NonceBook, StreamSession


def book(limit: int = 64) -> NonceBook:
    """Nonces of 30 s."""
    return NonceBook(30.0, limit, secrets.token_bytes)


def test_a_nonce_can_be_spent_once() -> None:
    """A recorded call must not open the door again."""
    nonces = book()
    nonce = nonces.issue("door", 0.0)
    nonces.spend(nonce, "door", 1.0)
    with pytest.raises(NonceError, match="unknown, spent, expired"):
        nonces.spend(nonce, "door", 1.0)


def test_a_nonce_expires() -> None:
    """A signature made long ago says nothing about who is there now."""
    nonces = book()
    nonce = nonces.issue("door", 0.0)
    with pytest.raises(NonceError, match="expired"):
        nonces.spend(nonce, "door", 30.0)


def test_a_nonce_works_until_just_before_its_end() -> None:
    """The contract promises the whole lifetime."""
    nonces = book()
    nonces.spend(nonces.issue("door", 0.0), "door", 29.999)


def test_another_certificate_cannot_spend_a_nonce_nor_burn_it() -> None:
    """Who guesses a nonce must be able neither to use it nor to block its owner."""
    nonces = book()
    nonce = nonces.issue("door", 0.0)
    with pytest.raises(NonceError, match="another certificate"):
        nonces.spend(nonce, "window", 1.0)
    nonces.spend(nonce, "door", 2.0)


def test_a_made_up_nonce_is_refused() -> None:
    """Only what the service handed out counts."""
    with pytest.raises(NonceError):
        book().spend(bytes(32), "door", 0.0)


def test_one_certificate_holds_at_most_its_limit_and_learns_when_to_come_back() -> None:
    """Nonces are memory: nobody may fill it, and one certificate's greed must not touch another's."""
    nonces = book(limit=2)
    nonces.issue("greedy", 0.0)
    nonces.issue("greedy", 10.0)
    with pytest.raises(OverloadedError, match="2 nonces are in flight") as refused:
        nonces.issue("greedy", 12.0)
    assert refused.value.retry_after_s == pytest.approx(18.0)
    nonces.issue("modest", 12.0)
    nonces.issue("greedy", 30.0)  # the first has expired


@given(spent=st.lists(st.booleans(), max_size=50))
def test_what_is_in_flight_is_what_was_issued_less_what_was_spent(spent: list[bool]) -> None:
    """The count is the limit's base; a leak would lock a device out for good."""
    nonces = book()
    issued = [nonces.issue("door", 0.0) for _ in spent]
    for nonce, is_spent in zip(issued, spent, strict=True):
        if is_spent:
            nonces.spend(nonce, "door", 1.0)
    assert nonces.in_flight("door") == spent.count(False)
    later = nonces.issue("door", 100.0)
    assert nonces.in_flight("door") == 1
    nonces.spend(later, "door", 101.0)
    assert nonces.in_flight("door") == 0


@given(sequences=st.lists(st.integers(0, 2**64 - 1), unique=True, min_size=1).map(sorted))
def test_rising_sequences_are_accepted_with_any_gaps(sequences: list[int]) -> None:
    """A device drops stale frames, so gaps are normal."""
    session = StreamSession(bytes(32))
    for sequence in sequences:
        session = session.accept(bytes(32), sequence)
    assert session.next_sequence == sequences[-1] + 1


@given(first=st.integers(0, 2**63), back=st.integers(0, 2**63))
def test_a_sequence_that_does_not_rise_is_a_replay(first: int, back: int) -> None:
    """The same signed frame must not be decided twice."""
    session = StreamSession(bytes(32)).accept(bytes(32), first)
    with pytest.raises(ReplayError, match=rf"expected {first + 1} or later"):
        session.accept(bytes(32), max(0, first - back))


def test_a_stream_takes_its_own_nonce_only() -> None:
    """A frame signed for another stream, or for a unary call, is a replay of something."""
    with pytest.raises(NonceError, match="another nonce"):
        StreamSession(bytes(32)).accept(b"\x01" * 32, 0)
