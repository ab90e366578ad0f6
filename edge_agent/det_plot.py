"""A DET plot of a search: FNIR over FPIR, both on a logarithmic axis (ISO/IEC 19795-1)."""

from pathlib import Path

from duetface.errors import ConfigError
from duetface.metrics import Rate, SearchScores


def plot_det(scores: SearchScores, operating: tuple[Rate, Rate], path: Path) -> None:
    """Write the plot; its suffix says which format.

    operating: FPIR and TPIR that the service decided at.
    Raises ConfigError if matplotlib is not installed or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure  # only here: a device has no use for it
    except ImportError as error:
        raise ConfigError("plots need matplotlib: pip install duetface[report]") from error
    fpir, fnir = scores.det_curve()
    probes, strangers = len(scores.own) + scores.missed, len(scores.strangers)
    # A logarithmic axis has no zero: half an error stands for none.
    floor_x, floor_y = 0.5 / max(1, strangers), 0.5 / max(1, probes)
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.step(fpir.clip(floor_x), fnir.clip(floor_y), where="post", color="tab:blue", label="threshold swept")
    point = max(operating[0].value, floor_x), max(1 - operating[1].value, floor_y)
    axes.plot(*point, "o", color="tab:red", label="operating point of the service")
    axes.set(xscale="log", yscale="log", xlabel="FPIR (strangers accepted)", ylabel="FNIR (known people missed)")
    title = f"{probes} probes of known people, {strangers} of strangers; half an error is drawn for none"
    axes.set_title(title, fontsize=9)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--plot {path}: {error}") from error
