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
    check_comparable(messages, templates)
    best, floor = _best(metric, messages), _best(metric, templates)
    interval = bootstrap(best - floor, people, seed)
    return Excess(metric, float(best.mean()), float(floor.mean()), interval)


def check_comparable(messages: Sequence[Attack], templates: Sequence[Attack]) -> None:
    """Every attack against the same split, victims and faces; each budget (capacity and all) on both sides.

    Raises ConfigError naming what differs.
    """
    if not messages or not templates:
        raise ConfigError("an excess needs an attack on each side")
    first = messages[0].result
    for attack in (*messages, *templates):
        for key in ("split_digest", "seed", "n"):
            if attack.result[key] != first[key]:
                raise ConfigError(f"{attack.result['attack']}: {key} {attack.result[key]}, expected {first[key]}")
    for side, other in ((messages, templates), (templates, messages)):
        for attack in side:
            _check_matched(attack, other)


def _check_matched(attack: Attack, others: Sequence[Attack]) -> None:
    """Raises ConfigError if none of the others had the attack's budget."""
    mine = _fixed(attack.result)
    different = [
        sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
        for theirs in (_fixed(other.result) for other in others)
    ]
    if all(different):
        closest = min(different, key=len)
        raise ConfigError(f"{attack.result['attack']}: no attack of the other side has its budget, see {closest}")


def _fixed(result: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result["settings"].items() if key not in FREE_SETTINGS}


def _best(metric: str, attacks: Sequence[Attack]) -> NDArray[np.float64]:
    return max((attack.figures[metric] for attack in attacks), key=lambda figures: float(figures.mean()))
