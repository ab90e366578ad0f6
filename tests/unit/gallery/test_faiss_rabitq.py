"""The index of scan codes: what its code is worth, and that compaction is noticed by nobody."""

import threading

import faiss
import numpy as np
import pytest

from duetface.errors import ConfigError, GalleryError
from gallery.faiss_rabitq import FaissRabitqIndex
from gallery.scan_code import ROW_STEP, ScanCodes, estimate_deviation, to_codes, to_rows, to_vectors
from tests.unit.gallery.world import person

DIMENSION = 128


def unit_vectors(count: int, seed: int, dimension: int = DIMENSION) -> np.ndarray:
    """(count, dimension) float32, uniform over the sphere, as a secret rotation leaves embeddings."""
    drawn = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def probes_of(vectors: np.ndarray, cosine: float, seed: int) -> np.ndarray:
    """Captures at exactly this cosine to each vector."""
    other = unit_vectors(len(vectors), seed, vectors.shape[1])
    other -= np.einsum("ij,ij->i", other, vectors)[:, None] * vectors
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    return (cosine * vectors + np.sqrt(1 - cosine**2) * other).astype(np.float32)


def filled(vectors: np.ndarray, **options: int) -> FaissRabitqIndex:
    """An index of these vectors under 0, 1, 2, ..."""
    index = FaissRabitqIndex(vectors.shape[1], **options)
    index.add(range(len(vectors)), vectors)
    return index


def test_an_estimate_has_no_bias_and_the_known_deviation():
    """The margin of the search is computed from this deviation."""
    vectors, query = unit_vectors(4000, 1), unit_vectors(1, 2)
    estimates, rows = ScanCodes(to_rows(vectors)).best(query, 4000)
    errors = estimates[0] - (vectors @ query[0])[rows[0]]
    assert abs(errors.mean()) < 4 * errors.std() / np.sqrt(4000)
    assert errors.std() == pytest.approx(estimate_deviation(DIMENSION), rel=0.05)


@pytest.mark.parametrize("cosine", [0.3, 0.6, 0.9])
def test_estimates_of_higher_cosines_deviate_less(cosine):
    """The margin of the search shrinks with the best cosine found; it must never be narrower than the error."""
    others, query = unit_vectors(4000, 5), unit_vectors(1, 6)[0]
    others -= np.outer(others @ query, query)
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    vectors = np.asarray(cosine * query + np.sqrt(1 - cosine**2) * others, np.float32)
    # Both are turned at random, as the realm's rotation does it: the error is one over all rotations.
    turn = np.linalg.qr(np.random.default_rng(7).normal(size=(DIMENSION, DIMENSION)))[0]
    turned = np.ascontiguousarray(vectors @ turn, np.float32)
    estimates, rows = ScanCodes(to_rows(turned)).best(np.float32(query @ turn)[None], 4000)
    errors = estimates[0] - (vectors @ query)[rows[0]]
    expected = FaissRabitqIndex(DIMENSION)._error(cosine)
    assert expected == pytest.approx(estimate_deviation(DIMENSION) * np.sqrt(1 - cosine**2))
    assert errors.std() < 1.1 * expected


def test_the_code_is_as_good_as_rabitq_with_its_factor():
    """Leaving the factor of each vector out must cost nothing that a search could notice."""
    vectors, query = unit_vectors(4000, 3, 512), unit_vectors(1, 4, 512)
    theirs = faiss.IndexRaBitQFastScan(512, faiss.METRIC_INNER_PRODUCT)
    theirs.train(np.zeros((1, 512), np.float32))
    theirs.add(vectors)
    deviations = []
    for estimates, rows in (theirs.search(query, 4000), ScanCodes(to_rows(vectors)).best(query, 4000)):
        deviations.append(float((estimates[0] - (vectors @ query[0])[rows[0]]).std()))
    assert deviations[1] < 1.01 * deviations[0]


def test_a_row_keeps_its_value_through_any_number_of_moves():
    """Otherwise each compaction would move every cosine a little."""
    rows = to_rows(unit_vectors(100, 5))
    np.testing.assert_array_equal(to_rows(to_vectors(rows)), rows)


def test_a_component_moves_by_at_most_half_a_step():
    """From this follows how far a cosine can be from the exact one."""
    vectors = np.concatenate([unit_vectors(100, 6), np.eye(DIMENSION, dtype=np.float32)[:3]])
    assert np.abs(to_vectors(to_rows(vectors)) - vectors).max() <= ROW_STEP / 2 * (1 + 1e-3)


def test_a_code_is_found_in_the_layout_of_faiss_only_if_it_is_there():
    """Erasure is proven on the codes too: a code tells half of the template."""
    rows = to_rows(unit_vectors(300, 7))
    codes = ScanCodes(rows[:200])
    assert all(codes.hold(row) for row in rows[:200:20])
    assert not any(codes.hold(row) for row in rows[200::20])


