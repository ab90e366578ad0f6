"""The learned split: on the device a small network ends in a few coarse numbers; the service reads nothing else.

The device keeps every DCT channel. Its client network looks at the lowest sixteen of each colour plane, which are
the picture at half its size, and answers one vector without a place in the picture: nothing in it says where
something was seen. Few bits of it are sent; how many is a bound that no attacker can train away
(docs/method.md 9.1, docs/adr/0040).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from duetface import frequency
from duetface.spec import SplitSpec
from duetface.splitting import COMPONENTS
from networks.constants import register_constant
from networks.mobile_face_net import EMBEDDING, MobileFaceNet, unit_length
from networks.small_face_net import PICTURE, SmallFaceNet

CORNER = 4  # frequencies a side of the block that the client network looks at
CORNER_CHANNELS = tuple(frequency.BLOCK * u + v for u in range(CORNER) for v in range(CORNER))
BORDER = (14 * CORNER - PICTURE) // 2  # of the halved picture, in its pixels: one block of the crop


class LowPassPicture(nn.Module):
    """The lowest 4 x 4 channels of each block -> the middle of the picture at half its size, RGB in [-1, 1].

    A block's lowest 4 x 4 of 8 x 8 coefficients are the coefficients of the same block at half its size, doubled
    (Dugad and Ahuja, IEEE TCSVT 11(4), 2001).
    """

    basis: Tensor
    colour: Tensor

    def __init__(self) -> None:
        """Fixed numbers, no parameters."""
        super().__init__()
        dct = frequency.dct_matrix(CORNER) / np.sqrt(2)
        basis = np.einsum("ux,vy->uvxy", dct, dct).reshape(CORNER**2, 1, CORNER, CORNER)
        register_constant(self, "basis", np.concatenate([basis] * COMPONENTS))
        back = np.linalg.inv(frequency.RGB_TO_YCBCR) / 127.5
        register_constant(self, "colour", back[:, :, None, None])

    def forward(self, channels: Tensor) -> Tensor:
        """(B, 48, 14, 14) client channels -> (B, 3, 48, 48)."""
        planes = nn.functional.conv_transpose2d(channels, self.basis, stride=CORNER, groups=COMPONENTS)
        # Y is centred on 0 and so is [-1, 1]; what is left of 127.5 against 128 is half a level.
        return nn.functional.conv2d(planes[:, :, BORDER:-BORDER, BORDER:-BORDER], self.colour)


class LearnedClient(nn.Module):
    """(B, 48, 14, 14) client channels -> codes (B, 512, 1, 1), before rounding, of unit variance."""

    def __init__(self, spec: SplitSpec, teacher: MobileFaceNet) -> None:
        """spec: a split whose client channels are the lowest corner.  teacher: whose blocks the trunk starts from."""
        super().__init__()
        if spec.client_channels != CORNER_CHANNELS or spec.plane("codes").shape != (EMBEDDING, 1, 1):
            raise ValueError(
                f"split {spec.name}: this client network makes {EMBEDDING} codes of channels {CORNER_CHANNELS}"
            )
        self.picture = LowPassPicture()
        self.trunk = SmallFaceNet(teacher)

    def forward(self, channels: Tensor) -> Tensor:
        """(B, 48, 14, 14) -> (B, 512, 1, 1)."""
        return self.observed(channels)[0]

    def observed(self, channels: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The codes and the maps of the trunk's stages, for a teacher to comment on in training."""
        with torch.autocast(channels.device.type, enabled=False):
            picture = self.picture(channels).contiguous(memory_format=torch.channels_last)
        *maps, embedding = self.trunk.looked(picture)
        return unit_length(embedding.float())[:, :, None, None] * EMBEDDING**0.5, tuple(maps)


class LearnedServer(nn.Module):
    """Codes (B, 512, 1, 1) -> embedding (B, 512) of unit length, by one linear layer.

    It can be trained again without touching a device. Being linear it takes nothing from the codes: whoever knows
    an embedding and the public weights knows the codes (privacy.rebuild; a test holds it for the shipped weights), so
    the codes tell what the template tells and no more.
    """

    def __init__(self) -> None:
        """Starts as the identity."""
        super().__init__()
        self.linear = nn.Linear(EMBEDDING, EMBEDDING)
        nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, planes: Mapping[str, Tensor]) -> Tensor:
        """Plane name -> (B, C, H, W) float32.  Returns (B, 512) of unit length."""
        return unit_length(self.linear(planes["codes"].flatten(1)).float())
