import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("privacy-*-linear.json"))


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


def test_no_result_file_holds_a_picture() -> None:
    """Figures only: pictures and messages of research faces stay in the ignored cache."""
    for path in (ROOT / "benchmarks" / "results").glob("privacy-*"):
        assert path.suffix == ".json"
        assert path.stat().st_size < 20_000
