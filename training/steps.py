"""What a choice of quantiser steps costs in bytes and keeps of the signal, on training crops.

The benchmark takes no part: it may not choose what it measures.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from duetface.codec import encode_plane
from duetface.frequency import block_dct, centred_ycbcr
from duetface.quantisation import decode, quantise
from duetface.spec import PlaneSpec, SplitSpec
from duetface.splitting import split
from training.datasets import Faces

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
STRONG_RMS = 10.0  # luma channels above this get the wider step


def measure_steps(spec: SplitSpec, faces: Faces, count: int = 300) -> list[dict[str, float]]:
    """One row for each multiple of the shipped steps; at upsampling 1 and 2 also for plain numbers around them.

    The plain trials are (luma, strong luma, chroma): channels of luma above STRONG_RMS get the wider step.
    """
    goes = server_channels(spec, faces, count)
    plane = spec.plane("coefficients")
    rows = [{"factor": factor, **_cost(goes, with_steps(spec, factor).plane("coefficients"))} for factor in FACTORS]
    if spec.upsampling > 2:
        return rows
    strong = np.sqrt(np.square(goes).mean(axis=(0, 2, 3)))[: len(spec.server_channels)] >= STRONG_RMS
    for luma, wide, chroma in ((1.5, 3, 1.5), (2, 3, 2), (2, 3, 3), (3, 3, 6), (4, 4, 8), (8, 8, 16)):
        scale = (*np.where(strong, wide, luma).tolist(), *([float(chroma)] * (plane.shape[0] - len(strong))))
        rows.append({"luma": luma, "strong_luma": wide, "chroma": chroma, **_cost(goes, replace(plane, scale=scale))})
    return rows


def with_steps(spec: SplitSpec, factor: float) -> SplitSpec:
    """The same split, its coefficients rounded to steps that many times as wide."""
    wider = [
        replace(plane, scale=tuple(factor * step for step in plane.scale)) if plane.name == "coefficients" else plane
        for plane in spec.planes
    ]
    return replace(spec, planes=tuple(wider))


def server_channels(spec: SplitSpec, faces: Faces, count: int) -> NDArray[np.float64]:
    """(count, 3 * server, K, K) of evenly spread training crops, before rounding; fewer where K is large."""
    rows, count = faces.training_rows(), max(20, count // spec.upsampling**2)
    crops = (faces.crops[row] for row in rows[:: max(1, len(rows) // count)])
    return np.stack(
        [
            split(block_dct(centred_ycbcr(crop), spec.upsampling), spec.client_channels, spec.server_channels)[1]
            for crop in crops
        ]
    )


def _cost(goes: NDArray[np.float64], plane: PlaneSpec) -> dict[str, float]:
    codes = [quantise(face, plane) for face in goes]
    lengths = np.array([len(encode_plane(face, plane)) for face in codes])
    lost = goes - np.stack([decode(face, plane) for face in codes])
    luma = plane.shape[0] // 3
    kept = [
        1 - np.square(lost[:, part]).sum() / np.square(goes[:, part]).sum() for part in (np.s_[:luma], np.s_[luma:])
    ]
    saturated = np.mean([np.abs(face.astype(np.int16)) == 127 for face in codes])
    return {
        "bytes_mean": float(lengths.mean().round()),
        "bytes_p99": float(np.quantile(lengths, 0.99).round()),
        "luma_energy_kept": round(float(kept[0]), 4),
        "chroma_energy_kept": round(float(kept[1]), 4),
        "saturated": float(saturated),
    }
