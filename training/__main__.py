"""`python -m training prepare | fit | publish | evaluate | steps`: see --help of each."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, build, call. Returns the exit code."""
    arguments = _parser().parse_args(argv)
    arguments.run_command(arguments)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="holds train/, teacher/, lfw_dev/")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "train", help="decoded crops and embeddings")
    commands = parser.add_subparsers(required=True)

    fit = commands.add_parser("fit", help="train a split's networks; continues if RUN has a checkpoint")
    fit.add_argument("--config", type=Path, required=True)
    fit.add_argument("--run", type=Path, required=True, help="folder for checkpoints, curves and record.json")
    fit.add_argument("--start-from", type=Path, help="weights (.pt) to begin with instead of the teacher's")
    fit.set_defaults(run_command=_fit)

    prepare = commands.add_parser("prepare", help="decode the crops, embed them with the teacher, find the faces")
    prepare.set_defaults(run_command=_prepare)

    publish = commands.add_parser("publish", help="export a run to ONNX with manifests, calibration and cards")
    publish.add_argument("--weights", type=Path, required=True, help="final.pt or checkpoint.pt of a run")
    publish.add_argument("--split", default="r1")
    publish.add_argument("--space", default="r1-1", help="name of the template space to write")
    publish.add_argument("--note", default="", help="what else the card must say of how the weights came to be")
    publish.set_defaults(run_command=_publish)

    evaluate = commands.add_parser("evaluate", help="verification accuracy on pairs.txt and aligned_112.zip")
    evaluate.add_argument("--pairs", type=Path, required=True, help="folder with pairs.txt and aligned_112.zip")
    evaluate.add_argument("--split", default="r1")
    evaluate.add_argument("--space", default="r1-1")
    evaluate.add_argument("--torch", type=Path, metavar="WEIGHTS", help="the torch path of these weights instead")
    evaluate.add_argument("--masks", default="own", choices=["own", "off", "random"], help="with --torch only")
    evaluate.add_argument("--json", action="store_true")
    evaluate.set_defaults(run_command=_evaluate)
    steps = commands.add_parser("steps", help="bytes and signal kept by choices of the quantiser's steps")
    steps.add_argument("--split", default="r1")
    steps.set_defaults(run_command=_steps)
    for command in (publish, evaluate):
        command.add_argument("--models", type=Path, default=ROOT / "models")
        command.add_argument("--threads", type=int, default=1)
    return parser


def _teacher(arguments: argparse.Namespace) -> Path:
    return Path(arguments.data) / "teacher" / "w600k_mbf.onnx.xz"


def _fit(arguments: argparse.Namespace) -> None:
    from training.config import FitConfig
    from training.datasets import load
    from training.fit import fit

    faces = load(arguments.data / "train", arguments.cache)
    fit(FitConfig.read(arguments.config), faces, _teacher(arguments), arguments.run, arguments.start_from)


def _prepare(arguments: argparse.Namespace) -> None:
    import numpy as np

    from duetface.region import region_of_interest
    from training import datasets
    from training.production import CropHull
    from training.teacher import TeacherEmbedder

    hull = CropHull(ROOT / "models", threads=2)
    datasets.prepare(
        arguments.data / "train",
        arguments.cache,
        TeacherEmbedder(_teacher(arguments), threads=2),
        lambda crop: (region_of_interest(hull(crop), datasets.CROP) > 0).astype(np.uint8),
    )


def _publish(arguments: argparse.Namespace) -> None:
    from training.datasets import load
    from training.publish import publish

    faces = load(arguments.data / "train", arguments.cache)
    done = publish(
        arguments.split, arguments.space, arguments.weights, faces, arguments.models, arguments.threads, arguments.note
    )
    print(f"{done.split_folder}: masks within {done.client_parity:.1e} of torch")
    print(f"{done.space_folder}: embeddings within {done.server_parity:.1e} of torch")


def _evaluate(arguments: argparse.Namespace) -> None:
    from training.evaluate import evaluate_production, evaluate_torch
    from training.production import ProductionPath

    if arguments.torch:
        scores = evaluate_torch(arguments.pairs, arguments.torch, arguments.split, arguments.models, arguments.masks)
    else:
        path = ProductionPath.load(arguments.models, arguments.split, arguments.space, arguments.threads)
        scores = evaluate_production(arguments.pairs, path)
    if arguments.json:
        print(json.dumps(scores.to_dict()))
    else:
        for name, value in scores.to_dict().items():
            print(f"{name:15} {value}")


def _steps(arguments: argparse.Namespace) -> None:
    from networks.registry import split_named
    from training.datasets import load
    from training.steps import measure_steps

    for row in measure_steps(split_named(arguments.split), load(arguments.data / "train", arguments.cache)):
        print(json.dumps(row))


if __name__ == "__main__":
    sys.exit(main())
