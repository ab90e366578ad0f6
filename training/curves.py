"""The curves of a run as a picture, beside the numbers that it is drawn from."""

from __future__ import annotations

import csv
from pathlib import Path

from duetface.errors import ConfigError


def plot_curves(folder: Path) -> Path | None:
    """Draw curves.csv of a run's folder as curves.png. None where matplotlib is not installed (a lent GPU machine).

    Raises ConfigError if there are no curves.
    """
    path = folder / "curves.csv"
    if not path.exists():
        raise ConfigError(f"{path} is missing: {folder} is no run of `python -m training fit`")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    with path.open(newline="", encoding="utf-8") as stream:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]
    faces = [row["faces"] for row in rows]
    figure = Figure(figsize=(9, 3), layout="constrained")
    for axes, name in zip(figure.subplots(1, 3), ("loss", "cosine", "rate"), strict=True):
        axes.plot(faces, [row[name] for row in rows], linewidth=1)
        axes.set(xlabel="faces seen", title=name)
        axes.grid(visible=True, alpha=0.3)
    figure.savefig(folder / "curves.png", dpi=120)
    return folder / "curves.png"
