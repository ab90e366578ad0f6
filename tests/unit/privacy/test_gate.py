from pathlib import Path

import pytest

from duetface.errors import ConfigError
from duetface.manifest import ModelCatalogue
from privacy.gate import BOUNDS, Gate, bounds_of, on_faces, on_portraits, realm_linkage
from privacy.messages import PlainDevice, device_for
from privacy.people import Capture
from privacy.published_split import published_split


@pytest.fixture(scope="module")
def bounds(models: Path) -> dict[str, float]:
    """The recorded bounds of the default split."""
    return bounds_of(ModelCatalogue(models).default_split().name, BOUNDS)


@pytest.fixture(scope="module")
def crops(shared_data: Path, models: Path) -> Path:
    """Training's cache of decoded crops."""
    cache = models.parent / ".cache" / "train"
    if not (cache / "crops.npy").exists():
        pytest.skip(f"{cache / 'crops.npy'} is not there: `python -m training prepare` makes it")
    return cache


def test_the_default_leaks_no_more_than_recorded_to_linear_algebra(
    captures: list[Capture], models: Path, bounds: dict[str, float]
) -> None:
    """Runs everywhere: a change that opens the split to least squares, or the realms to linkage, fails here."""
    device = device_for(ModelCatalogue(models).default_split().name, models)
    assert Gate(on_portraits(device, captures), bounds).failures == []


def test_the_published_split_fails_the_gate(captures: list[Capture], bounds: dict[str, float]) -> None:
    """A gate that nothing fails guards nothing."""
    failures = Gate(on_portraits(PlainDevice(published_split()), captures[:2]), bounds).failures
    assert any("linear_ssim is 0.99" in line for line in failures)
    assert any("linear_psnr_db" in line for line in failures)


def test_a_small_decoder_draws_no_more_than_recorded_from_the_default(
    shared_data: Path, crops: Path, models: Path, bounds: dict[str, float]
) -> None:
    """On messages made here from research faces; the long attacks give the verdict, this one notices a mistake."""
    device = device_for(ModelCatalogue(models).default_split().name, models)
    assert Gate(on_faces(device, shared_data, crops, models), bounds).failures == []


def test_realms_with_one_key_would_fail_the_gate(bounds: dict[str, float]) -> None:
    """D_sys of two keys is near 0; the bound lies far under that of a shared key, which is near 1."""
    assert realm_linkage() <= bounds["d_sys"] < 0.1


def test_a_figure_above_its_bound_is_named_with_both_numbers() -> None:
    """Whoever breaks it should see by how much."""
    gate = Gate({"d_sys": 0.5, "decoder_ssim": 0.4}, {"d_sys": 0.1, "decoder_ssim": 0.5, "linear_ssim": 0.5})
    assert gate.failures == ["d_sys is 0.500, expected at most 0.100"]


def test_a_split_without_bounds_is_refused(tmp_path: Path) -> None:
    """No record must not mean no limit."""
    with pytest.raises(ConfigError, match="gate --record"):
        bounds_of("r1", tmp_path / "bounds.json")
