"""What the commands do once parsed: each attack from a pack to a result, kept in the run and published on wish."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from duetface.errors import ConfigError
from duetface.manifest import load_split
from duetface.spec import SplitSpec
from privacy import untrained
from privacy.cost import cost
from privacy.excess import Attack, excess
from privacy.fit import Budget, Machine, variant
from privacy.identity import comparison_people, figures
from privacy.losses import Features
from privacy.pack import Pack, read_pack
from privacy.record import Result, where_and_when, write
from privacy.scene import Cast, Places, build_pack, observe_victims, pack_path

Say = Callable[[str], None]


def observe(arguments: argparse.Namespace, say: Say) -> Path:
    """Make the messages and the pack, and say what the split costs; returns the pack's path."""
    path = build_pack(arguments.split, places_of(arguments), cast_of(arguments), say)
    spec = spec_named(arguments.split, arguments.models)
    result = cost(read_pack(path), spec, arguments.models, arguments.seed).to_dict()
    say(json.dumps(result["metrics"], indent=1))
    if arguments.publish is not None:
        publish(result, arguments.publish)
    return path


def attack(arguments: argparse.Namespace, say: Say) -> str:
    """Run one attack on a pack (made first if need be); returns its result as JSON."""
    if arguments.kind == "linear":
        observed, crops = observe_victims(arguments.split, places_of(arguments), arguments.linear_victims)
        found = untrained.linear_attack(observed, crops.rgb, crops.people, arguments.seed).to_dict()
        if arguments.publish is not None:
            publish(found, arguments.publish)
        return json.dumps(found, indent=1)
    spec = spec_named(arguments.split, arguments.models)
    path = pack_path(places_of(arguments), spec, cast_of(arguments))
    if not path.exists():
        observe(arguments, say)
    pack = read_pack(path)
    folder = arguments.run or path.parent / "runs" / _run_name(arguments)
    result = _dispatch(arguments, pack, spec, folder, say).to_dict()
    write(result, folder / "result.json")
    if arguments.publish is not None:
        publish(result, arguments.publish)
    return json.dumps(result, indent=1)


def average_of_runs(arguments: argparse.Namespace) -> str:
    """Average finished runs into one more; returns its result as JSON."""
    from privacy.average import average

    result = average(_pack_of(arguments), arguments.of, arguments.run, arguments.seed).to_dict()
    if arguments.publish is not None:
        publish(result, arguments.publish)
    return json.dumps(result, indent=1)


def excess_of_runs(arguments: argparse.Namespace, say: Say) -> str:
    """Compare finished runs; returns the result as JSON."""
    places, pack = places_of(arguments), _pack_of(arguments)

    def judged(runs: list[Path]) -> list[Attack]:
        for run in runs:
            say(f"judging {run.name}")
        return [figures(pack, run, identity=arguments.identity, cache=places.cache) for run in runs]

    messages, templates = judged(arguments.message), judged(arguments.template)
    people = {"ssim": pack.victim_people, "psnr_db": pack.victim_people, "tar": comparison_people(pack)}
    metrics: dict[str, Any] = {}
    for metric in messages[0].figures:
        found = excess(metric, messages, templates, people[metric], arguments.seed)
        metrics[f"{metric}_from_message"] = round(found.message, 4)
        metrics[f"{metric}_from_template"] = round(found.template, 4)
        metrics[f"excess_{metric}"] = found.excess.to_dict()
    result = {
        **{key: messages[0].result[key] for key in ("schema", "split", "split_digest", "seed", "n")},
        "settings": {},
        "attack": "excess",
        "threat": "decoder",
        "metrics": metrics,
        "attacks": {"message": _names(messages), "template": _names(templates)},
        **where_and_when(),
    }
    if arguments.publish is not None:
        publish(result, arguments.publish)
    return json.dumps(result, indent=1)


def _pack_of(arguments: argparse.Namespace) -> Pack:
    return read_pack(pack_path(places_of(arguments), spec_named(arguments.split, arguments.models), cast_of(arguments)))


def _names(attacks: list[Attack]) -> list[str]:
    """Each with what its budget has beyond the plain one."""
    return [" ".join(filter(None, (a.result["attack"], variant(a.result["settings"])))) for a in attacks]


def spec_named(name: str, models: Path) -> SplitSpec:
    """A split's spec without opening its networks."""
    from privacy.messages import device_for

    folder = models / "splits" / name
    return load_split(folder) if (folder / "split.json").exists() else device_for(name, models).spec


