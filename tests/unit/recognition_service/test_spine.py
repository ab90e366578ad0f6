"""The spine reads as the design draws it."""

import inspect
import re

from recognition_service.pipeline import recognise


def test_recognise_calls_its_stages_in_the_order_of_the_design() -> None:
    """decode, (batch and) embed, search and decide, audit: a newcomer finds each step of the way in one place."""
    stages = re.findall(r"stages\.(\w+)\(", inspect.getsource(recognise))
    looked = ["decode", "reach", "attempt", "refuse_unlooked", "embed", "search_and_decide", "record"]
    assert stages == [*looked, "take_along"]
    assert len(inspect.getsource(recognise).splitlines()) <= 20
