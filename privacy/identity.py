"""Judges a finished run by re-identification and by every picture's own figures, for the excess.

The real pictures are described once a pack and kept; describing costs about 0.1 s a picture on one core.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from privacy.excess import Attack
from privacy.judges import psnr, ssim
from privacy.pack import Pack
from privacy.record import write
from privacy.reidentify import DlibJudge, Reidentified, accepted_at, pairs_by_row, reidentify
from privacy.trained import RESULT, load_pictures


def figures(pack: Pack, run: Path, *, identity: bool, cache: Path) -> Attack:
    """A run's result and its figure for every picture; with identity also for every genuine comparison.

    The result.json of the run gains the figures of re-identification.
    """
    made, _ = load_pictures(run)
    result = json.loads((run / RESULT).read_text(encoding="utf-8"))
    found = {"ssim": ssim(made, pack.victim_rgb), "psnr_db": np.minimum(psnr(made, pack.victim_rgb), 100.0)}
    if identity:
        own, others = judge_identity(pack, made, run, cache)
        found["tar"] = own.accepted
        result["metrics"] |= {"tar": own.tar.to_dict(), **others}
        result["n"]["genuine_comparisons"] = len(own.accepted)
        write(result, run / RESULT)
    return Attack(result, found)


def judge_identity(
    pack: Pack, made: NDArray[np.uint8], run: Path, cache: Path
) -> tuple[Reidentified, dict[str, object]]:
    """Re-identification of reconstructions, and beside it the plain crops' as figures for a result file.

    One mean face for everybody needs no measuring: all its comparisons tie, so it is accepted at the FAR.
    """
    judge = DlibJudge.load()
    genuine, impostor = pairs_by_row(pack.victim.names, pack.pairs)
    real = _kept(cache / f"dlib-{_digest(pack.victim_rgb)}.npy", pack.victim_rgb, judge)
    rebuilt = _kept(run / f"dlib-{_digest(made)}.npy", made, judge)
    own = reidentify(rebuilt, real, genuine, impostor)
    plain = reidentify(real, real, genuine, impostor)
    at_real = accepted_at(rebuilt, real, genuine, plain.distance)
    return own, {"tar_at_real_threshold": at_real.to_dict(), "plain_crop_tar": plain.tar.to_dict()}


def comparison_people(pack: Pack) -> tuple[str, ...]:
    """Who is looked for in each genuine comparison: the people over whom its figures are resampled."""
    return pairs_by_row(pack.victim.names, pack.pairs)[0].people


def _kept(path: Path, rgb: NDArray[np.uint8], judge: DlibJudge) -> NDArray[np.float32]:
    if path.exists():
        return np.asarray(np.load(path), np.float32)
    described = judge.describe(rgb)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".partial").open("wb") as stream:
        np.save(stream, described)
    path.with_suffix(".partial").rename(path)
    return described


def _digest(rgb: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(rgb).tobytes()).hexdigest()[:16]
