"""One training run's settings, read from TOML; unknown keys are refused."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from duetface.errors import ConfigError


@dataclass(frozen=True)
class FitConfig:
    """What a run does. Defaults are the first trial's (docs/method.md 8.6) where it had them."""

    split: str  # a name of networks.registry
    minutes: float  # wall-clock budget: the schedule ends with it, however slow the machine is
    faces: int  # faces to see at most, whichever comes first
    seed: int = 1
    batch: int = 64
    learning_rate: float = 1e-3  # AdamW, peak of the cycle
    weight_decay: float = 0.01
    warm_up: float = 0.1  # share of the run during which the rate rises
    relational_weight: float = 16.0  # the term is a mean of squares near 0.01: this makes it a third of the loss
    naming_weight: float = 0.05  # its gradient is some ten times the cosine's: this makes it about half as strong
    naming_temperature: float = 0.05  # at a cosine of 0.55 to the own face, 19,000 others weigh as much as it
    hint_weight: float = 0.0  # of the maps of a learned client's stages (training.hints); for fixed splits 0
    hint_until: float = 0.5  # share of the run after which there are none: they cost as much as the step itself
    blend_share: float = 0.0  # of the samples: faces of nobody, about which the teacher is asked (training.blends)
    occluded_weight: float = 0.5  # weight of crops with black borders (cover under 0.9)
    average_decay: float = 0.998  # of the running mean of the weights, a step: the last 500 steps or so
    head: str = ""  # "arcface" or "adaface": also name the person, where labels are known (training.heads)
    head_weight: float = 0.05
    head_scale: float = 32.0  # 64 in the paper, for 85,000 people; a few thousand want flatter logits
    head_margin: float = 0.3  # 0.5 in the paper
    teacher: str = ""  # file to distil and to start from: a path, or a name in --data/teacher; empty is w600k_mbf
    interaction: str = "weighted"  # or "gated": the figure's block (networks.interaction)
    masks: str = "own"  # or "random": an ablation
    region: bool = True  # false looks everywhere instead of at the face: an ablation
    compile: bool = False  # torch.compile, of the networks on CUDA, of the activations on a CPU: then a third faster
    augment: bool = True
    threads: int = 2
    checkpoint_minutes: float = 3.0

    def __post_init__(self) -> None:
        """Raises ConfigError for a value that no run can have: better now than after the data is loaded."""
        choices = {"interaction": ("weighted", "gated"), "masks": ("own", "random"), "head": ("", "arcface", "adaface")}
        for key, allowed in choices.items():
            if getattr(self, key) not in allowed:
                raise ConfigError(f"{key} = {getattr(self, key)!r}: expected one of {allowed}")
        for key in ("minutes", "faces", "batch", "learning_rate", "threads"):
            if not getattr(self, key) > 0:
                raise ConfigError(f"{key} = {getattr(self, key)!r}: expected more than 0")
        if not 0 <= self.blend_share <= 1:
            raise ConfigError(f"blend_share = {self.blend_share!r}: expected a share, 0 to 1")
        if self.head and self.blend_share:
            raise ConfigError(
                f"blend_share = {self.blend_share!r}: a blend has no name for head = {self.head!r} to learn"
            )

    @staticmethod
    def read(path: Path) -> FitConfig:
        """Raises ConfigError naming the file and the key that is unknown or missing."""
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from error
        unknown = sorted(set(raw) - {field.name for field in fields(FitConfig)})
        if unknown:
            raise ConfigError(f"{path}: unknown keys {unknown}")
        try:
            return FitConfig(**raw)
        except (TypeError, ConfigError) as error:
            raise ConfigError(f"{path}: {error}") from error
