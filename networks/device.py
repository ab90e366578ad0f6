"""The device's half in torch: picture in, planes as they arrive at the service out.

Training sees exactly the levels that the wire carries, so training and serving cannot drift;
tests/unit/training compares this with edge_agent.client_network code by code.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from duetface.spec import SplitSpec
from networks.learned import LearnedClient
from networks.transform import BlockDct, Quantiser

Maps = tuple[Tensor, ...]


class DeviceHalf(nn.Module):
    """Block DCT, split, client network and quantisers of one split."""

    def __init__(self, spec: SplitSpec, client: nn.Module | None) -> None:
        """client: the split's client network, None for a split without masks."""
        super().__init__()
        self.transform = None if spec.colour == "rgb" else BlockDct(spec)
        self.client = client
        self.mask_grids = spec.mask_grids if client is not None else {}
        self.quantisers = nn.ModuleDict({plane.name: Quantiser(spec, plane.name) for plane in spec.planes})

    def forward(self, rgb: Tensor, region: Tensor) -> dict[str, Tensor]:
        """rgb: (B, 3, 112, 112) in 0..255.  region: (B, 1, 112, 112) in [0, 1], the face.

        Returns plane name -> (B, C, H, W) float32, decoded.
        """
        return self.observed(rgb, region)[0]

    def observed(self, rgb: Tensor, region: Tensor) -> tuple[dict[str, Tensor], Maps]:
        """The planes, and the maps of a learned client's stages; none of a client that only makes masks."""
        if self.transform is None:
            return self.quantised({"rgb": rgb / 127.5 - 1}), ()
        # The coefficients span +- 1024 in steps of 2, which the 8 bits of bf16 would blur.
        with torch.autocast(rgb.device.type, enabled=False):
            stays, goes = self.transform(rgb)
        if isinstance(self.client, LearnedClient):
            codes, maps = self.client.observed(stays)
            return self.quantised({"codes": codes}), maps
        with torch.autocast(rgb.device.type, enabled=False):
            return self.quantised({"coefficients": goes, **self.masks(stays, region)}), ()

    def masks(self, stays: Tensor, region: Tensor) -> dict[str, Tensor]:
        """Masks by plane name, (B, 1, k, k) in [0, 1], before rounding."""
        if self.client is None:
            return {}
        regions = {
            f"region_{k}": nn.functional.avg_pool2d(region, region.shape[-1] // k) for k in self.mask_grids.values()
        }
        return dict(zip(self.mask_grids, self.client(stays, **regions), strict=True))

    def quantised(self, planes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each plane rounded to its levels, the gradient passing straight through."""
        return {name: self.quantisers[name](values) for name, values in planes.items()}
