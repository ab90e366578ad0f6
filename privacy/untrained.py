"""Attacks that need no training, each from a pack to a result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from duetface.errors import ConfigError
from duetface.spec import SplitSpec
from gallery.calibration import Calibration
from privacy import hill_climbing, linear, rebuild, ridge, unlinkability
from privacy.judges import Interval, bootstrap, ssim
from privacy.observation import Observed
from privacy.pack import Pack
from privacy.record import Result, names_of, picture_metrics, sizes
from recognition_service.decision import OperatingPoint

Say = Callable[[str], None]
RIDGE_CELLS = 3_000_000  # to learn from: plenty for the thousand or so features of a cell
KNOWN_PEOPLE = (64, 128, 256, 512)
CLIMBS = 3  # victims of the baseline that is told similarities: it wins, so three suffice


@dataclass(frozen=True)
class GuessingPlan:
    """queries, climb_queries: of each victim, by decisions and by similarities.  fmr: the service's promise."""

    queries: int
    victims: int
    fmr: float
    seed: int
    climb_queries: int = 1000


def linear_attack(observed: Observed, real: NDArray[np.uint8], people: Sequence[str], seed: int) -> Result:
    """Sparse least squares, the mean colour known and guessed; the smoothness that does best on the victims.

    observed: messages of a fixed split.  real: (N, 112, 112, 3), their crops.  people: on each.
    Choosing by the victims favours the attacker: the figure is an upper bound.
    """
    colour = real.reshape(len(real), -1, 3).mean(axis=1)
    made, smoothness = best_linear(observed, real, colour)
    # A constant is sent by no fixed split and has no gradient, so a wrong guess only shifts the whole picture.
    guessed = made + (colour.mean(axis=0) - colour)[:, None, None]
    metrics: dict[str, Interval | float] = {"smoothness": smoothness}
    for knowledge, pictures in (("known", made), ("guessed", guessed)):
        found = picture_metrics(pictures, real, people, seed)
        metrics |= {f"{name}_means_{knowledge}": value for name, value in found.items()}
    flat = np.broadcast_to(colour[:, None, None], real.shape)
    metrics |= {f"flat_colour_{name}": value for name, value in picture_metrics(flat, real, people, seed).items()}
    n = sizes(len(real), len(set(people)), 0)
    return Result("linear", "linear", **names_of(observed.split), seed=seed, n=n, metrics=metrics)


