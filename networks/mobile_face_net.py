"""The teacher's architecture, MobileFaceNet, as InsightFace ships it in buffalo_s (w600k_mbf).

Chen et al., "MobileFaceNets", arXiv 1804.07573. Batch normalisation is folded into the convolutions, so
nothing depends on the batch. 3.4 M parameters, 439 M multiply-accumulates on 112 x 112.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EMBEDDING = 512


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


class Bottleneck(nn.Module):
    """Expand, filter each channel, project; with a residual when shape is kept. (B, C, H, W) throughout."""

    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int = 1) -> None:
        """hidden: channels of the depthwise convolution.  stride 2 halves height and width."""
        super().__init__()
        self.residual = stride == 1
        self.expand = _convolution(inputs, hidden)
        self.expand_act = nn.PReLU(hidden)
        self.depthwise = _convolution(hidden, hidden, 3, stride, hidden)
        self.depthwise_act = nn.PReLU(hidden)
        self.project = _convolution(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        y: Tensor = self.expand_act(self.expand(x))
        y = self.project(self.depthwise_act(self.depthwise(y)))
        return x + y if self.residual else y


class MobileFaceNet(nn.Module):
    """Picture -> embedding, cut into the stages between which masks may enter.

    Stage outputs: 128 x 28 x 28, 256 x 14 x 14, 256 x 7 x 7. Modules stand in the order of the
    teacher's ONNX nodes: networks.teacher relies on it.
    """

    def __init__(self) -> None:
        """Random weights; see networks.teacher.load_teacher for the trained ones."""
        super().__init__()
        self.stem = nn.Sequential(
            _convolution(3, 128, 3, 2),
            nn.PReLU(128),
            PairedConvolution(128),
            nn.PReLU(128),
        )
        self.stage_28 = nn.Sequential(Bottleneck(128, 128, 128, 2), *(Bottleneck(128, 128, 128) for _ in range(4)))
        self.stage_14 = nn.Sequential(Bottleneck(128, 256, 256, 2), *(Bottleneck(256, 256, 256) for _ in range(6)))
        self.stage_7 = nn.Sequential(Bottleneck(256, 512, 256, 2), *(Bottleneck(256, 256, 256) for _ in range(2)))
        self.head = nn.Sequential(
            _convolution(256, 512),
            nn.PReLU(512),
            _convolution(512, 64),
            nn.PReLU(64),
            nn.Flatten(),
            nn.Linear(64 * 7 * 7, EMBEDDING),
        )
        self.apply(_keep_variance)

    def forward(self, picture: Tensor) -> Tensor:
        """(B, 3, 112, 112) RGB in [-1, 1] -> (B, 512), not normalised."""
        embedding: Tensor = self.head(self.stage_7(self.stage_14(self.stage_28(self.stem(picture)))))
        return embedding


def unit_length(embedding: Tensor) -> Tensor:
    """(B, D) -> (B, D) of Euclidean length 1; a zero vector stays zero."""
    return torch.nn.functional.normalize(embedding, dim=1)
