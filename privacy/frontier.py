"""Where the splits stand between the two ends: everything recognised on the device, and the picture sent as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

GOAL_LOST, GOAL_EXCESS, GOAL_MACS = 2.0, 0.05, 60e6  # points, SSIM, of a device's network: for the default split
TEACHER_MACS = 439e6  # of the teacher on a device: an embedding made there has no excess by definition

Point = Mapping[str, Any]


def frontier(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A point a split that has both an excess and a cost: accuracy lost, excess leak, MACs, bytes."""
    points = []
    for split in sorted({result["split"] for result in results}):
        metrics: dict[str, Any] = {}
        for result in results:
            if result["split"] == split and result["attack"] in ("excess", "cost"):
                metrics |= result["metrics"]
        if {"accuracy_lost_points", "message_bytes", "excess_ssim"} <= metrics.keys():
            points.append({"split": split, **{name: _mean(value) for name, value in metrics.items()}})
    return points


def frontier_picture(points: Sequence[Point], path: Path) -> None:
    """One PNG: excess against accuracy lost, and against work on the device with the line between the two ends."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(11, 4))
    lost, work = figure.subplots(1, 2, sharey=True)
    lost.add_patch(Rectangle((0, 0), GOAL_LOST, GOAL_EXCESS, alpha=0.15, color="green", linewidth=0))
    work.add_patch(Rectangle((0, 0), GOAL_MACS / 1e6, GOAL_EXCESS, alpha=0.15, color="green", linewidth=0))
    plain = 1 - min(point["ssim_from_template"] for point in points)
    work.plot([0, TEACHER_MACS / 1e6], [plain, 0], linestyle=":", color="grey")
    ends = ((0, plain, "the picture itself"), (TEACHER_MACS / 1e6, 0, "the teacher on the device"))
    for macs, excess, name in ends:
        for axes, x in ((lost, 0), (work, macs)):
            axes.scatter([x], [excess], marker="*", color="black")
            _name(axes, name, (x, excess), -14 if excess == 0 else 5, left=x > 0)
    for point in points:
        size = 20 + point["message_bytes"] / 50
        label = f"{point['split']}: {point['message_bytes']:,.0f} bytes"
        for axes, x in ((lost, point["accuracy_lost_points"]), (work, point.get("client_macs", 0) / 1e6)):
            axes.scatter([x], [point["excess_ssim"]], s=size)
            _name(axes, label, (x, point["excess_ssim"]), 7)
    lost.set_xlabel("accuracy lost against the teacher, points on lfw_dev")
    lost.set_ylabel("excess SSIM of the best trained attack")
    work.set_xlabel("work on the device, million multiply-accumulates")
    lost.set_xlim(-0.2, 2 + max(point["accuracy_lost_points"] for point in points))
    work.set_xlim(-20, 1.1 * TEACHER_MACS / 1e6)
    lost.set_ylim(-0.07, 1.15 * plain)
    figure.text(0.5, -0.05, "green: goals of the default split; area of a point: bytes of a message", ha="center")
    figure.savefig(path, dpi=110, bbox_inches="tight")


def _name(axes: Any, name: str, place: tuple[float, float], above: int, *, left: bool = False) -> None:
    side, beside = ("right", -8) if left else ("left", 8)
    axes.annotate(name, place, textcoords="offset points", xytext=(beside, above), ha=side, fontsize=9)


def _mean(value: Mapping[str, float] | float) -> float:
    return value["mean"] if isinstance(value, Mapping) else value