def best_linear(
    observed: Observed, real: NDArray[np.uint8], mean_rgb: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """The reconstruction (N, 112, 112, 3) of the best smoothness by SSIM, and that smoothness."""
    tries = [(linear.reconstruct(observed, mean_rgb, weight), weight) for weight in linear.SMOOTHNESS]
    return max(tries, key=lambda made: float(ssim(made[0], real).mean()))


def ridge_attack(pack: Pack, spec: SplitSpec, rgb: NDArray[np.uint8], view: str, seed: int) -> Result:
    """Ridge regression from what is seen (see pack.Group.view) to the picture, on the attacker's own people."""
    cells = ridge.grid_of(pack.attacker.view(view)) ** 2
    count = min(max(1, RIDGE_CELLS // cells), len(rgb))
    learned = ridge.learn(pack.attacker.rows(np.arange(count)).view(view), rgb[:count])
    made = learned.reconstruct(pack.victim.view(view))
    metrics = picture_metrics(made, pack.victim_rgb, pack.victim_people, seed)
    n = sizes(len(made), len(set(pack.victim_people)), count)
    settings = {"view": view, "penalty": ridge.PENALTY}
    named = names_of(spec)
    return Result(f"ridge from {view}", "linear", **named, seed=seed, n=n, metrics=dict(metrics), settings=settings)


def rebuild_attack(pack: Pack, spec: SplitSpec, layer: rebuild.LinearLayer, seed: int) -> Result:
    """The codes of each victim's message, computed from the template alone."""
    if spec.family != "learned" or pack.victim.template.shape[1] == 0:
        raise ConfigError(f"split {spec.name}: only a learned split with a template space in models/ is rebuilt")
    (plane,) = spec.planes
    found = rebuild.rebuilt_codes(pack.victim.template, layer, plane)
    right = found == pack.victim.planes[plane.name].reshape(found.shape)
    metrics: dict[str, Interval | float] = {
        "codes_rebuilt_share": bootstrap(right.mean(axis=1), pack.victim_people, seed),
        "messages_rebuilt_share": bootstrap(right.all(axis=1).astype(np.float64), pack.victim_people, seed),
        "layer_condition": layer.condition,
    }
    n = sizes(len(found), len(set(pack.victim_people)), 0)
    return Result("rebuild", "rebuild", **names_of(spec), seed=seed, n=n, metrics=metrics)


def template_attack(pack: Pack, spec: SplitSpec, seed: int) -> Result:
    """Linkage of stolen galleries: under one key, under two, by geometry alone, and with known people."""
    first, second = mates(pack)
    if first.shape[1] == 0:
        raise ConfigError(f"split {spec.name} has no template space in models/: nothing is stored")
    metrics: dict[str, Interval | float] = {}
    random = np.random.default_rng(seed)
    seeds = (random.bytes(32), random.bytes(32))
    for same_key in (True, False):
        realms = unlinkability.two_realms(first, second, same_key=same_key, seeds=seeds)
        found = unlinkability.linkage(*realms, seed=seed)
        name = "one_key" if same_key else "two_keys"
        metrics |= {f"d_sys_{name}": found.d_sys, f"d_sys_{name}_bias": found.bias}
    realms = unlinkability.two_realms(first, second, same_key=False, seeds=seeds)
    for anchors in (32, len(first) // 2):
        metrics[f"matched_by_geometry_{anchors}_anchors"] = unlinkability.match_by_geometry(*realms, anchors=anchors)
    half = len(first) // 2
    known = tuple(count for count in KNOWN_PEOPLE if count <= half)
    recovered = unlinkability.key_recovery(first[:half], second[:half], first[half:], known, seed)
    metrics |= {f"inverted_cosine_{count}_known": cosine for count, cosine in recovered.items()}
    n = {**sizes(2 * len(first), len(first), 0), "non_mated_comparisons": len(first) * (len(first) - 1)}
    return Result("templates", "templates", **names_of(spec), seed=seed, n=n, metrics=metrics)


def mates(pack: Pack) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(P, D) templates of two pictures of each victim who has two: one for each realm."""
    row = {name: i for i, name in enumerate(pack.victim.names)}
    first_pair: dict[str, tuple[int, int]] = {}
    for first, second, same in pack.pairs:
        if same:
            first_pair.setdefault(first.rsplit("_", 1)[0], (row[first], row[second]))
    rows = np.array(list(first_pair.values()), np.int64).reshape(-1, 2)
    return pack.victim.template[rows[:, 0]], pack.victim.template[rows[:, 1]]


def guessing_attack(
    pack: Pack, spec: SplitSpec, embedder: hill_climbing.Embeds, calibration: Calibration, plan: GuessingPlan, say: Say
) -> Result:
    """10,000 guesses by decisions alone, and the baseline that is told similarities."""
    first, _ = mates(pack)
    point = OperatingPoint(plan.fmr, calibration.threshold_at(plan.fmr))
    victims = hill_climbing.StoredVictims(first[: plan.victims], point, plan.seed)
    queries = hill_climbing.guesses(pack.attacker, spec, plan.seed)
    say(f"asking {plan.queries} queries of {len(victims)} victims")
    found = hill_climbing.guess(queries, plan.queries, embedder, victims, plan.fmr)
    say(f"climbing by similarities: {CLIMBS} victims, {plan.climb_queries} queries")
    climbs = [
        hill_climbing.climb(pack.attacker, spec, embedder, victims, victim, plan.climb_queries, plan.seed)
        for victim in islice(range(len(victims)), CLIMBS)
    ]
    metrics: dict[str, Interval | float] = {
        "accept_rate": Interval(found.accept_rate, found.low, found.high),
        "accepted": found.accepted,
        "victims_broken_share": found.broken / found.victims,
        "victims_broken_share_expected_of_chance": found.expected_broken,
        "told_similarities_broken_share": float(np.mean([accepted > 0 for _, accepted in climbs])),
        "told_similarities_reached": float(np.mean([reached for reached, _ in climbs])),
        "threshold": point.threshold,
    }
    n = {**sizes(len(victims), len(victims), len(pack.attacker.names)), "queries": plan.queries}
    return Result(
        "hill-climbing", "hill-climbing", **names_of(spec), seed=plan.seed, n=n, metrics=metrics, settings=asdict(plan)
    )
