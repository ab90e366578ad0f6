"""The command `python -m privacy`: parses, builds, calls. One function a command.

  python -m privacy observe --split r1 --faces 20000
  python -m privacy attack decoder --split r1 --faces 20000 --view message --passes 3 --width 32
  python -m privacy attack decoder --split r1 --faces 20000 --view template --passes 3 --width 32
  python -m privacy average --split r1 --faces 20000 --of RUN RUN --run FOLDER
  python -m privacy excess --split r1 --faces 20000 --message RUN --template RUN --identity
  python -m privacy gate
  python -m privacy report --split r1 --out build/privacy

Everything of research faces stays below --cache, which git ignores; --publish copies figures, never pictures.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from duetface.errors import ConfigError, DuetFaceError
from privacy.pack import VIEWS

ROOT = Path(__file__).resolve().parent.parent
ATTACKS = ("linear", "ridge", "decoder", "linkage", "templates", "hill-climbing", "rebuild")
BAD_INPUT = 2
N = TypeVar("N", int, float)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done or passed, 1 the gate failed, 2 misuse."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except (DuetFaceError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT


def say(line: str) -> None:
    """Progress goes to stderr, results to stdout."""
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m privacy", description=__doc__, formatter_class=form)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_observe, _add_attack, _add_average, _add_excess, _add_gate, _add_report):
        add(commands)
    return parser


def _add_observe(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    observe = commands.add_parser("observe", help="make the messages of a split and pack what they say")
    _cast(observe)
    observe.add_argument("--publish", type=Path, metavar="FOLDER", help="write what the split costs there")
    observe.set_defaults(command=_observe)


def _add_attack(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    attack = commands.add_parser("attack", help="run one attack; continues where it was interrupted")
    attack.add_argument("kind", choices=ATTACKS)
    _cast(attack)
    attack.add_argument("--view", choices=VIEWS, default="message", help="what the attacker looks at")
    attack.add_argument("--run", type=Path, help="folder of checkpoint, pictures and result.json")
    attack.add_argument("--publish", type=Path, metavar="FOLDER", help="copy the figures there as privacy-*.json")
    attack.add_argument("--passes", type=_positive, default=3.0, help="over the attacker's faces")
    attack.add_argument("--batch", type=_count, default=64)
    attack.add_argument("--width", type=_count, default=32, help="grow until the figures stop rising")
    attack.add_argument("--blocks", type=_count, default=2)
    attack.add_argument("--start", choices=("mean-face", "ridge"), default="mean-face", help="where a decoder starts")
    attack.add_argument("--learning-rate", type=_positive, default=2e-3)
    attack.add_argument("--ssim-weight", type=_weight, default=0.5)
    attack.add_argument("--perceptual-weight", type=_weight, default=0.0)
    attack.add_argument("--adversarial-weight", type=_weight, default=0.0)
    attack.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    attack.add_argument("--threads", type=_count, default=1)
    attack.add_argument("--linear-victims", type=_count, default=60, help="of the linear attack, a second or two each")
    attack.add_argument("--fmr", type=_rate, default=1e-3, help="of the threshold that hill climbing meets")
    attack.add_argument("--queries", type=_count, default=10_000, help="of hill climbing, a victim")
    attack.add_argument("--victims", type=_count, default=100, help="of hill climbing")
    attack.add_argument("--climb-queries", type=_count, default=1000, help="of the baseline that is told similarities")
    attack.set_defaults(command=_attack)


def _add_average(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    average = commands.add_parser("average", help="average what finished decoder runs rebuilt: one more attack")
    _cast(average)
    average.add_argument("--of", type=Path, nargs="+", required=True, metavar="RUN", help="of one view")
    average.add_argument("--run", type=Path, required=True, metavar="FOLDER", help="of pictures and result.json")
    average.add_argument("--publish", type=Path, metavar="FOLDER", help="copy the figures there as privacy-*.json")
    average.set_defaults(command=_average)


def _add_excess(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    excess = commands.add_parser("excess", help="what messages tell beyond their templates, from finished runs")
    _cast(excess)
    excess.add_argument("--message", type=Path, nargs="+", required=True, metavar="RUN")
    excess.add_argument("--template", type=Path, nargs="+", required=True, metavar="RUN")
    excess.add_argument("--identity", action="store_true", help="re-identification too: 0.1 s a picture and core")
    excess.add_argument("--publish", type=Path, metavar="FOLDER")
    excess.set_defaults(command=_excess)


def _add_gate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    gate = commands.add_parser("gate", help="fail if the default split leaks more than its recorded bound")
    _places(gate)
    gate.add_argument("--split", help="the default of models/ if left out")
    gate.add_argument("--record", action="store_true", help="write today's figures, with their margin, as the bound")
    gate.set_defaults(command=_gate)


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    report = commands.add_parser("report", help="one HTML page and JSON from published results")
    _places(report)
    report.add_argument("--split", action="append", required=True, help="may be repeated")
    report.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    report.add_argument("--runs", type=Path, nargs="*", default=[], help="decoder runs to show on the portraits")
    report.add_argument("--out", type=Path, default=ROOT / "build" / "privacy")
    report.set_defaults(command=_report)


def _places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="the research faces")
    parser.add_argument("--crops", type=Path, default=ROOT / ".cache" / "train", help="training's decoded crops")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "privacy", help="messages, packs and runs")
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--portraits", type=Path, default=ROOT / ".cache" / "portraits")


def _cast(parser: argparse.ArgumentParser) -> None:
    _places(parser)
    parser.add_argument("--split", required=True, help="a split of models/splits, or paper, r2, twin")
    parser.add_argument("--faces", type=_count, default=20_000, help="of the attacker")
    parser.add_argument("--pairs", type=_count, help="of each kind among the victims; all if left out")
    parser.add_argument("--seed", type=_seed, default=1)


def _count(text: str) -> int:
    return _number(int, text, "a whole number from 1", lambda number: number >= 1)


def _seed(text: str) -> int:
    return _number(int, text, "a whole number from 0", lambda number: number >= 0)


def _positive(text: str) -> float:
    return _number(float, text, "a number above 0", lambda number: 0 < number < math.inf)


def _weight(text: str) -> float:
    return _number(float, text, "a number from 0", lambda number: 0 <= number < math.inf)


def _rate(text: str) -> float:
    return _number(float, text, "a rate between 0 and 1", lambda number: 0 < number < 1)


def _number(kind: type[N], text: str, expected: str, holds: Callable[[N], bool]) -> N:
    """Raises ArgumentTypeError, which argparse shows as one line."""
    with contextlib.suppress(ValueError):
        number = kind(text)
        if holds(number):
            return number
    raise argparse.ArgumentTypeError(f"got {text!r}, expected {expected}")


def _observe(arguments: argparse.Namespace) -> int:
    from privacy.commands import observe

    print(observe(arguments, say))
    return 0


def _attack(arguments: argparse.Namespace) -> int:
    from privacy.commands import attack

    print(attack(arguments, say))
    return 0


def _average(arguments: argparse.Namespace) -> int:
    from privacy.commands import average_of_runs

    print(average_of_runs(arguments))
    return 0


def _excess(arguments: argparse.Namespace) -> int:
    from privacy.commands import excess_of_runs

    print(excess_of_runs(arguments, say))
    return 0


def _gate(arguments: argparse.Namespace) -> int:
    from privacy.gate import run

    return run(arguments, say)


def _report(arguments: argparse.Namespace) -> int:
    from privacy.report import write_report

    if not arguments.results.is_dir():
        raise ConfigError(f"{arguments.results} is not a folder: publish results there first (attack --publish)")
    print(write_report(arguments, say))
    return 0
