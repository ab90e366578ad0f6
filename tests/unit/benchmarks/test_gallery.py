"""What the gallery's benchmark measures with: its people, its truth, its sheet; and that a small run goes through."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gallery
from benchmarks.capacity import MARKS, Line, sheet
from benchmarks.gallery_scale import _line
from benchmarks.gallery_store import SPACE, built, opened, person
from benchmarks.population import Population, Truth

ROOT = Path(__file__).resolve().parents[3]


def test_people_are_as_alike_as_real_embeddings():
    """Strangers among 22,000 real embeddings have cosines of 0.012 +- 0.068; uniform vectors would have 0 +- 0.044."""
    people = Population.load(1).people(3000, 2)
    cosines = (people[:1500] @ people[1500:].T).ravel()
    assert abs(float(cosines.mean()) - 0.012) < 0.003
    assert abs(float(cosines.std()) - 0.068) < 0.002


def test_a_probe_lies_at_the_cosine_asked_for():
    """The figures are told by cosine."""
    population = Population.load(1)
    people = population.people(100, 3)
    cosines = np.einsum("ij,ij->i", people, population.probes(people, 0.4, 0.5, 4))
    assert cosines.min() > 0.4 - 1e-5
    assert cosines.max() < 0.5 + 1e-5


def test_the_truth_is_the_best_of_all_chunks():
    """It is what the index is judged by."""
    population = Population.load(1)
    people, probes = population.people(900, 5), population.people(40, 6)
    truth = Truth(probes)
    for start in range(0, 900, 300):
        truth.see(start, people[start : start + 300])
    assert truth.ids.tolist() == (probes @ people.T).argmax(axis=1).tolist()
    same = truth.agreement(truth.ids, truth.best, (0.3,))
    assert (same["rank_1_same"], same["decision_same"]) == (1.0, 1.0)
    worse = truth.agreement(truth.ids - 1, truth.best, (-1.0,))
    assert (worse["rank_1_same"], worse["decision_same"]) == (0.0, 0.0)


def test_a_line_goes_through_what_was_measured():
    """What is reckoned follows from what is measured."""
    line = Line.through({10: 3.0, 30: 7.0, 50: 11.0})
    assert (line.at(0), line.at(10), line.at(40)) == pytest.approx((1.0, 3.0, 9.0))


def test_the_docs_hold_the_computed_capacity_sheet():
    """`make docs` writes it anew."""
    found = MARKS.search((ROOT / "docs" / "operations.md").read_text(encoding="utf-8"))
    assert found is not None
    assert found[0] == found[1] + sheet() + found[2]


def test_a_small_run_measures_everything(tmp_path, capsys):
    """Nobody finds out after five minutes that the last figure fails; and one part can be measured anew."""
    out = tmp_path / "result.json"
    command = ["--templates", "3000", "--threads", "1", "--quick", "--alone", "--cache", str(tmp_path)]
    command += ["--out", str(out)]
    assert gallery.main(command) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found == json.loads(capsys.readouterr().out)
    assert found["agreement"]["all"]["rank_1_same"] == 1.0
    assert found["life"]["start"]["snapshot_bytes"] > 3000 * 1024
    assert found["sql_start"]["templates"] == 3000
    assert found["committed"]["add_ms"]["n"] == found["committed"]["remove_while_searching_ms"]["n"] == 50
    assert [size["templates"] for size in found["scale"]["sizes"]] == [3000]
    assert gallery.main([*command, "--parts", "scale"]) == 0
    again = json.loads(out.read_text(encoding="utf-8"))
    assert again["scale"] != found["scale"]
    assert again | {"scale": 0} == found | {"scale": 0}


def test_the_database_that_is_measured_is_a_whole_gallery(tmp_path):
    """Rows made in bulk must be what enrolments leave behind, or the figures are of another thing."""
    population = Population.load(gallery.SEED)
    path = built(tmp_path, population, 200, gallery.SEED)
    assert built(tmp_path, population, 200, gallery.SEED) == path
    with opened(path, threads=1) as found:
        assert found.verify_audit() == found.revision == 400
        assert [change.revision for change in found.changes()] == list(range(1, 401))
        assert found.subject(person(7)).template_count == 1
        probe = population.probes(population.people(200, gallery.SEED)[7:8], 0.6, 0.7, 1)[0]
        assert found.identify(probe, SPACE)[0].subject_id == person(7)
        assert found.maintenance.check(SPACE, 0.9).missing == ()


def test_a_part_that_does_not_exist_is_refused(capsys):
    """A slip must not measure for five minutes."""
    with pytest.raises(SystemExit):
        gallery.main(["--parts", "serch"])
    assert "'serch' is no part: expected some of search" in capsys.readouterr().err


def test_search_time_over_size_is_a_line():
    """What is said of ten million follows from what was measured."""
    sizes = [{"templates": n, "search_ms": {"p50": 0.5 + n * 6e-6}} for n in (100_000, 300_000, 1_000_000)]
    fit = _line(sizes)
    assert (fit["start_ms"], fit["ms_a_million"], fit["at_10000000_ms"]) == (0.5, 6.0, 60.5)
    assert _line(sizes[:1]) is None
