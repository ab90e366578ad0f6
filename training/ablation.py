"""The table of docs/accuracy.md: one choice changed a row, each trained on the same number of faces.

Every row is a run of training.fit in a folder of its own, evaluated on the same pairs; what is finished is
skipped, so the command may be stopped and started at will. Its figures, similarities of the pairs among them, lie
apart from the weights: small enough to be kept with the code, so that a table grows from machine to machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from duetface.errors import ConfigError
from duetface.spec import SplitSpec
from networks.device import DeviceHalf
from networks.registry import split_named
from training.config import FitConfig
from training.cost import measure
from training.evaluate import TorchPath, evaluate
from training.pair_sets import PairSet
from training.production import CropHull
from training.record import write_json
from training.scores import Verified, paired_gap
from training.steps import with_steps
from training.student import load_student

FACES = 35_000
REFERENCE = "twin"
VARIED = "r1"  # what most rows change one choice of
NO_LIMIT = 600.0  # minutes: the faces end a run, or a slow machine would give another network
OTHER_TEACHER = "fr_feature.onnx"


@dataclass(frozen=True)
class Row:
    """name: of the row and its folder.  says: what is different.  changes: keys of FitConfig.

    weights_of: another row whose weights are taken, untrained; the quantiser's steps are then that many times wider.
    """

    name: str
    says: str
    split: str = "r1"
    changes: dict[str, Any] = field(default_factory=dict)
    weights_of: str = ""
    step_factor: float = 1.0

    @property
    def spec(self) -> SplitSpec:
        """The split, its steps included."""
        return with_steps(split_named(self.split), self.step_factor)


ROWS = (
    Row(REFERENCE, "unprotected RGB", "twin"),
    Row("paper", "r = 8, ten channels at the client", "paper"),
    Row("r2", "r = 2, ten channels", "r2"),
    Row("r1", "r = 1, ten channels, `x + w m x`"),
    Row("r1-6", "r1 with six channels at the client", "r1-6"),
    Row("r1-3", "r1 with three", "r1-3"),
    Row("masks-off", "r1 without masks or blocks", "r1-unmasked"),
    Row("masks-random", "r1 with random masks", changes={"masks": "random"}),
    Row("region-off", "r1, masks not kept to the face", changes={"region": False}),
    Row("augmentation-off", "r1 without augmentation", changes={"augment": False}),
    Row("gated", "r1 with the figure's `g + g m`", changes={"interaction": "gated"}),
    Row("steps-2", "r1, steps twice as wide, not retrained", weights_of="r1", step_factor=2.0),
    Row("steps-4", "r1, steps four times as wide, not retrained", weights_of="r1", step_factor=4.0),
    Row("other-teacher", "r1 from the MIT-licensed teacher", changes={"teacher": OTHER_TEACHER}),
)


def chosen(names: Sequence[str]) -> tuple[Row, ...]:
    """All rows, or those named, with whatever they need. Raises ConfigError for an unknown name."""
    known = {row.name: row for row in ROWS}
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ConfigError(f"unknown rows {unknown}: expected some of {sorted(known)}")
    wanted = {*names, *(known[name].weights_of for name in names)} if names else set(known)
    return tuple(row for row in ROWS if row.name in wanted)


@dataclass(frozen=True)
class Folders:
    """runs: weights and curves, a folder a row.  figures: NAME.json, NAME.npz (similarities) of each finished row."""

    runs: Path
    figures: Path

    def weights(self, row: Row) -> Path:
        """Where the row's networks are, its own or another's."""
        return self.runs / (row.weights_of or row.name) / "final.pt"

    def row(self, row: Row) -> Path:
        """Accuracy, gap and cost."""
        return self.figures / f"{row.name}.json"

    def similarities(self, name: str) -> Path:
        """Of each fold's pairs."""
        return self.figures / f"{name}.npz"


