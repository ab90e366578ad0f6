"""One trained attack from a pack: train, reconstruct the victims, judge the pictures, write result.json.

Runs on a machine with torch, NumPy and OpenCV alone. Every step is kept, so an interrupted run goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from duetface.errors import ConfigError
from privacy.decoder import Decoder, DecoderSize, build_decoder, reconstruct
from privacy.fit import CHECKPOINT, Budget, Machine, parameters_of
from privacy.judges import Interval
from privacy.linkage import accuracy, embed, similarities, train_student, true_accept_rate
from privacy.losses import Features
from privacy.pack import Pack, aligned_rows
from privacy.painter import mean_face, train_decoder
from privacy.record import Result, picture_metrics, sizes, write
from privacy.ridge import CROP
from privacy.start import blank_start
from training.datasets import read_zip

PICTURES = "reconstruction.npz"
RESULT = "result.json"
Progress = Callable[[str], None]

# Which threat model a view belongs to; "both" is a message whose reader also ran the public model.
THREAT_OF_VIEW = {
    "message": "decoder",
    "codes": "decoder",
    "both": "decoder",
    "masks": "masks",
    "template": "template",
    "teacher": "template",
}


@dataclass(frozen=True)
class Run:
    """view: see pack.Group.view.  folder: of checkpoint, pictures and result.  limit: attacker's faces, all if None."""

    view: str
    folder: Path
    limit: int | None = None


def attack(
    pack: Pack,
    rgb: NDArray[np.uint8],
    run: Run,
    budget: Budget,
    progress: Progress,
    machine: Machine,
    features: Features | None = None,
) -> Result:
    """Train on the attacker's people, reconstruct the victims.

    rgb: (N, 112, 112, 3), the attacker's crops in the pack's order.
    """
    chosen = np.arange(len(rgb) if run.limit is None else min(run.limit, len(rgb)))
    own = pack.attacker.rows(chosen)
    decoder = train_decoder(own.view(run.view), rgb[chosen], budget, run.folder, progress, machine, features)
    progress("reconstructing the victims")
    made = reconstruct(decoder, pack.victim.view(run.view), machine.device)
    save_pictures(run.folder, made, pack.victim.names)
    floor = np.broadcast_to(mean_face(rgb[chosen]), made.shape)
    result = Result(
        attack=f"decoder from {run.view}",
        threat=THREAT_OF_VIEW[run.view],
        split=str(pack.meta["split"]),
        split_digest=str(pack.meta["split_digest"]),
        seed=budget.seed,
        n=sizes(len(made), len(set(pack.victim_people)), len(chosen)),
        metrics={
            **picture_metrics(made, pack.victim_rgb, pack.victim_people, budget.seed),
            **{
                f"mean_face_{name}": value
                for name, value in picture_metrics(floor, pack.victim_rgb, pack.victim_people, budget.seed).items()
            },
        },
        settings={"view": run.view, **asdict(budget), "parameters": parameters_of(decoder)},
    )
    write(result.to_dict(), run.folder / RESULT)
    return result


def attacker_crops(pack: Pack, cache: Path, shards: Path) -> NDArray[np.uint8]:
    """The attacker's crops in the pack's order: from training's cache, or straight from the shards.

    Raises ConfigError if a picture is in neither.
    """
    if (cache / "crops.npy").exists():
        rows = np.array([int(name) for name in pack.attacker.names], np.int64)
        return np.asarray(np.load(cache / "crops.npy", mmap_mode="r")[rows])
    found = [pair for shard in sorted(shards.glob("faces-*.zip")) for pair in read_zip(shard)]
    if not found:
        raise ConfigError(f"no crops: neither {cache / 'crops.npy'} nor {shards}/faces-*.zip is there")
    rows = aligned_rows([name for name, _ in found], pack.attacker.names)
    return np.stack([found[row][1] for row in rows])


def load_decoder(run: Path) -> tuple[Decoder, str]:
    """A finished run's decoder and its view.  Raises ConfigError if the run has not finished."""
    if not (run / RESULT).exists() or not (run / CHECKPOINT).exists():
        raise ConfigError(f"{run} holds no finished decoder: start the attack again to go on")
    stored = torch.load(run / CHECKPOINT, map_location="cpu", weights_only=True)
    made_of = json.loads(stored["identity"])
    size = DecoderSize(made_of["budget"]["width"], made_of["budget"]["blocks"])
    # Statistics and mean face are part of the weights, so any faces of the right shape will do here.
    blank = {name: np.zeros((1, *shape), np.float32) for name, shape in made_of["inputs"].items()}
    start = blank_start(made_of["inputs"]) if made_of["budget"].get("start") == "ridge" else None
    decoder = build_decoder(blank, size, np.zeros((CROP, CROP, 3)), seed=0, start=start)
    decoder.load_state_dict(stored["state"]["decoder"])
    return decoder, str(json.loads((run / RESULT).read_text(encoding="utf-8"))["settings"]["view"])


def save_pictures(folder: Path, rgb: NDArray[np.uint8], names: tuple[str, ...]) -> None:
    """Reconstructions of research faces: they stay in the ignored run folder."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / PICTURES, rgb=rgb, names=np.array(names))


def load_pictures(folder: Path) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """What save_pictures kept.  Raises ConfigError if the run has not finished."""
    if not (folder / PICTURES).exists():
        raise ConfigError(f"{folder / PICTURES} is missing: the attack has not finished, start it again to go on")
    with np.load(folder / PICTURES) as stored:
        return stored["rgb"], tuple(str(name) for name in stored["names"])


def linkage_attack(pack: Pack, view: str, budget: Budget, folder: Path, progress: Progress, machine: Machine) -> Result:
    """A student distilled on the attacker's messages recognises the victims across messages."""
    student = train_student(pack.attacker.view(view), pack.attacker.teacher, budget, folder, progress, machine)
    embeddings = embed(student, pack.victim.view(view), machine.device)
    cosine, same, people = similarities(embeddings, pack.victim.names, pack.pairs)
    metrics: dict[str, Interval | float] = {
        "verification_accuracy": accuracy(cosine, same, people, budget.seed),
        "tar_at_far_1e-2": true_accept_rate(cosine, same, 1e-2),
    }
    for name, known in (("stored_template", pack.victim.template), ("teacher_on_plain_crops", pack.victim.teacher)):
        if known.shape[1]:
            by_pair = similarities(known, pack.victim.names, pack.pairs)
            metrics[f"{name}_accuracy"] = accuracy(*by_pair, budget.seed)
    n = {**sizes(len(embeddings), len(set(pack.victim_people)), len(pack.attacker.names)), "comparisons": len(same)}
    return Result(
        attack=f"linkage from {view}",
        threat="linkage",
        split=str(pack.meta["split"]),
        split_digest=str(pack.meta["split_digest"]),
        seed=budget.seed,
        n=n,
        metrics=metrics,
        settings={"view": view, **asdict(budget), "parameters": parameters_of(student)},
    )
