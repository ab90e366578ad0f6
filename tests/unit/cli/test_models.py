"""`models list`: what is shipped and what it is for."""

import json

from tests.unit.cli.conftest import Run


def test_the_list_says_what_each_is_for(run: Run) -> None:
    """Whoever chooses a space must see its split, and that some splits protect nothing."""
    found = json.loads(run("models", "list", "--json").out)
    use = {split["name"]: split["use"] for split in found["splits"]}
    assert use == {"l1": "default", "paper": "comparison only", "r1": "", "r2": "comparison only"}
    assert {space["name"]: space["split"] for space in found["spaces"]}["paper-1-int8"] == "paper"
    assert [space["name"] for space in found["spaces"] if space["use"]] == ["l1-3"]
    shown = run("models", "list").out
    assert "comparison only" in shown and "r2-1-int8" in shown
