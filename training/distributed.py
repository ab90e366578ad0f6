"""Several processes on one run, as torchrun starts them: each takes its part of every step's faces.

Without torchrun there is one process and nothing here does anything. Multi-node is torchrun's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors


@dataclass(frozen=True)
class Workers:
    """rank: which one this is, from 0.  world: how many there are.  device: what this one computes on."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """The one that writes files and speaks."""
        return self.rank == 0


@contextmanager
def workers(environment: Mapping[str, str] = os.environ) -> Iterator[Workers]:
    """Join the others if torchrun started this process; NCCL on GPUs, gloo on CPUs."""
    world = int(environment.get("WORLD_SIZE", "1"))
    rank, local = int(environment.get("RANK", "0")), int(environment.get("LOCAL_RANK", "0"))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if world > 1:
        distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Workers(rank, world, device)
    finally:
        if world > 1:
            distributed.destroy_process_group()


def start_alike(modules: list[nn.Module], here: Workers) -> None:
    """Everybody begins with the first one's weights."""
    if here.world > 1:
        for module in modules:
            for tensor in module.state_dict().values():
                distributed.broadcast(tensor, src=0)


def average_gradients(parameters: list[nn.Parameter], here: Workers) -> None:
    """The mean over all processes, as if one had seen all their faces. In one message: the networks are small."""
    if here.world == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    joined = _flatten_dense_tensors(gradients)
    distributed.all_reduce(joined)
    joined /= here.world
    for gradient, averaged in zip(gradients, _unflatten_dense_tensors(joined, gradients), strict=True):
        gradient.copy_(averaged)


def agreed(value: float, here: Workers) -> float:
    """The first one's value: clocks differ, and whoever stops alone leaves the others waiting."""
    if here.world == 1:
        return value
    shared = torch.tensor(value, device=here.device, dtype=torch.float64)
    distributed.broadcast(shared, src=0)
    return float(shared)


def summed(value: float, here: Workers) -> float:
    """Over all processes."""
    if here.world == 1:
        return value
    total = torch.tensor(value, device=here.device, dtype=torch.float64)
    distributed.all_reduce(total)
    return float(total)
