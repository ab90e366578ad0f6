"""What the gallery's benchmark measures with: its people, its truth, its sheet; and that a small run goes through."""

import json
from pathlib import Path

import numpy as np

from benchmarks import gallery
from benchmarks.capacity import MARKS, Line, sheet
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


def test_a_line_goes_through_both_runs():
    """What is reckoned follows from what is measured."""
    line = Line.through([{"templates": 10, "y": 3.0}, {"templates": 30, "y": 7.0}], lambda run: run["y"])
    assert (line.at(0), line.at(10), line.at(30)) == (1.0, 3.0, 7.0)


def test_the_docs_hold_the_computed_capacity_sheet():
    """`make docs` writes it anew."""
    found = MARKS.search((ROOT / "docs" / "operations.md").read_text(encoding="utf-8"))
    assert found is not None
    assert found[0] == found[1] + sheet() + found[2]


def test_a_small_run_measures_everything(tmp_path, capsys):
    """Nobody finds out after five minutes that the last figure fails."""
    out = tmp_path / "result.json"
    assert gallery.main(["--templates", "3000", "--threads", "1", "--quick", "--alone", "--out", str(out)]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found == json.loads(capsys.readouterr().out)
    assert found["agreement"]["all"]["rank_1_same"] == 1.0
    assert found["life"]["start"]["snapshot_bytes"] > 3000 * 1024
