"""The client network: from the channels that stay, where to look; only one-channel masks leave it.

Figure's form (docs/method.md 1.5): mask = norm(mean over channels of f, times the face region). Small enough
for the device: 17 M multiply-accumulates at upsampling 1, a twenty-fifth of the teacher's; 27 M above.

At a higher upsampling the same network looks at 28 x 28 means of blocks, four to each of its 14 x 14 cells: a
block then spans less than a pixel or two, and no mask is finer than that.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from duetface.spec import SplitSpec

EPSILON = 1e-3  # keeps a constant mask finite: the published norm divides 0 by 0 there
WIDTH = 64


class ClientNetwork(nn.Module):
    """(B, 3 * client, K, K) client channels and face regions -> masks of 28 x 28, 14 x 14 and 7 x 7.

    K: 14 blocks a side, or a multiple of 28.
    """

    input_scale: Tensor

    def __init__(self, spec: SplitSpec) -> None:
        """spec: client channels (inputs) and mask grids; networks.registry says which splits have masks."""
        super().__init__()
        if spec.mask_grids != {"mask_28": 28, "mask_14": 14, "mask_7": 7}:
            raise ValueError(f"split {spec.name}: this client network makes masks 28, 14 and 7, not {spec.mask_grids}")
        channels = 3 * len(spec.client_channels)
        self.register_buffer("input_scale", torch.ones(channels, 1, 1))
        self.gather, gathered = gather(spec.blocks)
        self.stem = nn.Sequential(nn.Conv2d(channels * gathered, WIDTH, 3, padding=1), nn.PReLU(WIDTH))
        # Each block's coefficients hold detail finer than a block: unfold it into 2 x 2 cells.
        self.finer = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 1), nn.PixelShuffle(2), nn.PReLU(WIDTH // 4))
        self.features_28 = nn.Sequential(nn.Conv2d(WIDTH // 4, WIDTH // 2, 3, padding=1), nn.ReLU())
        self.features_14 = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.ReLU())
        self.features_7 = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1), nn.ReLU())

    def forward(
        self, channels: Tensor, region_28: Tensor, region_14: Tensor, region_7: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Regions: (B, 1, k, k) in [0, 1].  Returns masks (B, 1, k, k) float32 in [0, 1]."""
        x = self.stem(self.gather(channels * self.input_scale))
        f28 = self.features_28(self.finer(x))
        f14 = self.features_14(x)
        f7 = self.features_7(f14)
        return attention(f28, region_28), attention(f14, region_14), attention(f7, region_7)


def gather(blocks: int) -> tuple[nn.Module, int]:
    """The layer that brings K x K blocks to 14 x 14 cells, and how many values of a channel each cell then holds."""
    if blocks == 14:
        return nn.Identity(), 1
    if blocks % 28:
        raise ValueError(f"{blocks} blocks a side: expected 14 or a multiple of 28")
    return nn.Sequential(nn.AvgPool2d(blocks // 28), nn.PixelUnshuffle(2)), 4


def attention(features: Tensor, region: Tensor) -> Tensor:
    """norm(mean over channels * region), per picture. (B, C, k, k), (B, 1, k, k) -> (B, 1, k, k)."""
    looked_at = features.float().mean(dim=1, keepdim=True) * region
    low = looked_at.amin(dim=(2, 3), keepdim=True)
    high = looked_at.amax(dim=(2, 3), keepdim=True)
    return (looked_at - low) / (high - low + EPSILON)
