import json
from pathlib import Path

import numpy as np
import pytest

from duetface.errors import ConfigError
from privacy.pack import Group, Pack, aligned_rows, read_pack, write_pack
from privacy.people import SAME_PERSON_COSINE, check_disjoint
from privacy.record import read_all
from tests.unit.privacy.conftest import blobs


def group(count: int, template: int = 8, masks: bool = True) -> Group:
    """`count` made-up observations."""
    random = np.random.default_rng(count)
    planes = {"coefficients": random.integers(-5, 5, (count, 3, 14, 14)).astype(np.int8)}
    if masks:
        planes["mask_7"] = random.integers(0, 15, (count, 1, 7, 7)).astype(np.uint8)  # type: ignore[assignment]
    vectors = random.normal(size=(count, template)).astype(np.float32)
    names = tuple(f"P{i // 2}_{i % 2:04d}" for i in range(count))
    return Group(names, planes, np.ones((count, 5), np.float32), vectors, vectors, np.full(count, 900))


def test_a_pack_is_read_as_it_was_written(tmp_path: Path) -> None:
    """A lent machine attacks what was observed here, bit by bit."""
    pack = Pack(group(6), group(4), blobs(4, 1), (("P0_0000", "P0_0001", True),), {"split": "r1", "seed": 1})
    write_pack(pack, tmp_path / "pack.npz")
    again = read_pack(tmp_path / "pack.npz")
    assert again.pairs == pack.pairs
    assert again.meta == pack.meta
    assert again.victim_people == ("P0", "P0", "P1", "P1")
    for name in ("message", "template", "masks"):
        for plane, array in pack.attacker.view(name).items():
            assert (again.attacker.view(name)[plane] == array).all()
    assert (again.victim_rgb == pack.victim_rgb).all()


def test_a_view_shows_what_its_attacker_may_see() -> None:
    """Masks count as part of the message, and a template attacker sees no plane."""
    whole = group(4)
    assert set(whole.view("message")) == {"coefficients", "mask_7", "quality"}
    assert set(whole.view("codes")) == {"coefficients"}
    assert set(whole.view("masks")) == {"mask_7"}
    assert set(whole.view("template")) == {"template"}
    assert set(whole.view("both")) == {"coefficients", "mask_7", "quality", "template"}
    assert whole.view("template")["template"].shape == (4, 8, 1, 1)


@pytest.mark.parametrize(("view", "without"), [("masks", {"masks": False}), ("template", {"template": 0})])
def test_an_empty_view_is_refused(view: str, without: dict[str, int]) -> None:
    """An attacker that sees nothing must not be reported as one that found nothing."""
    with pytest.raises(ConfigError, match="is empty"):
        group(4, **without).view(view)


def test_an_unknown_view_lists_the_known_ones() -> None:
    """The remedy is in the message."""
    with pytest.raises(ConfigError, match="expected one of"):
        group(2).view("everything")


def test_a_missing_pack_says_how_to_make_it(tmp_path: Path) -> None:
    """Named command instead of a bare file error."""
    with pytest.raises(ConfigError, match="python -m privacy observe"):
        read_pack(tmp_path / "pack.npz")


def test_missing_crops_are_counted() -> None:
    """Four of five shards on a lent machine are noticed before training, not after."""
    assert (aligned_rows(["a", "b", "c"], ["c", "a"]) == [2, 0]).all()
    with pytest.raises(ConfigError, match="1 pictures are missing, the first d"):
        aligned_rows(["a"], ["a", "d"])


def test_somebody_on_both_sides_is_found() -> None:
    """An attacker who trained on a victim remembers instead of reconstructing."""
    random = np.random.default_rng(1).normal(size=(20, 128)).astype(np.float32)
    unit = random / np.linalg.norm(random, axis=1, keepdims=True)
    assert check_disjoint(unit[:10], unit[10:]) < SAME_PERSON_COSINE
    with pytest.raises(ConfigError, match="leave that person out"):
        check_disjoint(unit[:10], unit[9:])


def test_results_of_another_schema_are_refused(tmp_path: Path) -> None:
    """Old files must not be read as if they meant the same."""
    (tmp_path / "privacy-r1-old.json").write_text(json.dumps({"schema": 0}), encoding="utf-8")
    with pytest.raises(ConfigError, match="measure again"):
        read_all(tmp_path)