def test_a_template_takes_at_most_eleven_hundred_bytes():
    """100 bytes of code and 1.1 kB in all is what the capacity sheet reckons with."""
    vectors = unit_vectors(4096, 8, 512)
    index = filled(vectors, segment_rows=4096)
    assert index.statistics().memory_bytes / 4096 < 1100 + 65 * 2060 / 4096  # and an empty delta
    assert to_codes(to_rows(vectors[:1])).nbytes == 64


def test_rank_one_equals_the_exact_search_at_the_lowest_genuine_cosine():
    """With 512 dimensions, a probe at 0.35 among 20,000: what stands out is found, through every widening."""
    vectors = unit_vectors(20_000, 9, 512)
    index = filled(vectors, threads=2, segment_rows=4096)
    probes = np.concatenate([probes_of(vectors[:150], 0.35, 10), unit_vectors(50, 11, 512)])
    exact = (probes @ vectors.T).argmax(axis=1)
    found = [matches[0].template_id for matches in index.search(probes, 1)]
    assert found == exact.tolist()


def test_ten_thousand_removed_neighbours_hide_nobody():
    """All candidates of the first scan are removed rows: the search must go on until it meets a living one."""
    crowd = probes_of(np.repeat(unit_vectors(1, 12), 6000, axis=0), 0.9, 13)
    index = filled(np.concatenate([crowd, unit_vectors(500, 14)]), segment_rows=4096)
    index.remove(range(6000))
    expected = int((unit_vectors(500, 14) @ unit_vectors(1, 12)[0]).argmax()) + 6000
    assert index.search(unit_vectors(1, 12), 1)[0][0].template_id == expected


def test_ten_thousand_templates_of_one_subject_can_all_be_asked_for():
    """The view asks for more and more until it has seen enough subjects."""
    crowd = probes_of(np.repeat(unit_vectors(1, 15), 6000, axis=0), 0.9, 16)
    index = filled(np.concatenate([crowd, unit_vectors(500, 17)]), segment_rows=4096)
    ids = [match.template_id for match in index.search(unit_vectors(1, 15), 6400)[0]]
    assert set(range(6000)) < set(ids)
    assert len(ids) == len(set(ids)) == 6400


def test_compaction_keeps_every_answer_and_no_removed_row():
    """It is a matter of memory and speed alone."""
    vectors = unit_vectors(1000, 18)
    index = FaissRabitqIndex(DIMENSION, segment_rows=256)
    for start in range(0, 1000, 50):
        index.add(range(start, start + 50), vectors[start : start + 50])
    index.remove(range(0, 1000, 3))
    probes = probes_of(vectors[:20], 0.6, 19)
    before = index.search(probes, 9)
    index.compact()
    assert index.search(probes, 9) == before
    assert all(part.kept.all() for part in index._content.parts)
    index.compact()
    assert index.search(probes, 9) == before


def test_removed_rows_are_in_memory_until_compaction_and_gone_after_it():
    """A removal only marks; what the proof of erasure relies on is the compaction that it asks for first."""
    vectors = unit_vectors(300, 20)
    index = filled(vectors, segment_rows=256)
    index.remove([3])
    row = to_rows(vectors[3:4])[0]
    assert any(part.holds(row) for part in index._content.parts)
    index.prove_erased(vectors[3:4])
    assert not any(part.holds(row) for part in index._content.parts)


def test_changes_during_a_compaction_are_kept():
    """The writer does not wait for it: what it adds, removes and adds again meanwhile must come out right."""
    vectors = unit_vectors(6000, 21)
    index = filled(vectors[:3000], segment_rows=1024)
    stop = threading.Event()

    def compact() -> None:
        while not stop.is_set():
            index.compact()

    compactor = threading.Thread(target=compact)
    compactor.start()
    for start in range(0, 3000, 100):
        index.remove(range(start, start + 100))
        index.add(range(3000 + start, 3100 + start), vectors[3000 + start : 3100 + start])
        index.add(range(start, start + 10), vectors[start : start + 10])
    stop.set()
    compactor.join()
    index.compact()
    ids = {match.template_id for match in index.search(vectors[:1], 6000)[0]}
    assert ids == set(range(3000, 6000)) | {i for i in range(3000) if i % 100 < 10}


def test_a_dimension_that_no_code_fits_is_refused():
    """Eight components a byte."""
    with pytest.raises(ConfigError, match="multiple of 8, not 30"):
        FaissRabitqIndex(30)


def test_nothing_is_asked_for_and_nothing_is_found():
    """k of zero is no error."""
    assert filled(unit_vectors(5, 22)).search(unit_vectors(2, 23), 0) == [[], []]


def test_a_snapshot_of_float_rows_is_refused():
    """A snapshot of the exact index must not be taken for rows of this one."""
    from gallery.faiss_exact import FaissExactIndex

    exact = FaissExactIndex(64)
    exact.add([1], np.stack([person(1, dimension=64)]))
    with pytest.raises(GalleryError, match="kind rows-int16"):
        FaissRabitqIndex(64).restore(exact.snapshot())
