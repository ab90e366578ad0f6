"""torch.compile where it pays: the networks on CUDA, on a CPU the activations alone."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

Activation = Callable[[Tensor, Tensor], Tensor]


def compiled(network: nn.Module, device: torch.device) -> nn.Module:
    """On CUDA the whole; on a CPU PReLU, whose plain backward pass takes a third of a training step.

    The convolutions are oneDNN's either way. Without a C++ compiler nothing is compiled, and a line says so.
    """
    if device.type == "cuda":
        return cast(nn.Module, torch.compile(network))
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        print(f"no C++ compiler ({compiler}): nothing is compiled, the run is a third slower", file=sys.stderr)
        return network
    activation: Activation = torch.compile(_prelu_of_rows, dynamic=True)
    for module in network.modules():
        if isinstance(module, nn.PReLU):
            module.forward = partial(_activated, activation, module)  # type: ignore[method-assign]
    return network


def _activated(activation: Activation, module: nn.PReLU, x: Tensor) -> Tensor:
    # As rows, which channels_last maps are in memory, so that one kernel serves maps of all sizes.
    batch, channels, height, width = x.shape
    rows = activation(x.permute(0, 2, 3, 1).reshape(-1, channels), module.weight[None])
    return rows.reshape(batch, height, width, channels).permute(0, 3, 1, 2)


def _prelu_of_rows(rows: Tensor, weight: Tensor) -> Tensor:
    """(N, C), (1, C) -> (N, C). A parameter itself, not one dimension more, would be compiled anew for each C."""
    return nn.functional.prelu(rows, weight[0])