def run_row(
    row: Row, folders: Folders, pairs: PairSet, models: Path, faces: int, train: Callable[[FitConfig, Path], None]
) -> None:
    """Train and evaluate one row unless its figures are there.

    train: runs a config into a folder.
    Raises ConfigError if the figures are of another budget or another set of pairs.
    """
    if folders.row(row).exists():
        _check_same(folders.row(row), {"set": pairs.name, "faces": faces})
        return
    weights = folders.weights(row)
    if not weights.exists():
        config = FitConfig(split=row.split, minutes=NO_LIMIT, faces=faces, compile=True, **row.changes)
        train(config, weights.parent)
    path = torch_path(row, weights, models)
    found, cost = evaluate(pairs, path), measure(row.spec, path.student, time_it=False)
    folders.figures.mkdir(parents=True, exist_ok=True)
    _save_similarities(folders.similarities(row.name), found.verified)
    of = {"row": row.name, "says": row.says, "set": pairs.name, "faces": faces}
    write_json(folders.row(row), {**of, **found.scores.to_dict(), "cost": cost.to_dict()})


def torch_path(row: Row, weights: Path, models: Path) -> TorchPath:
    """The row's networks as it was trained: random masks or no region where the row says so."""
    student = load_student(weights, row.split)
    student.device_half = DeviceHalf(row.spec, student.client)
    masks, region = row.changes.get("masks", "own"), row.changes.get("region", True)
    return TorchPath(row.spec, student.eval(), CropHull(models), masks, region)


def table(rows: Iterable[Row], folders: Folders, pairs: PairSet, time_it: bool = True) -> str:
    """The Markdown table of the finished rows; each row's file receives its gap and cost.

    The cost is measured anew where the row's weights are at hand.
    """
    if not folders.similarities(REFERENCE).exists():
        raise ConfigError(f"{folders.figures} has no row {REFERENCE!r}, to which every gap is: run that too")
    right = {
        name: read_similarities(folders.similarities(name)).right
        for name in (REFERENCE, VARIED)
        if folders.similarities(name).exists()
    }
    lines = [
        f"| row | | accuracy, % | gap to `{REFERENCE}`, points (95 %) | gap to `{VARIED}` | TAR at FAR 1e-2 / 1e-3 "
        "| bytes | client MMAC / ms | server MMAC / ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if not folders.row(row).exists():
            continue
        figures = json.loads(folders.row(row).read_text(encoding="utf-8"))
        own = read_similarities(folders.similarities(row.name)).right
        figures["gap"] = {
            name: paired_gap(own, other, pairs.folds) for name, other in right.items() if name != row.name
        }
        if folders.weights(row).exists():
            figures["cost"] = measure(row.spec, load_student(folders.weights(row), row.split), time_it).to_dict()
        write_json(folders.row(row), figures)
        lines.append(_line(row, figures))
    return "\n".join(lines) + "\n"


def _line(row: Row, figures: dict[str, Any]) -> str:
    accuracy, tar, gap, cost = (figures[name] for name in ("accuracy", "tar_at_far", "gap", "cost"))
    of_twin, of_varied = (_points(gap.get(name)) for name in (REFERENCE, VARIED))
    return (
        f"| `{row.name}` | {row.says} | {100 * accuracy['mean']:.2f} ± {100 * accuracy['std']:.2f} "
        f"| {of_twin} | {of_varied if row.name != REFERENCE else '-'} "
        f"| {tar['0.01']:.3f} / {tar['0.001']:.3f} | {figures['bytes_per_face']['mean']:,.0f} "
        f"| {cost['client_macs'] / 1e6:.0f} / {cost['client_ms']:.1f} "
        f"| {cost['server_macs'] / 1e6:.0f} / {cost['server_ms']:.1f} |"
    )


def _points(gap: dict[str, Any] | None) -> str:
    return f"{gap['points']:.2f} ({gap['low']:.2f} to {gap['high']:.2f})" if gap else "-"


def _check_same(path: Path, wanted: dict[str, Any]) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    for key, value in wanted.items():
        if found.get(key) != value:
            raise ConfigError(f"{path} is of {key} {found.get(key)}, not {value}: choose another --figures")


def _save_similarities(path: Path, verified: Verified) -> None:
    arrays = {f"similarity_{i}": fold for i, fold in enumerate(verified.similarity)}
    arrays |= {f"same_{i}": fold for i, fold in enumerate(verified.same)}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # stubs miss **arrays


def read_similarities(path: Path) -> Verified:
    """What run_row left."""
    with np.load(path) as stored:
        count = len(stored.files) // 2
        return Verified(
            tuple(stored[f"similarity_{i}"] for i in range(count)), tuple(stored[f"same_{i}"] for i in range(count))
        )
