import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("privacy-*-linear.json"))
LEARNED = sorted(
    path
    for attack in ("decoder-from-*", "ridge-from-*", "average-from-*", "excess")
    for path in (ROOT / "benchmarks" / "results").glob(f"privacy-*-{attack}.json")
)
DIGITS = {"ssim": 3, "psnr_db": 2, "tar": 3, "excess_ssim": 3, "excess_psnr_db": 2, "excess_tar": 3}


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_linear_figures_of_the_docs_are_those_of_the_result_file(path: Path) -> None:
    """A figure that was typed by hand drifts."""
    found = json.loads(path.read_text(encoding="utf-8"))
    docs = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
    for knowledge in ("known", "guessed"):
        for name, digits in (("ssim", 3), ("psnr_db", 1)):
            value = found["metrics"][f"{name}_means_{knowledge}"]
            text = f"{value['mean']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"
            assert text in docs, f"{path.name}: {name} {knowledge} {text}"
    assert f"seed {found['seed']}, {found['date']}" in docs


@pytest.mark.parametrize("path", LEARNED, ids=lambda path: path.stem)
def test_figures_of_attacks_that_learn_are_those_of_the_result_file(path: Path) -> None:
    """The rows of the tables, intervals and all."""
    metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
    docs = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
    shown = {name: value for name, value in metrics.items() if name in DIGITS}
    assert shown
    for name, value in shown.items():
        digits = DIGITS[name]
        text = f"{value['mean']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"
        assert text in docs, f"{path.name}: {name} {text}"


def test_no_result_file_holds_a_picture() -> None:
    """Figures only: pictures and messages of research faces stay in the ignored cache."""
    for path in (ROOT / "benchmarks" / "results").glob("privacy-*"):
        assert path.suffix == ".json"
        assert path.stat().st_size < 20_000
