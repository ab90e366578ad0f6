"""A DET plot of a verification: false rejection over false acceptance, both logarithmic (ISO/IEC 19795-1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from duetface.errors import ConfigError
from training.scores import Verified, det_points


def plot_det(curves: Mapping[str, Verified], path: Path) -> None:
    """Write one curve a name; the file's suffix says which format.

    Raises ConfigError if matplotlib is not installed or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure  # only here: a lent GPU machine trains without it
    except ImportError as error:
        raise ConfigError("plots need matplotlib: pip install duetface[train]") from error
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.add_subplot()
    for name, verified in curves.items():
        genuine, impostor = verified.genuine, verified.impostor
        far, frr = det_points(genuine, impostor)
        # A logarithmic axis has no zero: half an error stands for none.
        axes.step(far.clip(0.5 / len(impostor)), frr.clip(0.5 / len(genuine)), where="post", label=name)
    axes.set(xscale="log", yscale="log", xlabel="FAR (different people accepted)", ylabel="FRR (same person rejected)")
    first = next(iter(curves.values()))
    pairs = f"{len(first.genuine)} genuine and {len(first.impostor)} impostor pairs; half an error is drawn for none"
    axes.set_title(pairs, fontsize=9)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--plot {path}: {error}") from error
