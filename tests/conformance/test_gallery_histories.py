"""Any order of operations leaves every index equal to the oracle: hypothesis looks for the one that does not."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from duetface.errors import ContractError
from gallery.brute_force import BruteForceIndex
from gallery.index import IndexChange
from tests.conformance.kinds import DIMENSION, Kind, agree, every_index, people


class IndexMachine(RuleBasedStateMachine):
    """Any order of add, remove, restore and replay keeps index and oracle equal."""

    kind: Kind

    @initialize()
    def begin(self) -> None:
        """Both empty."""
        self.index, self.oracle, self.ids = self.kind.make(), BruteForceIndex(DIMENSION), set[int]()

    @rule(ids=st.lists(st.integers(1, 60), min_size=1, max_size=9, unique=True))
    def add(self, ids: list[int]) -> None:
        """Add those that are new; refuse if one is not."""
        if self.ids & set(ids):
            with pytest.raises(ContractError):
                self.index.add(ids, people(*ids))
            return
        self.ids |= set(ids)
        self.index.add(ids, people(*ids))
        self.oracle.add(ids, people(*ids))

    @rule(ids=st.lists(st.integers(1, 60), max_size=30))
    def remove(self, ids: list[int]) -> None:
        """Remove, present or not."""
        assert self.index.remove(ids) == self.oracle.remove(ids) == len(self.ids & set(ids))
        self.ids -= set(ids)

    @rule(ids=st.lists(st.integers(1, 60), min_size=1, max_size=5, unique=True), gone=st.lists(st.integers(1, 60)))
    def replay(self, ids: list[int], gone: list[int]) -> None:
        """Replace and remove in one step."""
        change = IndexChange(tuple(gone), tuple(ids), people(*ids))
        self.index.replay([change])
        self.oracle.replay([change])
        self.ids = (self.ids - set(gone)) | set(ids)

    @rule()
    def compact(self) -> None:
        """Tidy up, which must not be noticed."""
        self.index.compact()

    @rule()
    def restart(self) -> None:
        """Go on with what a snapshot restores."""
        restored = self.kind.make()
        restored.restore(self.index.snapshot())
        self.index = restored

    @invariant()
    def equal(self) -> None:
        """Compared at every step."""
        agree(self.kind, self.index, self.oracle, people(5, 70), 7)
        assert self.index.statistics().templates == len(self.ids)


@every_index
def test_any_history_equals_the_oracle(kind):
    """Hypothesis looks for the order of operations that breaks it."""
    machine = type("Machine", (IndexMachine,), {"kind": kind}).TestCase
    machine.settings = settings(
        max_examples=kind.examples, stateful_step_count=12, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    machine().runTest()
