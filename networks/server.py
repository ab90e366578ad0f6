"""The server network: planes of a message in, embedding out; one definition for every split."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from duetface.spec import SplitSpec
from networks.interaction import INTERACTIONS
from networks.mobile_face_net import MobileFaceNet, unit_length
from networks.transform import inverse_transform


class ServerNetwork(nn.Module):
    """A fixed inverse transform, then the teacher's trunk with an interactive block after each stage.

    Inputs are the split's planes by name, decoded to float32 (value = code * scale + offset).
    A split without masks (the twin, an ablation) has no interactive blocks.
    """

    def __init__(self, spec: SplitSpec, trunk: str = "insightface", interaction: str = "weighted") -> None:
        """Random weights; networks.registry warm-starts the trunk from the teacher.

        trunk: one of mobile_face_net.TRUNKS.  interaction: one of interaction.INTERACTIONS.
        """
        super().__init__()
        self.picture_plane = spec.planes[0].name
        self.inverse = inverse_transform(spec)
        self.trunk = MobileFaceNet(trunk)
        self.interactions = nn.ModuleDict({name: INTERACTIONS[interaction]() for name in spec.mask_grids})

    def forward(self, planes: Mapping[str, Tensor]) -> Tensor:
        """Plane name -> (B, C, H, W) float32.  Returns (B, 512) of unit length."""
        # Coefficients need more than the 8 bits of bf16; only the trunk is computed in it, when training asks so.
        with torch.autocast(planes[self.picture_plane].device.type, enabled=False):
            picture = self.picture(planes).contiguous(memory_format=torch.channels_last)
        return self.recognise(picture, planes)

    def picture(self, planes: Mapping[str, Tensor]) -> Tensor:
        """The fixed part: (B, 3, 112, 112), what the trunk looks at."""
        shown: Tensor = self.inverse(planes[self.picture_plane])
        return shown

    def recognise(self, picture: Tensor, masks: Mapping[str, Tensor]) -> Tensor:
        """The trained part: (B, 3, 112, 112) and masks (B, 1, k, k) -> (B, 512) of unit length."""
        x = self.trunk.stem(picture)
        x = self._attend(self.trunk.stage_28(x), "mask_28", masks)
        x = self._attend(self.trunk.stage_14(x), "mask_14", masks)
        x = self._attend(self.trunk.stage_7(x), "mask_7", masks)
        return unit_length(self.trunk.head(x).float())

    def _attend(self, x: Tensor, name: str, masks: Mapping[str, Tensor]) -> Tensor:
        if name not in self.interactions:
            return x
        attended: Tensor = self.interactions[name](x, masks[name])
        return attended
