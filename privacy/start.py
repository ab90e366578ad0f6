"""Where a decoder may start instead of the mean face: at the picture that ridge regression makes of the message.

For messages and templates of one cell (C x 1 x 1). The linear part of such an attack has a closed form, which a
decoder trained in a few passes only comes near; frozen here, the decoder learns what is left.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from duetface.errors import ConfigError
from privacy import ridge
from privacy.ridge import CROP, Arrays


class RidgeStart(nn.Module):
    """One-cell planes -> what ridge regression adds to the mean face, (B, 3, 112, 112). Not trained."""

    weight: Tensor

    def __init__(self, names: tuple[str, ...], weight: Tensor) -> None:
        """names: the planes in the order of the features.  weight: (features + 1, 112 * 112 * 3), the last constant."""
        super().__init__()
        self.names = names
        self.register_buffer("weight", weight)

    def forward(self, observed: Mapping[str, Tensor]) -> Tensor:
        """Plane name -> (B, C, 1, 1)."""
        seen = torch.cat([observed[name].float().flatten(1) for name in self.names], dim=1)
        with torch.autocast(seen.device.type, enabled=False):  # thousands of sums of 500 terms want float32
            added = torch.addmm(self.weight[-1], seen, self.weight[:-1])
        return added.reshape(-1, CROP, CROP, 3).permute(0, 3, 1, 2)


def ridge_start(observed: Arrays, rgb: NDArray[np.uint8], mean_face: NDArray[np.floating]) -> RidgeStart:
    """Learn it on the attacker's own faces.

    observed: name -> (N, C, 1, 1).  rgb: (N, 112, 112, 3).  mean_face: (112, 112, 3).
    Raises ConfigError if a plane has more than one cell.
    """
    blank = blank_start({name: array.shape[1:] for name, array in observed.items()})
    learned = ridge.learn({name: observed[name] for name in blank.names}, rgb).weights
    learned[-1] -= mean_face.reshape(-1)
    blank.weight.copy_(torch.from_numpy(learned))
    return blank


def blank_start(shapes: Mapping[str, tuple[int, ...]]) -> RidgeStart:
    """All zero, to be filled or loaded.  shapes: plane name -> (C, 1, 1).  Raises ConfigError as ridge_start does."""
    wide = [name for name, shape in shapes.items() if tuple(shape[1:]) != (1, 1)]
    if wide:
        raise ConfigError(f"--start ridge is for messages of one cell: {wide} have more, use --start mean-face")
    features = sum(shape[0] for shape in shapes.values())
    return RidgeStart(tuple(sorted(shapes)), torch.zeros(features + 1, CROP * CROP * 3))
