"""The average of finished attacks on the same messages: where their errors differ they cancel.

Costs no training. An attacker who may train one decoder may train two, so a verdict counts it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from duetface.errors import ConfigError
from privacy.fit import variant
from privacy.pack import Pack
from privacy.record import Result, picture_metrics, write
from privacy.trained import RESULT, load_pictures, save_pictures


def average(pack: Pack, runs: Sequence[Path], folder: Path, seed: int) -> Result:
    """The mean picture of each victim, judged and kept in the folder like the pictures of a run.

    Raises ConfigError if there are fewer than two runs, or if they differ in view or from the pack in split, faces,
    victims or seed.
    """
    if len(runs) < 2:
        raise ConfigError(f"an average needs two finished runs or more, got {len(runs)}")
    results = [_result(run) for run in runs]
    first, view = results[0], str(results[0]["settings"]["view"])
    expected = {
        "split_digest": pack.meta["split_digest"],
        "seed": seed,
        "faces": len(pack.attacker.names),
        "view": view,
    }
    for run, found in zip(runs, results, strict=True):
        _check(run, found, expected)
    pictures, names = zip(*(load_pictures(run) for run in runs), strict=True)
    if any(rebuilt != pack.victim.names for rebuilt in names):
        raise ConfigError("the runs rebuilt other victims than this pack's: attack again with the same --pairs")
    made = np.rint(np.mean(pictures, axis=0, dtype=np.float32)).astype(np.uint8)
    save_pictures(folder, made, pack.victim.names)
    result = Result(
        attack=f"average from {view}",
        threat=str(first["threat"]),
        split=str(pack.meta["split"]),
        split_digest=str(pack.meta["split_digest"]),
        seed=seed,
        n={name: first["n"][name] for name in ("victim_pictures", "victims", "attacker_faces")},
        metrics=dict(picture_metrics(made, pack.victim_rgb, pack.victim_people, seed)),
        settings={"view": view, "of": sorted(variant(found["settings"]) or "plain" for found in results)},
    )
    write(result.to_dict(), folder / RESULT)
    return result


def _result(run: Path) -> dict[str, Any]:
    path = run / RESULT
    if not path.exists():
        raise ConfigError(f"{path} is missing: the attack has not finished, start it again to go on")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if "view" not in found["settings"]:
        raise ConfigError(f"{run} is no run of a decoder")
    return found


def _check(run: Path, result: dict[str, Any], expected: dict[str, Any]) -> None:
    found = {**result, "faces": result["n"]["attacker_faces"], "view": result["settings"]["view"]}
    for key, value in expected.items():
        if found[key] != value:
            raise ConfigError(f"{run}: {key} {found[key]}, expected {value}")
