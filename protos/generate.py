"""Generates duetface/v1 from protos/ (`make protos`); with --check says whether it is up to date."""

import argparse
import filecmp
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("duetface/v1")


def generate(output: Path) -> None:
    """Write messages, stubs and their types of every proto below `output`."""
    plugins = Path(sys.executable).parent
    protos = sorted((ROOT / "protos" / PACKAGE).glob("*.proto"))
    command = [
        *(sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT / "protos")),
        f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
        *(f"--{kind}_out={output}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")),
        *map(str, protos),
    ]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def stale(fresh: Path) -> list[str]:
    """Names of generated files in which the checkout differs from `fresh`."""
    names = {path.name for path in fresh.iterdir()} | {path.name for path in (ROOT / PACKAGE).glob("*_pb2*")}
    _, differing, missing = filecmp.cmpfiles(fresh, ROOT / PACKAGE, sorted(names), shallow=False)
    return differing + missing


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 when written or up to date, 1 when --check found a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when out of date")
    if not parser.parse_args(argv).check:
        generate(ROOT)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        names = stale(Path(folder) / PACKAGE)
    if names:
        sys.stderr.write(f"{PACKAGE} is out of date ({', '.join(names)}): run `make protos`\n")
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
