"""Which package may import which, how heavy each is to import, and how large a function or module may grow."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# An arrow that is not here is a mistake, not a missing entry.
RUN_TIME = {"duetface", "edge_agent", "gallery", "recognition_service"}
MAY_IMPORT: dict[str, set[str]] = {
    "duetface": set(),
    "gallery": {"duetface"},
    "edge_agent": {"duetface"},
    "networks": {"duetface"},
    "recognition_service": {"duetface", "gallery"},
    "cli": RUN_TIME,
    "training": RUN_TIME | {"networks"},
    "privacy": RUN_TIME | {"networks", "training"},
    "benchmarks": RUN_TIME | {"networks", "training", "privacy"},
    # The demonstration drives the command and draws what the device did.
    "demo": RUN_TIME | {"cli"},
    "tests": set(),
}
GENERATED = "duetface.v1"
# What must not get in by any way, even through another library: a device has no room, a server no need.
MUST_NOT_LOAD = {
    "duetface": {"torch", "faiss", "sqlalchemy", "cv2", "onnxruntime", "ai_edge_litert", "av", "matplotlib"},
    "edge_agent": {"torch", "faiss", "sqlalchemy", "alembic", "matplotlib"},
    "gallery": {"torch", "cv2", "av", "ai_edge_litert", "matplotlib"},
    "recognition_service": {"torch", "cv2", "av", "ai_edge_litert", "matplotlib"},
    "cli": {"torch", "matplotlib"},
}
LARGEST_FUNCTION = 40
LARGEST_MODULE = 400


def modules(package: str) -> Iterator[Path]:
    """Every hand-written module of a package."""
    for path in sorted((ROOT / package).rglob("*.py")):
        if not {"v1", "node_modules", "versions"} & set(path.parts):  # generated, foreign, lists of columns
            yield path


def imported_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and absolute name of every import, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)


@pytest.mark.parametrize("package", [name for name in MAY_IMPORT if name != "tests"])
def test_no_package_imports_what_it_may_not(package: str) -> None:
    """The edge must not reach gallery code even by mistake, and nothing may lean on what sits on top."""
    for path in modules(package):
        for line, name in imported_names(ast.parse(path.read_text(encoding="utf-8"))):
            ours = {name.split(".")[0]} & MAY_IMPORT.keys()
            assert ours <= MAY_IMPORT[package] | {package}, f"{path.relative_to(ROOT)}:{line} imports {name}"


def test_only_the_seams_touch_generated_code() -> None:
    """Everybody else speaks in duetface.types, so that a change of the contract stays local."""
    seams = {
        "duetface/codec.py", "duetface/client.py", "duetface/identity.py", "edge_agent/stream.py",
        "privacy/observation.py",
    }  # fmt: skip
    for package in (RUN_TIME | {"cli", "networks", "training"}) - {"recognition_service"}:
        for path in modules(package):
            touched = [name for _, name in imported_names(ast.parse(path.read_text("utf-8"))) if GENERATED in name]
            assert not touched or str(path.relative_to(ROOT)) in seams, f"{path} imports {touched}"


@pytest.mark.parametrize("package", list(MUST_NOT_LOAD))
def test_importing_a_package_loads_nothing_that_it_must_not(package: str) -> None:
    """An import statement can hide behind another library; only a fresh interpreter tells."""
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in modules(package)]
    # alembic runs env.py; alignment is the one module of duetface that needs OpenCV, and the service never loads it.
    names = [name.removesuffix(".__init__") for name in names if name.split(".")[-1] not in ("env", "alignment")]
    script = (
        "import sys, json, importlib\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    loaded = set(json.loads(run.stdout.splitlines()[-1]))
    assert not loaded & MUST_NOT_LOAD[package]


def test_a_run_is_trained_without_what_a_lent_gpu_machine_lacks() -> None:
    """There are torch, NumPy, ONNX, OpenCV and Pillow, and nothing can be installed (docs/training.md)."""
    script = (
        "import sys, training.__main__, training.fit, training.published, training.teacher; print(sorted(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    if "No module named 'torch'" in run.stderr:
        pytest.skip("torch is not installed: nothing is trained here")
    assert run.returncode == 0, run.stderr
    for missing in ("onnxruntime", "ai_edge_litert", "matplotlib", "rich", "sqlalchemy", "faiss"):
        assert f"'{missing}'" not in run.stdout, f"{missing} is loaded before it is needed"


def test_help_loads_nothing_heavy() -> None:
    """`duetface --help` and shell completion must answer at once."""
    script = "import sys, cli.main; print(sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    for heavy in ("numpy", "grpc", "cv2", "onnxruntime", "sqlalchemy", "faiss", "cryptography", "pydantic"):
        assert f"'{heavy}'" not in run.stdout, f"{heavy} is loaded before any command runs"


def length_without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's signature and body."""
    length = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        length -= (first.end_lineno or first.lineno) - first.lineno + 1
    return length


@pytest.mark.parametrize("package", sorted(RUN_TIME | {"cli", "networks", "training", "demo", "benchmarks"}))
def test_functions_and_modules_stay_small(package: str) -> None:
    """A newcomer reads one thing at a time."""
    for path in modules(package):
        source = path.read_text(encoding="utf-8")
        assert source.count("\n") <= LARGEST_MODULE, f"{path.relative_to(ROOT)} has {source.count(chr(10))} lines"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = length_without_docstring(node)
                assert length <= LARGEST_FUNCTION, f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {length} lines"


def test_no_module_is_a_drawer_for_everything() -> None:
    """A name that says nothing collects everything."""
    for package in MAY_IMPORT:
        for path in modules(package):
            assert path.stem not in {"utils", "util", "helpers", "common", "misc"}, path
