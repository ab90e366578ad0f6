"""Equal ranges for the channels of a trunk, so that eight bits fit them all; the function stays the same.

One scale serves a whole activation of an int8 network, and a channel far smaller than the largest is lost in it.
A channel may be divided by any positive number before a PReLU and multiplied back in the layer after it, since
PReLU(x / s) = PReLU(x) / s (Nagel et al., arXiv 1906.04721, section 4.1; here by ranges of activations).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from networks.mobile_face_net import Bottleneck

SMALLEST = 1e-3  # of the mean range: a channel that is always zero must not be divided by it


@dataclass(frozen=True)
class Channels:
    """One set of channels: who makes them, who reads them, and the modules after which they are rounded."""

    writers: tuple[nn.Module, ...]
    readers: tuple[nn.Module, ...]
    observed: tuple[nn.Module, ...]


class Trunk(Protocol):
    """A network of bottlenecks: MobileFaceNet, or what was cut out of it."""

    stem: nn.Sequential
    head: nn.Sequential

    @property
    def stages(self) -> tuple[nn.Sequential, ...]:
        """Of bottlenecks, in order."""
        ...


@torch.no_grad()
def equalise(trunk: Trunk, run: Callable[[], object]) -> None:
    """Rescale the trunk's channels in place.  run: passes calibration faces through the whole network."""
    for channels in _all_channels(trunk):
        ranges = _ranges(channels.observed, run)
        ranges = (ranges / ranges.mean()).clamp_min(SMALLEST)
        scale = ranges if _is_depthwise(channels.readers[0]) else _balanced(ranges, channels.readers)
        for writer in channels.writers:
            _divide_outputs(writer, scale)
        for reader in channels.readers:
            _multiply_inputs(reader, scale)


def _all_channels(trunk: Trunk) -> Iterator[Channels]:
    first, first_act, second, second_act = trunk.stem.children()
    stages = [[block for block in stage if isinstance(block, Bottleneck)] for stage in trunk.stages]
    blocks = [block for stage in stages for block in stage]
    yield Channels((first,), (second,), (first, first_act))
    yield Channels((second,), (blocks[0].expand,), (second, second_act))
    for block in blocks:
        yield Channels((block.expand,), (block.depthwise,), (block.expand, block.expand_act))
        yield Channels((block.depthwise,), (block.project,), (block.depthwise, block.depthwise_act))
    following = [*(stage[0].expand for stage in stages[1:]), trunk.head[0]]
    for stage, module, after in zip(stages, trunk.stages, following, strict=True):
        # All blocks of a stage add to one stream: its channels share a scale from the first to the next stage.
        readers = (*(block.expand for block in stage[1:]), after)
        yield Channels(tuple(block.project for block in stage), readers, (module,))


def _ranges(modules: Sequence[nn.Module], run: Callable[[], object]) -> Tensor:
    """Largest absolute value of each channel of the modules' outputs."""
    seen: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, y: seen.append(y.abs().amax(dim=(0, 2, 3))))
        for module in modules
    ]
    run()
    for hook in hooks:
        hook.remove()
    return torch.stack(seen).amax(dim=0)


def _balanced(ranges: Tensor, readers: Sequence[nn.Module]) -> Tensor:
    """Half of the difference goes into the readers' weights, which one scale an output serves as well.

    Xiao et al., "SmoothQuant", arXiv 2211.10438, eq. 4 with alpha = 0.5.
    """
    layers = [reader for reader in readers if isinstance(reader, nn.Conv2d)]
    weights = torch.stack([layer.weight.abs().amax(dim=(0, 2, 3)) for layer in layers]).amax(dim=0)
    if len(weights) != len(ranges):
        return ranges.sqrt()  # a grouped convolution: its inputs share no weight rows
    weights = (weights / weights.mean()).clamp_min(SMALLEST)
    scale = (ranges / weights).sqrt()
    return scale / scale.mean()


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels


def _divide_outputs(module: nn.Module, scale: Tensor) -> None:
    assert isinstance(module, nn.Conv2d) and module.bias is not None
    module.weight.div_(scale[:, None, None, None])
    module.bias.div_(scale)


def _multiply_inputs(module: nn.Module, scale: Tensor) -> None:
    assert isinstance(module, nn.Conv2d)
    # Weight (out, in / groups, k, k): output o of group g reads the inputs of its own group.
    per_group = scale.reshape(module.groups, 1, -1).expand(-1, module.out_channels // module.groups, -1)
    module.weight.mul_(per_group.reshape(module.out_channels, -1)[:, :, None, None])
