"""Excess leak: what the best attack draws from a message beyond what the best one draws from its template.

excess(metric) = max over attackers of metric(from message) - max over attackers of metric(from template), for the
same victims, decoder family, training faces, budget and seeds (docs/method.md 9). Zero is the limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duetface.errors import ConfigError
from privacy.judges import Floats, Interval, bootstrap

# Settings that may differ between the two sides: what the attacker looks at and what follows from it.
FREE_SETTINGS = {"view", "parameters", "ssim_weight", "perceptual_weight", "adversarial_weight"}


@dataclass(frozen=True)
class Attack:
    """One finished attack: its result.json and a figure per picture (or per pair) by metric."""

    result: Mapping[str, Any]
    figures: Mapping[str, Floats]


@dataclass(frozen=True)
class Excess:
    """message, template: of the best attack on each side.  excess: their difference, paired by picture."""

    metric: str
    message: float
    template: float
    excess: Interval


def excess(
    metric: str, messages: Sequence[Attack], templates: Sequence[Attack], people: Sequence[str], seed: int
) -> Excess:
    """people: of each picture (or pair).  Raises ConfigError if budgets, faces or victims differ between the sides."""
    check_comparable([*messages, *templates])
    best, floor = _best(metric, messages), _best(metric, templates)
    interval = bootstrap(best - floor, people, seed)
    return Excess(metric, float(best.mean()), float(floor.mean()), interval)


def check_comparable(attacks: Sequence[Attack]) -> None:
    """Every attack against the same split, victims and faces, with the same budget and seed."""
    first = attacks[0].result
    for attack in attacks[1:]:
        for key in ("split_digest", "seed", "n"):
            if attack.result[key] != first[key]:
                raise ConfigError(f"{attack.result['attack']}: {key} {attack.result[key]}, expected {first[key]}")
        mine, theirs = _fixed(attack.result), _fixed(first)
        different = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
        if different:
            raise ConfigError(f"{attack.result['attack']}: another budget than {first['attack']} in {different}")


def _fixed(result: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result["settings"].items() if key not in FREE_SETTINGS}


def _best(metric: str, attacks: Sequence[Attack]) -> NDArray[np.float64]:
    if not attacks:
        raise ConfigError(f"excess in {metric}: an attack is needed on each side")
    return max((attack.figures[metric] for attack in attacks), key=lambda figures: float(figures.mean()))
