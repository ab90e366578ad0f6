"""The teachers' architecture: MobileFaceNet (Chen et al., arXiv 1804.07573), in two shapes.

Batch normalisation is folded into the convolutions, so nothing depends on the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

EMBEDDING = 512


@dataclass(frozen=True)
class TrunkShape:
    """stem: channels of the first layers.  stages: (hidden of the first block, outputs, hidden of the others)."""

    stem: int
    stages: tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]


# As InsightFace ships it in buffalo_s (w600k_mbf): 3.4 M parameters, 439 M multiply-accumulates on 112 x 112.
INSIGHTFACE = TrunkShape(128, ((128, 128, 128), (256, 256, 256), (512, 256, 256)))
# As published, with 512 outputs (npm faceplugin-face-recognition-js): 1.2 M parameters, 221 M multiply-accumulates.
PUBLISHED = TrunkShape(64, ((128, 64, 128), (256, 128, 256), (512, 128, 256)))
TRUNKS = {"insightface": INSIGHTFACE, "published": PUBLISHED}


def _convolution(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)


def _keep_variance(module: nn.Module) -> None:
    """He's initialisation for PReLU (arXiv 1502.01852): without normalisation layers a signal must not fade."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, a=0.25)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class PairedConvolution(nn.Conv2d):
    """A 3 x 3 convolution whose channels see each other in pairs (groups of two), computed in wider groups.

    Sixteen channels a group, the weights between pairs being zero, are the same sum, and oneDNN and
    ONNX Runtime have fast kernels for it: 1.8 instead of 9.5 ms a face forward and backward (bf16, 2 cores).
    """

    pairs: Tensor
    WIDE = 8  # pairs computed together

    def __init__(self, channels: int) -> None:
        """channels: in and out, a multiple of 16."""
        super().__init__(channels, channels, 3, 1, 1, groups=channels // 2)
        self.register_buffer("pairs", torch.eye(self.WIDE).reshape(1, self.WIDE, 1, self.WIDE, 1, 1, 1), False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        w = self.weight.reshape(-1, self.WIDE, 2, 1, 2, 3, 3) * self.pairs  # (C / 16, 8, 2, 8, 2, 3, 3)
        wide = w.reshape(self.out_channels, 2 * self.WIDE, 3, 3)
        y: Tensor = nn.functional.conv2d(x, wide, self.bias, padding=1, groups=self.groups // self.WIDE)
        return y

    def plain(self) -> nn.Conv2d:
        """The same layer without the zeros: an eighth of the products, for a small map on a device as fast."""
        layer = nn.Conv2d(self.in_channels, self.out_channels, 3, 1, 1, groups=self.groups)
        layer.load_state_dict(self.state_dict())
        return layer


class HalvingConvolution(nn.Conv2d):
    """A depthwise 3 x 3 convolution of stride 2; where a gradient is wanted, computed at stride 1 and thinned out.

    The same sums, and quicker: oneDNN has no fast backward pass at stride 2. 64 maps of 128 x 56 x 56, forward and
    backward in bf16 on one core of an AMD EPYC, take 263 ms at stride 2 and 98 thinned out.
    """

    def __init__(self, channels: int) -> None:
        """channels: in and out."""
        super().__init__(channels, channels, 3, 2, 1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H / 2, W / 2)."""
        if not (torch.is_grad_enabled() and x.device.type == "cpu"):
            return super().forward(x)
        whole: Tensor = nn.functional.conv2d(x, self.weight, self.bias, padding=1, groups=self.groups)
        return whole[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)


class Bottleneck(nn.Module):
    """Expand, filter each channel, project; with a residual when shape is kept. (B, C, H, W) throughout."""

    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int = 1) -> None:
        """hidden: channels of the depthwise convolution.  stride 2 halves height and width."""
        super().__init__()
        self.residual = stride == 1
        self.expand = _convolution(inputs, hidden)
        self.expand_act = nn.PReLU(hidden)
        self.depthwise = HalvingConvolution(hidden) if stride == 2 else _convolution(hidden, hidden, 3, 1, hidden)
        self.depthwise_act = nn.PReLU(hidden)
        self.project = _convolution(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        y: Tensor = self.expand_act(self.expand(x))
        y = self.project(self.depthwise_act(self.depthwise(y)))
        return x + y if self.residual else y


def _stage(inputs: int, widths: tuple[int, int, int], more: int) -> nn.Sequential:
    """One block of stride 2, then so many with a residual."""
    first, outputs, hidden = widths
    return nn.Sequential(
        Bottleneck(inputs, first, outputs, 2), *(Bottleneck(outputs, hidden, outputs) for _ in range(more))
    )


def _insightface_head(inputs: int) -> list[nn.Module]:
    return [
        _convolution(inputs, 512), nn.PReLU(512), _convolution(512, 64), nn.PReLU(64), nn.Flatten(),
        nn.Linear(64 * 7 * 7, EMBEDDING),
    ]  # fmt: skip


def _published_head(inputs: int) -> list[nn.Module]:
    """With the global depthwise convolution of the paper's section 3.2."""
    return [
        _convolution(inputs, 512), nn.PReLU(512), nn.Conv2d(512, 512, 7, groups=512), _convolution(512, EMBEDDING),
        nn.Flatten(),
    ]  # fmt: skip


class MobileFaceNet(nn.Module):
    """Picture -> embedding, cut into the stages between which masks may enter.

    Stage outputs: 28 x 28, 14 x 14, 7 x 7; of 128, 256, 256 channels (INSIGHTFACE) or 64, 128, 128 (PUBLISHED).
    Modules stand in the order of the teacher's ONNX nodes: networks.teacher relies on it.
    """

    def __init__(self, trunk: str = "insightface") -> None:
        """trunk: one of TRUNKS.  Random weights; see networks.teacher.load_teacher for the trained ones."""
        super().__init__()
        self.name, shape = trunk, TRUNKS[trunk]
        published = shape == PUBLISHED
        second = _convolution(shape.stem, shape.stem, 3, 1, shape.stem) if published else PairedConvolution(shape.stem)
        self.stem = nn.Sequential(_convolution(3, shape.stem, 3, 2), nn.PReLU(shape.stem), second, nn.PReLU(shape.stem))
        stage_28, stage_14, stage_7 = shape.stages
        self.stage_28 = _stage(shape.stem, stage_28, 4)
        self.stage_14 = _stage(stage_28[1], stage_14, 6)
        self.stage_7 = _stage(stage_14[1], stage_7, 2)
        head = _published_head if published else _insightface_head
        self.head = nn.Sequential(*head(stage_7[1]))
        self.apply(_keep_variance)

    @property
    def stages(self) -> tuple[nn.Sequential, ...]:
        """The bottlenecks, stage by stage."""
        return self.stage_28, self.stage_14, self.stage_7

    def forward(self, picture: Tensor) -> Tensor:
        """(B, 3, 112, 112) RGB in [-1, 1] -> (B, 512), not normalised."""
        embedding: Tensor = self.head(self.stage_7(self.stage_14(self.stage_28(self.stem(picture)))))
        return embedding


def unit_length(embedding: Tensor) -> Tensor:
    """(B, D) -> (B, D) of Euclidean length 1; a zero vector stays zero."""
    return torch.nn.functional.normalize(embedding, dim=1)
