"""A plot of a realm's own scores: how far genuine and impostor comparisons lie apart, and where the threshold cuts."""

from pathlib import Path

import numpy as np

from duetface.errors import ConfigError
from gallery.checking import BIN_WIDTH, Scores


def plot_scores(scores: Scores, threshold: float, path: Path) -> None:
    """Write the plot; its suffix says which format.  threshold: cosine.

    Raises ConfigError if matplotlib is not installed or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure  # only here: a service has no use for it
    except ImportError as error:
        raise ConfigError("plots need matplotlib: pip install duetface[report]") from error
    centres = np.arange(len(scores.genuine)) * BIN_WIDTH - 1 + BIN_WIDTH / 2
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for counts, colour, name in (
        (scores.genuine, "tab:green", "genuine: two templates of one subject"),
        (scores.impostor, "tab:red", "impostor: of two subjects"),
    ):
        total = int(counts.sum())
        share = counts / max(1, total)
        axes.step(centres, share, where="mid", color=colour, label=f"{name}, n = {total}")
    axes.axvline(threshold, color="black", linestyle="--", label=f"threshold {threshold:.3f}")
    # A share below one pair of all is nothing: the axis ends there.
    least = 1 / max(2, int(scores.genuine.sum()), int(scores.impostor.sum()))
    axes.set(yscale="log", ylim=(least / 2, 1), xlabel="cosine similarity", ylabel="share of pairs")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize=8)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--plot {path}: {error}") from error
