"""What a trained attacker minimises: squared error, structural dissimilarity, and if wished features and realism.

Differentiable twins of privacy.judges, so that an attacker is scored by what it was trained for.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from privacy.judges import LUMA, PEAK, WINDOW_TAPS, gaussian_window

Features = Callable[[Tensor], Tensor]
PIXEL_VARIANCE = 64.0**2  # of face crops about the mean face, roughly: brings the squared error near 1


def picture_loss(made: Tensor, real: Tensor, ssim_weight: float) -> Tensor:
    """Squared error over its usual size, plus weighted 1 - SSIM.  made, real: (B, 3, H, W) in 0 to 255."""
    squared = torch.square(made - real).mean() / PIXEL_VARIANCE
    if not ssim_weight:
        return squared
    return squared + ssim_weight * (1 - structural_similarity(made, real).mean())


def structural_similarity(made: Tensor, real: Tensor) -> Tensor:
    """As judges.ssim but for the clipping: (B, 3, H, W) -> (B,)."""
    luma = torch.tensor(LUMA, dtype=torch.float32, device=made.device).reshape(1, 3, 1, 1)
    x, y = (made.float() * luma).sum(1, keepdim=True), (real.float() * luma).sum(1, keepdim=True)
    # Shifted by mid-grey: in float32 the variances would drown in the squares of the means.
    x, y = x - PEAK / 2, y - PEAK / 2
    mean_x, mean_y = _windowed(x), _windowed(y)
    variance_x, variance_y = _windowed(x * x) - mean_x**2, _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    mean_x, mean_y = mean_x + PEAK / 2, mean_y + PEAK / 2
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )
    return similarity.mean(dim=(1, 2, 3))


def feature_loss(made: Tensor, real: Tensor, features: Features) -> Tensor:
    """Distance of a public recogniser's feature maps, over their size. A perceptual loss for faces."""
    with torch.no_grad():
        aim = features(real / 127.5 - 1).float()
    difference = features(made / 127.5 - 1).float() - aim
    return torch.square(difference).mean() / (torch.square(aim).mean() + 1e-6)


class Critic(nn.Module):
    """Judges 13 x 13 overlapping patches for realism (Isola et al., CVPR 2017, PatchGAN), hinge loss."""

    def __init__(self, width: int = 32) -> None:
        """width: channels of the first layer."""
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs in (width, 2 * width, 4 * width):
            layers += [nn.utils.parametrizations.spectral_norm(nn.Conv2d(inputs, outputs, 4, 2, 1)), nn.LeakyReLU(0.2)]
            inputs = outputs
        self.body = nn.Sequential(*layers, nn.Conv2d(inputs, 1, 3, padding=1))

    def forward(self, picture: Tensor) -> Tensor:
        """(B, 3, 112, 112) in 0 to 255 -> (B, 1, 14, 14), larger for more real."""
        judged: Tensor = self.body(picture / 127.5 - 1)
        return judged.float()

    def own_loss(self, made: Tensor, real: Tensor) -> Tensor:
        """What the critic minimises."""
        return (nn.functional.relu(1 - self(real)) + nn.functional.relu(1 + self(made.detach()))).mean()


def _windowed(planes: Tensor) -> Tensor:
    """Gaussian mean over each whole window: (B, 1, H, W) -> (B, 1, H - 10, W - 10)."""
    taps = torch.tensor(gaussian_window(), dtype=torch.float32, device=planes.device)
    rows = nn.functional.conv2d(planes, taps.reshape(1, 1, WINDOW_TAPS, 1))
    return nn.functional.conv2d(rows, taps.reshape(1, 1, 1, WINDOW_TAPS))
