import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gallery.roster import Roster

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.lists(st.integers(1, 40), min_size=1, max_size=20, unique=True)),
        st.tuples(st.just("remove"), st.lists(st.integers(1, 40), max_size=20)),
    ),
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(steps=STEPS)
def test_the_roster_is_a_dictionary(steps):
    """Sorted arrays with gaps must behave as the obvious mapping, whatever the order of ids."""
    roster, oracle = Roster(), {}
    for number, (kind, ids) in enumerate(steps):
        if kind == "put":
            subjects = [i % 5 + number + 1 for i in ids]
            roster.put(ids, subjects, [100 + i for i in ids])
            oracle.update({i: (subject, 100 + i) for i, subject in zip(ids, subjects, strict=True)})
        else:
            roster.remove(ids)
            for i in ids:
                oracle.pop(i, None)
    everyone = np.arange(45)
    for now in (0, 120):
        expected = [oracle[i][0] if i in oracle and oracle[i][1] > now else 0 for i in everyone]
        assert roster.subjects_of(everyone, now).tolist() == expected
    assert roster.all_ids() == sorted(oracle)
    assert len(roster) == len(oracle)
    assert roster.held(range(45)) == oracle.keys()
    for subject in range(20):
        assert roster.of_subject(subject + 1) == sorted(i for i, (s, _) in oracle.items() if s == subject + 1)


def test_an_empty_roster_knows_nobody():
    """Before the first enrolment."""
    assert Roster().subjects_of(np.array([1, 2]), 0).tolist() == [0, 0]
    assert Roster().held([1]) == set()
    Roster().put([], [], [])
    Roster().remove([])
