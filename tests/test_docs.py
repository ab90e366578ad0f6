"""What the documentation says is what the code does."""

import ast
import re
from pathlib import Path

import pytest

from benchmarks.fill import filled
from benchmarks.fill import main as fill
from cli.reference import command_names, examples, reference

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), *(ROOT / name for name in ("SECURITY.md", "CONTRIBUTING.md"))]


def test_the_reference_of_commands_is_what_help_says() -> None:
    """docs/cli.md is generated: `make docs` writes it anew."""
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == reference()


def test_every_command_has_an_example() -> None:
    """An example is what people copy."""
    missing = [name for name, example in examples() if f"`{name}" not in example]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    """A command that was renamed must not live on in the docs."""
    known = set(command_names())
    groups = {name.rsplit(" ", 1)[0] for name in known}
    for words in re.findall(r"`?\$? ?duetface ((?:[a-z][a-z-]* ?)+)", page.read_text(encoding="utf-8")):
        first = words.split()
        if first[0] in {name.split()[1] for name in known}:
            candidate = " ".join(["duetface", *first[:2]])
            assert candidate in known | groups or f"duetface {first[0]}" in known, f"{page.name}: duetface {words}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    """A broken link sends a newcomer away."""
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    """As for commands."""
    targets = set(re.findall(r"^([a-z][a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for named in re.findall(r"`(?:CAMERA=0 )?make ([a-z-]+)", page.read_text(encoding="utf-8")):
        assert named in targets, f"{page.name}: make {named}"


def calls_in_order(path: Path, function: str, known: set[str]) -> list[str]:
    """Names of the known calls in a function, in the order in which they are made."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function:
            calls = [call for call in ast.walk(node) if isinstance(call, ast.Call)]
            calls.sort(key=lambda call: (call.lineno, call.col_offset))
            names = [getattr(call.func, "attr", getattr(call.func, "id", "")) for call in calls]
            return list(dict.fromkeys(name for name in names if name in known))
    raise AssertionError(f"{path} has no function {function}")


@pytest.mark.parametrize(
    ("heading", "path", "function"),
    [
        ("## On the device", "edge_agent/pipeline.py", "protect"),
        ("## On the service", "recognition_service/pipeline.py", "recognise"),
    ],
)
def test_the_way_of_a_face_is_told_in_the_order_in_which_it_is_gone(heading: str, path: str, function: str) -> None:
    """The page is a newcomer's map; a stage that moved must move there as well."""
    page = (ROOT / "docs" / "way-of-a-face.md").read_text(encoding="utf-8")
    section = page.split(heading)[1].split("\n## ")[0]
    told = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert told == calls_in_order(ROOT / path, function, set(told))
    assert len(told) >= 6


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_measured_numbers_are_those_of_the_result_files(page: Path) -> None:
    """A number behind which `<!-- RESULT file:key -->` stands is the measured one, as printed: `make docs` fills it."""
    text = page.read_text(encoding="utf-8")
    assert text == filled(text)


def test_a_number_is_filled_with_the_decimals_that_it_has(tmp_path: Path) -> None:
    """The author says how much of a number is worth saying."""
    (tmp_path / "r.json").write_text('{"a": {"b_0.5": 1234.567}, "l": [0.123]}')
    text = "9.9 ms <!-- RESULT r.json:a.b_0/5 --> and 7 % <!-- RESULT r.json:l.0 % -->"
    assert filled(text, tmp_path) == ("1,234.6 ms <!-- RESULT r.json:a.b_0/5 --> and 12 % <!-- RESULT r.json:l.0 % -->")
    with pytest.raises(KeyError):
        filled("1 <!-- RESULT r.json:nothing -->", tmp_path)


@pytest.mark.parametrize("text", ["1 <!-- RESULT nothing.json:a -->", "1 <!-- RESULT bench.json:nothing -->", None])
def test_what_cannot_be_filled_ends_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    """A page, a file of results or a number that is not there."""
    page = tmp_path / "page.md"
    if text is not None:
        page.write_text(text)
    assert fill([str(page)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert text is None or page.read_text() == text


def test_the_readme_shows_both_commands_on_its_first_screen() -> None:
    """What it is, what leaves the device, and how to see it, by line 40."""
    first = README.read_text(encoding="utf-8").splitlines()[:40]
    screen = "\n".join(first)
    assert "make demo" in screen
    assert "make test" in screen
    assert "never" in screen
    assert "decisions, 0 wrong" in screen


def test_the_python_example_of_the_readme_is_python_of_fifteen_lines() -> None:
    """It is copied as it stands; its imports must exist."""
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for line in example.splitlines() if line.strip()]
    assert len(lines) <= 15
    for node in ast.walk(ast.parse(example)):
        if isinstance(node, ast.ImportFrom):
            module = __import__(str(node.module), fromlist=[alias.name for alias in node.names])
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module}.{alias.name}"


def test_no_page_promises_what_nobody_measured() -> None:
    """Words that sell instead of saying."""
    for page in PAGES:
        for word in ("state-of-the-art", "unbreakable", "fully secure", "100 % secure", "cannot be reconstructed"):
            assert word not in page.read_text(encoding="utf-8").lower(), f"{page.name}: {word}"
