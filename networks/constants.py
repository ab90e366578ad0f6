"""Fixed numbers of a module that no checkpoint holds."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


def register_constant(module: nn.Module, name: str, array: NDArray[np.floating] | NDArray[np.integer]) -> None:
    """A fixed array of a module as a buffer that no checkpoint holds; floating point becomes float32."""
    tensor = torch.from_numpy(np.array(array))
    module.register_buffer(name, tensor.float() if tensor.is_floating_point() else tensor, persistent=False)
