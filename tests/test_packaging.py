"""What is installed where: extras, pins, the wheel, and the targets of the Makefile."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OURS = {"duetface", "edge_agent", "gallery", "recognition_service", "cli", "networks", "training", "privacy"}
# Import names that several distributions share, or that another name provides.
DISTRIBUTION = {
    "google": {"protobuf", "googleapis-common-protos"},
    "cv2": {"opencv-python-headless"},
    "mpl_toolkits": {"matplotlib"},
    "pkcs11": {"python-pkcs11"},
}
# What each package may need: the base requirements and its extra.
EXTRA = {
    "duetface": ["edge"],
    "edge_agent": ["edge"],
    "gallery": ["service", "postgres", "milvus", "hsm"],
    "recognition_service": ["service"],
    "cli": ["edge", "service"],
}


def name_of(requirement: str) -> str:
    """The normalised name of a requirement."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found, requirement
    return found[0].lower().replace("_", "-").replace(".", "-")


def declared(*extras: str) -> set[str]:
    """Names in the base requirements and in these extras."""
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    return {name_of(line) for line in lines}


def third_party(package: str) -> dict[str, str]:
    """Distributions that a package imports -> where, imports inside functions included."""
    owners = packages_distributions()
    found: dict[str, str] = {}
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for top in {name.split(".")[0] for name in names} - OURS - set(sys.stdlib_module_names):
                for distribution in DISTRIBUTION.get(top, set(owners.get(top, [top]))):
                    found[name_of(distribution)] = f"{path.relative_to(ROOT)}:{node.lineno}"
    return found


@pytest.mark.parametrize("package", list(EXTRA))
def test_every_import_is_declared_in_the_package_s_own_extra(package: str) -> None:
    """`pip install duetface[edge]` must bring all that a device imports; plots say themselves what they need."""
    allowed = declared(*EXTRA[package], "report")
    for distribution, where in third_party(package).items():
        assert distribution in allowed, f"{where} needs {distribution}, which is in no extra of {package}"


def test_nothing_is_declared_that_nobody_imports() -> None:
    """Each requirement is weight, and somebody's code with our rights."""
    imported = {name for package in EXTRA for name in third_party(package)}
    transitive = {"googleapis-common-protos", "protobuf"}
    assert declared("edge", "service", "report") - imported - transitive == set()


def test_no_extra_brings_what_it_must_not() -> None:
    """A device has no room for faiss or a database, a server no need of a camera, and neither of torch."""
    assert not declared("edge") & {"torch", "faiss-cpu", "sqlalchemy", "alembic", "matplotlib"}
    assert not declared("service") & {"torch", "av", "ai-edge-litert", "opencv-python-headless", "matplotlib"}


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_requirements_are_pinned_by_version_and_hash_and_name_no_address(path: Path) -> None:
    """The same packages on every machine; an address would name a registry that others cannot reach."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"https?:|file:|--(extra-)?index-url|--find-links", text)
    entries = [entry for entry in re.split(r"\n(?=\S)", text) if not entry.startswith("#") and entry.strip()]
    assert entries
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+==[^\s;]+", entry), entry.splitlines()[0]
        if path.name != "torch.txt":  # its builds share a version, not a hash
            assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_runtime_requirements_hold_every_run_time_dependency_and_no_torch() -> None:
    """`make demo` installs this file and nothing else."""
    pinned = {name_of(line) for line in (ROOT / "requirements" / "runtime.txt").read_text("utf-8").splitlines()
              if re.match(r"[a-z]", line)}  # fmt: skip
    assert declared("edge", "service", "report") <= pinned
    assert "torch" not in pinned


def test_the_wheel_holds_every_package_and_the_models(tmp_path: Path) -> None:
    """`pip install .[edge]` on a device must be all that it needs."""
    command = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(ROOT)], check=True, timeout=100)
    (wheel,) = tmp_path.glob("duetface-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for package in ("duetface", "edge_agent", "gallery", "recognition_service", "cli"):
        assert f"{package}/__init__.py" in names
    for path in (ROOT / "models").rglob("*"):
        if path.is_file():
            assert f"duetface/models/{path.relative_to(ROOT / 'models')}" in names
    assert any(name.startswith("gallery/migrations/versions/") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "demo/", "benchmarks/"))]
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_help_lists_every_target() -> None:
    """`make help` is the first thing that a newcomer types."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = set(re.findall(r"^([a-z][a-z-]+):", makefile, re.MULTILINE))
    internal = {"lint-runtime", "protos-check", "lint-train"}
    for target in targets - internal:
        assert f"make {target} " in listed, target


def test_continuous_integration_runs_what_a_person_runs() -> None:
    """A second recipe would drift away from the first."""
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").strip().endswith("exec make test")
