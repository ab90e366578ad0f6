"""Trains a decoder on an attacker's own faces: squared error, structure and, if wished, features and realism."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from privacy.decoder import Decoder, DecoderSize, build_decoder, to_tensors
from privacy.fit import Budget, Machine, Progress, adam, fit
from privacy.losses import Critic, Features, feature_loss, picture_loss
from privacy.ridge import Arrays
from privacy.start import ridge_start


class Painter:
    """A decoder, its optimiser and, if wished, its critic, on the attacker's own faces."""

    def __init__(
        self,
        decoder: Decoder,
        observed: Arrays,
        rgb: NDArray[np.uint8],
        budget: Budget,
        device: str,
        features: Features | None,
    ) -> None:
        """observed: name -> (N, C, H, W).  rgb: (N, 112, 112, 3), the same faces."""
        self.decoder = decoder.to(device).train()
        self.optimiser = adam(decoder, budget)
        self.critic = Critic().to(device) if budget.adversarial_weight else None
        self.critic_optimiser = adam(self.critic, budget) if self.critic is not None else None
        self._observed, self._rgb, self._budget, self._device = observed, rgb, budget, device
        self._features = features

    def step(self, rows: NDArray[np.int64]) -> float:
        """One step of both networks; returns the decoder's loss."""
        real = torch.from_numpy(self._rgb[rows]).to(self._device).permute(0, 3, 1, 2).float()
        with self._bfloat16():
            made = self.decoder(to_tensors(self._observed, rows, self._device)).float()
        self._teach_critic(made.detach(), real)
        loss = picture_loss(made, real, self._budget.ssim_weight)
        with self._bfloat16():
            if self._features is not None and self._budget.perceptual_weight:
                loss = loss + self._budget.perceptual_weight * feature_loss(made, real, self._features)
            if self.critic is not None:
                loss = loss - self._budget.adversarial_weight * self.critic(made).mean()
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.decoder.parameters(), 1.0)
        self.optimiser.step()
        return float(loss.detach())

    def _teach_critic(self, made: Tensor, real: Tensor) -> None:
        """A step of the critic, if there is one, on these pictures."""
        if self.critic is None or self.critic_optimiser is None:
            return
        with self._bfloat16():
            loss = self.critic.own_loss(made, real)
        self.critic_optimiser.zero_grad()
        torch.autograd.backward(loss)
        self.critic_optimiser.step()

    def _bfloat16(self) -> torch.autocast:
        """Convolutions in bf16 take 0.4 of the time on a CPU with AMX; sums, norms and the losses stay float32."""
        return torch.autocast(torch.device(self._device).type, torch.bfloat16)

    def set_rate(self, rate: float) -> None:
        """For the next step."""
        for optimiser in (self.optimiser, self.critic_optimiser):
            for group in optimiser.param_groups if optimiser is not None else ():
                group["lr"] = rate

    def state(self) -> dict[str, Any]:
        """Everything that training changes."""
        state = {"decoder": self.decoder.state_dict(), "optimiser": self.optimiser.state_dict()}
        if self.critic is not None and self.critic_optimiser is not None:
            state |= {"critic": self.critic.state_dict(), "critic_optimiser": self.critic_optimiser.state_dict()}
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of state."""
        self.decoder.load_state_dict(state["decoder"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.critic is not None and self.critic_optimiser is not None:
            self.critic.load_state_dict(state["critic"])
            self.critic_optimiser.load_state_dict(state["critic_optimiser"])


def train_decoder(
    observed: Arrays,
    rgb: NDArray[np.uint8],
    budget: Budget,
    folder: Path,
    progress: Progress,
    machine: Machine,
    features: Features | None = None,
) -> Decoder:
    """From scratch, or from the folder's checkpoint.

    observed: name -> (N, C, H, W).  rgb: (N, 112, 112, 3) uint8, the same faces.  features: for a perceptual loss.
    """
    torch.set_num_threads(machine.threads)
    mean = mean_face(rgb)
    start = ridge_start(observed, rgb, mean) if budget.start == "ridge" else None
    decoder = build_decoder(observed, DecoderSize(budget.width, budget.blocks), mean, budget.seed, start)
    painter = Painter(decoder, observed, rgb, budget, machine.device, features)
    shapes = {name: array.shape[1:] for name, array in observed.items()}
    fit(painter, len(rgb), shapes, budget, folder, progress)
    return decoder


def mean_face(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(112, 112, 3) mean of at most 4,000 faces: where every attacker starts, and the floor of every figure."""
    return np.asarray(rgb[:: max(1, len(rgb) // 4000)].mean(axis=0))
