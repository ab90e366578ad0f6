"""One suite for every index: the same answers as the obvious computation, whatever is inside."""

import threading

import numpy as np
import pytest

from duetface.errors import ContractError, GalleryError, MessageError
from gallery.brute_force import BruteForceIndex
from gallery.erasure import forms_of
from gallery.fingerprints import Fingerprints
from gallery.index import IndexChange
from tests.conformance.kinds import DIMENSION, KINDS, agree, every_index, filled, people
from tests.unit.gallery.world import person


@every_index
def test_search_equals_the_oracle(kind):
    """Exact means exact: for the probe of somebody enrolled, of a stranger, for one neighbour and for all."""
    index, oracle = filled(kind, 50), filled(KINDS[0], 50)
    probes = np.concatenate([people(3, 17, 50, capture=1), people(99)])
    for k in (1, 3, 50, 80):
        agree(kind, index, oracle, probes, k)


@every_index
def test_an_empty_index_finds_nothing(kind):
    """The first day."""
    assert kind.make().search(people(1, 2), 5) == [[], []]
    assert kind.make().search(np.empty((0, DIMENSION), np.float32), 5) == []
    assert kind.make().remove([1]) == 0


@every_index
def test_fewer_than_k_are_all_returned_best_first(kind):
    """No filler ids: faiss's -1 must not get out."""
    found = filled(kind, 3).search(people(2, capture=1), 10)[0]
    assert sorted(match.template_id for match in found) == [1, 2, 3]
    assert found[0].template_id == 2
    similarities = [match.cosine_similarity for match in found]
    assert similarities == sorted(similarities, reverse=True)


@every_index
def test_equal_cosines_come_by_ascending_id(kind):
    """Two runs, two replicas, two indexes give one order."""
    index = kind.make()
    index.add([9, 2, 7, 4, 5], np.repeat(people(1), 5, axis=0))
    assert [match.template_id for match in index.search(people(1), 5)[0]] == [2, 4, 5, 7, 9]


@every_index
def test_ids_of_any_size_are_kept(kind):
    """Ids are revisions: they only grow."""
    index = kind.make()
    index.add([2**62, 1], people(1, 2))
    assert index.search(people(1), 1)[0][0].template_id == 2**62


@every_index
def test_removed_is_never_returned(kind):
    """Nor does its removal disturb the others, wherever it lay."""
    index = filled(kind, 20)
    assert index.remove([1, 7, 8, 20, 77]) == 4
    found = {match.template_id for match in index.search(people(7), 20)[0]}
    assert found == set(range(1, 21)) - {1, 7, 8, 20}
    assert index.remove([1, 7]) == 0
    index.add([7], people(30))
    assert index.search(people(30), 1)[0][0].template_id == 7


@every_index
def test_everything_can_be_removed_and_added_again(kind):
    """A realm that starts over."""
    index = filled(kind, 20)
    assert index.remove(range(1, 21)) == 20
    assert index.search(people(1), 3) == [[]]
    assert index.statistics().templates == 0
    index.add([5], people(5))
    assert index.search(people(5), 3)[0][0].template_id == 5


@every_index
def test_an_id_that_is_there_is_refused_and_nothing_is_added(kind):
    """All or none, so that the caller knows what the index holds."""
    index = filled(kind, 3)
    for ids in ([4, 2], [4, 4]):
        with pytest.raises(ContractError, match="in the index already"):
            index.add(ids, people(10, 11))
    assert index.statistics().templates == 3


@every_index
@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.full((1, DIMENSION), np.nan, np.float32), "not finite"),
        (np.full((1, DIMENSION), np.inf, np.float32), "not finite"),
        (np.zeros((1, DIMENSION), np.float32), "unit length"),
        (np.full((1, DIMENSION), 1.0, np.float32), "unit length"),
        (np.ones((1, DIMENSION + 1), np.float32), "shape"),
        (np.ones(DIMENSION, np.float32), "shape"),
        (np.ones((1, DIMENSION)), "float64"),
    ],
)
def test_bad_vectors_are_refused_and_leave_no_trace(kind, vectors, message):
    """One NaN in an index poisons every later answer."""
    index = filled(kind, 3)
    with pytest.raises(MessageError, match=message):
        index.add([9], vectors)
    with pytest.raises(MessageError, match=message):
        index.search(vectors, 1)
    assert index.statistics().templates == 3


@every_index
def test_ids_and_vectors_must_be_as_many(kind):
    """A shifted list would give people each other's templates."""
    with pytest.raises(MessageError, match="2 template ids for 1 embeddings"):
        kind.make().add([1, 2], people(1))


@every_index
def test_replay_equals_what_was_done(kind):
    """Replicas follow the feed; doing a step twice, after a crash in between, changes nothing."""
    changes = [
        IndexChange((), (1, 2, 3), people(1, 2, 3)),
        IndexChange((2,), (4,), people(4)),
        IndexChange((), (1,), people(11)),
        IndexChange((99,), (), people(1)[:0]),
    ]
    index, oracle = kind.make(), BruteForceIndex(DIMENSION)
    index.replay([step for change in changes for step in (change, change)])
    oracle.replay(changes)
    agree(kind, index, oracle, people(1, 2, 4, 11), 5)


