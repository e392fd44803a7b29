"""Sine positions, of words along a sentence and of cells over a frame: fixed, nothing is learned."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

TEMPERATURE = 10000
EPS = 1e-6


def waves(angles: Float[Tensor, "*n"], channels: int) -> Float[Tensor, "*n c"]:
    """Sines and cosines in turn, each pair of channels slower than the one before."""
    pair = torch.arange(channels, device=angles.device) // 2
    phase = angles[..., None] / TEMPERATURE ** (2 * pair / channels)
    return torch.where(torch.arange(channels, device=angles.device) % 2 == 0, phase.sin(), phase.cos())


def of_words(real: Bool[Tensor, "p l"], channels: int) -> Float[Tensor, "p l c"]:
    """The i-th of n words is at 2 pi i / n, from i = 1; padding does not count."""
    place = real.cumsum(1).float()
    return waves(2 * math.pi * place / (place[:, -1:] + EPS), channels)


def of_cells(height: int, width: int, channels: int, device: torch.device) -> Float[Tensor, "c h w"]:
    """Half of the channels tell the row, the other half the column: cell i of n is at 2 pi (i + 1/2) / n."""
    rows, columns = (
        waves(2 * math.pi * (torch.arange(n, device=device) + 0.5) / (n + EPS), channels // 2) for n in (height, width)
    )
    grid = torch.cat([rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)], -1)
    return grid.permute(2, 0, 1)