def places_of(arguments: argparse.Namespace) -> Places:
    """Where things lie."""
    return Places(arguments.data, arguments.crops, arguments.cache, arguments.models)


def cast_of(arguments: argparse.Namespace) -> Cast:
    """Who takes part."""
    return Cast(arguments.faces, arguments.pairs, arguments.seed)


def publish(result: dict[str, Any], folder: Path) -> Path:
    """Copy figures, and nothing else, to FOLDER/privacy-SPLIT-ATTACK.json, a budget that is not plain named too."""
    named = "-".join(filter(None, (str(result["attack"]).replace(" ", "-"), variant(result["settings"]))))
    path = folder / f"privacy-{result['split']}-{named}.json"
    write(result, path)
    return path


def _run_name(arguments: argparse.Namespace) -> str:
    who = cast_of(arguments).name
    if arguments.kind not in ("decoder", "linkage", "ridge"):
        return f"{arguments.kind}-{who}"
    return "-".join(filter(None, (arguments.kind, arguments.view, who, variant(vars(arguments)))))


def _dispatch(arguments: argparse.Namespace, pack: Pack, spec: SplitSpec, folder: Path, say: Say) -> Result:
    from privacy import trained

    seed = arguments.seed
    if arguments.kind == "templates":
        return untrained.template_attack(pack, spec, seed)
    if arguments.kind == "hill-climbing":
        return _hill_climbing(arguments, pack, spec, say)
    if arguments.kind == "rebuild":
        return _rebuild(arguments, pack, spec)
    machine, budget = _machine(arguments), _budget(arguments)
    if arguments.kind == "linkage":
        return trained.linkage_attack(pack, arguments.view, budget, folder, say, machine)
    rgb = trained.attacker_crops(pack, arguments.crops, arguments.data / "train")
    if arguments.kind == "ridge":
        return untrained.ridge_attack(pack, spec, rgb, arguments.view, seed)
    features = _features(arguments) if arguments.perceptual_weight else None
    return trained.attack(pack, rgb, trained.Run(arguments.view, folder), budget, say, machine, features)


def _rebuild(arguments: argparse.Namespace, pack: Pack, spec: SplitSpec) -> Result:
    from privacy.rebuild import LinearLayer
    from privacy.scene import space_of

    space = space_of(spec, arguments.models)
    if space is None:
        raise ConfigError(f"split {spec.name} has no template space in models/: there is no template to start from")
    layer = LinearLayer.read(arguments.models / "spaces" / space.name / "server.onnx")
    return untrained.rebuild_attack(pack, spec, layer, arguments.seed)


def _hill_climbing(arguments: argparse.Namespace, pack: Pack, spec: SplitSpec, say: Say) -> Result:
    from gallery.calibration import Calibration
    from privacy.scene import embedder_of, space_of

    embedder, space = embedder_of(spec, arguments.models), space_of(spec, arguments.models)
    if embedder is None or space is None:
        raise ConfigError(f"split {spec.name} has no template space in models/: there is no service to guess at")
    plan = untrained.GuessingPlan(
        arguments.queries, arguments.victims, arguments.fmr, arguments.seed, arguments.climb_queries
    )
    return untrained.guessing_attack(pack, spec, embedder, Calibration.from_dict(space.calibration), plan, say)


def _machine(arguments: argparse.Namespace) -> Machine:
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no CUDA device is visible to torch: leave --device out to run on the CPU")
    return Machine(arguments.device, arguments.threads)


def _budget(arguments: argparse.Namespace) -> Budget:
    return Budget(
        passes=arguments.passes,
        batch=arguments.batch,
        width=arguments.width,
        blocks=arguments.blocks,
        start=arguments.start,
        learning_rate=arguments.learning_rate,
        ssim_weight=arguments.ssim_weight,
        perceptual_weight=arguments.perceptual_weight,
        adversarial_weight=arguments.adversarial_weight,
        seed=arguments.seed,
    )


def _features(arguments: argparse.Namespace) -> Features:
    """The first stages of the public teacher, frozen: a perceptual loss for faces."""
    from networks.teacher import load_teacher

    teacher = load_teacher(places_of(arguments).teacher).to(arguments.device)
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    return lambda picture: teacher.stage_14(teacher.stage_28(teacher.stem(picture)))