@every_index
def test_a_step_may_take_an_id_away_and_bring_it_back(kind):
    """A template that moves within a step, as it was or changed, is there after it."""
    index = filled(kind, 3)
    index.replay([IndexChange((1, 2, 3), (1, 2), people(1, 12))])
    assert sorted(index.ids().tolist()) == [1, 2]
    assert index.search(people(12), 1)[0][0].cosine_similarity == pytest.approx(1, abs=kind.tolerance)


@every_index
def test_a_snapshot_restores_the_same_index(kind):
    """Start from a snapshot must be start from the store, only faster; what was there before is replaced."""
    index = filled(kind, 30)
    index.remove([3, 30])
    restored = filled(kind, 5)
    restored.restore(index.snapshot())
    assert restored.search(people(1, 3, 30), 30) == index.search(people(1, 3, 30), 30)
    restored.add([3], people(3))
    restored.remove([1])
    assert restored.statistics().templates == 28


@every_index
def test_an_empty_snapshot_restores_too(kind):
    """A realm without anybody."""
    index = filled(kind, 2)
    index.restore(kind.make().snapshot())
    assert index.search(people(1), 1) == [[]]


@every_index
def test_a_damaged_snapshot_is_refused_and_changes_nothing(kind):
    """Cut short, too long, of another kind or dimension: the caller rebuilds from the store."""
    index = filled(kind, 5)
    whole = index.snapshot()
    other = BruteForceIndex(DIMENSION * 2)
    other.add([1], np.stack([person(1, dimension=DIMENSION * 2)]))
    for damaged in (b"", whole[:10], whole[:-1], whole + b"x", b"X" + whole[1:], other.snapshot()):
        with pytest.raises(GalleryError, match="snapshot"):
            index.restore(damaged)
    assert index.search(people(3), 1)[0][0].template_id == 3


@every_index
def test_erasure_is_proven_on_what_is_held(kind):
    """The same look finds the vector before; otherwise the proof would be empty."""
    index = filled(kind, 20)
    with pytest.raises(GalleryError, match="still in the index"):
        index.prove_erased(people(7))
    index.remove([7])
    index.prove_erased(people(7))
    with pytest.raises(GalleryError, match="still in the index"):
        index.prove_erased(people(7, 8))


@every_index
def test_a_search_of_all_that_is_held_finds_what_is_there_and_nothing_that_is_gone(kind):
    """By fingerprints, as a receipt does; removed rows count until a compaction has taken them out of memory."""
    index = filled(kind, 20)
    prints = Fingerprints.of(bytes(16), [form for vector in people(7) for form in forms_of(vector)])

    def found() -> int:
        return sum(prints.found_in(content) for content in index.contents())

    assert found() > 0
    index.remove([7])
    index.compact()
    assert found() == 0


@every_index
def test_two_indexes_know_nothing_of_each_other(kind):
    """Two realms, or two spaces of one, have an index each: the same ids mean other people there."""
    one, other = filled(kind, 20), kind.make()
    other.add([3, 50], people(33, 50))
    assert {match.template_id for match in other.search(people(3), 99)[0]} == {3, 50}
    assert other.search(people(33), 1)[0][0].template_id == 3
    assert one.search(people(33), 1)[0][0].cosine_similarity < 0.9
    assert other.remove([3, 4]) == 1
    assert one.search(people(3), 1)[0][0].template_id == 3
    assert (one.statistics().templates, other.statistics().templates) == (20, 1)


@every_index
def test_the_right_one_is_found_among_many(kind):
    """Recall against the exact search, at cosines from the weakest that any threshold accepts: all, or nearly all."""
    index, oracle = filled(kind, 300), filled(KINDS[0], 300)
    numbers = np.random.default_rng(1).choice(300, 100) + 1
    probes = np.stack([person(int(n), 9, cosine=0.35, dimension=DIMENSION) for n in numbers])
    pairs = list(zip(index.search(probes, 5), oracle.search(probes, 5), strict=True))
    rank_1 = np.mean([found[0].template_id == expected[0].template_id for found, expected in pairs])
    recall = np.mean(
        [len({m.template_id for m in found} & {m.template_id for m in expected}) / 5 for found, expected in pairs]
    )
    assert (rank_1, recall) >= ((1.0, 1.0) if index.statistics().exact else (0.99, 0.99))


@every_index
def test_ids_tell_what_is_held(kind):
    """An index that outlives the process is compared with the store at a start."""
    index = filled(kind, 20)
    assert kind.make().ids().tolist() == []
    index.remove([3, 20])
    assert sorted(index.ids().tolist()) == sorted(set(range(1, 20)) - {3})


@every_index
def test_statistics_tell_size_and_memory(kind):
    """The capacity sheet is computed from them."""
    statistics = filled(kind, 20).statistics()
    assert statistics.templates == 20
    assert statistics.memory_bytes >= 20 * (DIMENSION // 8 + 8)


@every_index
def test_readers_see_before_or_after_and_never_between(kind):
    """A search during writes finds whoever was enrolled before, and nobody who is half written."""
    index = filled(kind, 10)
    known = people(*range(1, 200))
    stop, wrong = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            for match in index.search(people(5), 3)[0]:
                cosine = float(known[match.template_id - 1] @ known[4])
                if abs(match.cosine_similarity - cosine) > 1e-4:
                    wrong.append(match)
            if index.search(people(5), 1)[0][0].template_id != 5:
                wrong.append(None)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(11, 150):
        index.add([number], people(number))
        if number % 2:
            index.remove([number - 1])
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []
