"""`python -m training prepare | fit | publish | evaluate | ablate | steps | blocks`: see --help of each."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duetface.errors import DuetFaceError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from training.config import FitConfig

MISUSE = 2  # something that was named is missing, damaged or of another kind
ROOT = Path(__file__).resolve().parent.parent


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, build, call. Returns the exit code: 0, or 2 with one line on standard error."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run_command(arguments)
    except (DuetFaceError, FileNotFoundError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return MISUSE
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="holds train/, teacher/, lfw_dev/")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "train", help="decoded crops and embeddings")
    parser.add_argument("--crops", type=Path, help="faces.csv with zips, tar shards, or a folder a person (DATA/train)")
    commands = parser.add_subparsers(required=True)

    _add_fit(commands)
    prepare = commands.add_parser("prepare", help="decode the crops, embed them with the teacher, find the faces")
    prepare.add_argument("--teacher", default="", help="another ONNX file, or a name in DATA/teacher")
    prepare.add_argument("--no-regions", action="store_true", help="look everywhere: where LiteRT is not installed")
    prepare.set_defaults(run_command=_prepare)

    publish = commands.add_parser("publish", help="export a run to ONNX with manifests, calibration and cards")
    publish.add_argument("--weights", type=Path, required=True, help="final.pt or checkpoint.pt of a run")
    publish.add_argument("--split", default="r1")
    publish.add_argument("--space", default="r1-1", help="name of the template space to write")
    for option, of in (("--precision", "server"), ("--client-precision", "client")):
        publish.add_argument(option, default="float32", choices=["float32", "int8"], help=f"of the {of} network")
    publish.add_argument("--note", default="", help="what else the card must say of how the weights came to be")
    publish.set_defaults(run_command=_publish)

    _add_evaluate(commands)
    _add_ablate(commands)
    steps = commands.add_parser("steps", help="bytes and signal kept by choices of the quantiser's steps")
    steps.add_argument("--split", default="r1")
    steps.set_defaults(run_command=_steps)
    blocks = commands.add_parser("blocks", help="what of the teacher its embedding rests on (docs/adr/0040)")
    blocks.set_defaults(run_command=_blocks)
    _add_models(publish)
    return parser


def _add_fit(commands: Any) -> None:
    fit = commands.add_parser("fit", help="train a split's networks; continues if RUN has a checkpoint")
    fit.add_argument("--config", type=Path, required=True)
    fit.add_argument("--run", type=Path, required=True, help="folder for checkpoints, curves and record.json")
    fit.add_argument(
        "--start-from",
        default="",
        metavar="WEIGHTS|SPACE",
        help="begin with these instead of the teacher's: a run's final.pt, or a shipped float32 space such as l1-3",
    )
    fit.add_argument("--models", type=Path, default=ROOT / "models")
    fit.set_defaults(run_command=_fit)


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser("evaluate", help="verification accuracy on a set of pairs")
    evaluate.add_argument(
        "--pairs", type=Path, required=True, help="folder with pairs.txt and aligned_112.zip, or an InsightFace .bin"
    )
    evaluate.add_argument("--spec", default="default", help="a published split by name, through the production path")
    evaluate.add_argument("--space", default="", help="one of its template spaces (default: the shipped one)")
    evaluate.add_argument("--torch", type=Path, metavar="WEIGHTS", help="instead: the torch path of a run's weights")
    evaluate.add_argument("--masks", default="own", choices=["own", "off", "random"], help="with --torch only")
    evaluate.add_argument(
        "--against", metavar="NAME|WEIGHTS", help="also the gap to a published split or a run's weights, same pairs"
    )
    evaluate.add_argument("--teacher-cosine", action="store_true", help="also the mean cosine to the teacher's answers")
    evaluate.add_argument("--plot", type=Path, metavar="FILE", help="draw a DET plot (.png, .svg, .pdf)")
    evaluate.add_argument("--json", action="store_true")
    evaluate.set_defaults(run_command=_evaluate)
    _add_models(evaluate)


def _add_ablate(commands: Any) -> None:
    ablate = commands.add_parser("ablate", help="the table of docs/accuracy.md; continues where it was stopped")
    ablate.add_argument("--out", type=Path, required=True, help="a folder a row for its weights, and table.md")
    ablate.add_argument("--figures", type=Path, help="of finished rows, which are not run again (default: --out)")
    ablate.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these rows (default: all)")
    ablate.add_argument("--faces", type=int, default=35_000, help="to see in each row's training")
    ablate.add_argument("--pairs", type=Path, help="set to evaluate on (default: lfw_dev of --data)")
    ablate.set_defaults(run_command=_ablate)
    _add_models(ablate)


def _add_models(command: argparse.ArgumentParser) -> None:
    command.add_argument("--models", type=Path, default=ROOT / "models")
    command.add_argument("--threads", type=int, default=1)


def _crops(arguments: argparse.Namespace) -> Path:
    return Path(arguments.crops or arguments.data / "train")


def _teacher(arguments: argparse.Namespace, named: str = "") -> Path:
    """A config's teacher: a path, or the name of a file in the data's teacher folder."""
    folder = Path(arguments.data) / "teacher"
    if not named:
        return folder / "w600k_mbf.onnx.xz"
    return Path(named) if Path(named).exists() else folder / named


def _train(arguments: argparse.Namespace, config: FitConfig, run: Path, start_from: str = "") -> None:
    import torch

    from training.datasets import embeddings_of, load
    from training.fit import fit
    from training.published import start_named
    from training.teacher import TorchTeacher

    start = start_named(start_from, config.split, arguments.models) if start_from else None
    teacher, embeddings = _teacher(arguments, config.teacher), "teacher.npy"
    if config.teacher:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        embeddings = embeddings_of(teacher, arguments.cache, TorchTeacher(teacher, device))
    fit(config, load(_crops(arguments), arguments.cache, embeddings), teacher, run, start)


def _fit(arguments: argparse.Namespace) -> None:
    from training.config import FitConfig

    _train(arguments, FitConfig.read(arguments.config), arguments.run, arguments.start_from)


def _ablate(arguments: argparse.Namespace) -> None:
    from training.ablation import Folders, chosen, run_row, table
    from training.pair_sets import read_pair_set

    pairs = read_pair_set(arguments.pairs or arguments.data / "lfw_dev")
    folders = Folders(arguments.out, arguments.figures or arguments.out)
    for row in chosen(arguments.only):
        print(f"{row.name}: {row.says}", flush=True)
        run_row(row, folders, pairs, arguments.models, arguments.faces, partial(_train, arguments))
    text = table(chosen(()), folders, pairs)
    (arguments.out / "table.md").write_text(text, encoding="utf-8")
    print(text)


def _prepare(arguments: argparse.Namespace) -> None:
    import numpy as np
    import torch

    from training import datasets
    from training.teacher import TorchTeacher

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    region = _everywhere if arguments.no_regions else _region_finder()
    teacher = _teacher(arguments, arguments.teacher)
    embed = TorchTeacher(teacher, device)
    datasets.prepare(_crops(arguments), arguments.cache, None if arguments.teacher else embed, region)
    if arguments.teacher:
        datasets.embeddings_of(teacher, arguments.cache, embed)
    rows = np.load(arguments.cache / "crops.npy", mmap_mode="r").shape[0]
    print(f"{rows} faces in {arguments.cache}")


def _everywhere(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return crop[..., 0] * 0 + 1


def _region_finder() -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """The face mesh's region; needs LiteRT, which a lent GPU machine may not have (--no-regions)."""
    import numpy as np

    from duetface.region import region_of_interest
    from training.datasets import CROP
    from training.production import CropHull

    hull = CropHull(ROOT / "models", threads=2)
    return lambda crop: (region_of_interest(hull(crop), CROP) > 0).astype(np.uint8)


def _publish(arguments: argparse.Namespace) -> None:
    from training.datasets import load
    from training.publish import Publication, publish

    wanted = Publication(
        arguments.split, arguments.space, arguments.precision, arguments.client_precision, arguments.note,
        arguments.threads,
    )  # fmt: skip
    parity = publish(wanted, arguments.weights, load(_crops(arguments), arguments.cache), arguments.models)
    print(f"client network, float32: within {parity.client:.1e} of torch")
    print(f"server network, float32: within {parity.server:.1e} of torch")
    for name, (mean, least) in parity.quantised.items():
        print(f"{name} network, int8: cosine to float32 {mean:.4f} in the mean, {least:.4f} at least")


def _evaluate(arguments: argparse.Namespace) -> None:
    from training.det_plot import plot_det
    from training.evaluate import TorchPath, evaluate, system_named, teacher_cosine
    from training.pair_sets import read_pair_set
    from training.scores import paired_gap
    from training.teacher import TeacherEmbedder

    pairs = read_pair_set(arguments.pairs)
    if arguments.torch:
        evaluated = evaluate(pairs, TorchPath.load(arguments.torch, arguments.models, arguments.masks))
    else:
        system = system_named(arguments.spec, arguments.space, arguments.models, arguments.threads)
        evaluated = evaluate(pairs, system)
    found = {"set": pairs.name, "left_out": pairs.missing, **evaluated.scores.to_dict()}
    curves = {evaluated.scores.path: evaluated.verified}
    if arguments.teacher_cosine:
        teacher = TeacherEmbedder(_teacher(arguments), arguments.threads)
        found["teacher_cosine"] = teacher_cosine(pairs, evaluated, teacher)
    if arguments.against:
        other = evaluate(pairs, system_named(arguments.against, "", arguments.models, arguments.threads))
        curves[f"{arguments.against}: {other.scores.path}"] = other.verified
        gap = paired_gap(evaluated.verified.right, other.verified.right, pairs.folds)
        found["gap"] = {"to": arguments.against, "accuracy": other.scores.accuracy, **gap}
    if arguments.plot:
        plot_det(curves, arguments.plot)
    _print(found, arguments.json)


def _print(found: Mapping[str, object], as_json: bool) -> None:
    if as_json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:15} {value}")


def _steps(arguments: argparse.Namespace) -> None:
    from networks.registry import split_named
    from training.datasets import load
    from training.steps import measure_steps

    for row in measure_steps(split_named(arguments.split), load(_crops(arguments), arguments.cache)):
        print(json.dumps(row))


def _blocks(arguments: argparse.Namespace) -> None:
    from networks.teacher import load_teacher
    from training.blocks import leave_out
    from training.datasets import load

    for left_out in leave_out(load_teacher(_teacher(arguments)), load(_crops(arguments), arguments.cache)):
        print(f"{left_out.what:20} {left_out.cosine:.3f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
