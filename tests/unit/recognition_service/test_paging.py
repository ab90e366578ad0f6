"""Page tokens are bound to their list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recognition_service.refusals import FieldError
from recognition_service.rpc.paging import after_of, page_token

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)


@given(after=words.filter(bool), partition=words)
def test_a_token_leads_back_to_where_the_page_ended(after: str, partition: str) -> None:
    """Nobody is listed twice or left out."""
    assert after_of(page_token(after, "subjects", partition), "subjects", partition) == after


def test_no_token_is_the_first_page() -> None:
    """As every list RPC has it."""
    assert after_of("", "subjects", "") == ""


@pytest.mark.parametrize("token", ["x", "nonsense", "AAAA", page_token("alice", "templates", "")])
def test_a_foreign_token_is_refused(token: str) -> None:
    """A token of another list would skip people silently."""
    with pytest.raises(FieldError, match="start at the first page"):
        after_of(token, "subjects", "")
