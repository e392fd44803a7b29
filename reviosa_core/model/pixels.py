"""Frames as the two encoders take them."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet, as InternVL and SAM2 were trained


def normalise(frames: UInt8[Tensor, "*n h w 3"], size: int) -> Float[Tensor, "*n 3 s s"]:
    """Resize to a square of `size` pixels (bicubic, antialiased) and apply ImageNet statistics."""
    batch = frames.shape[:-3]
    pixels = frames.reshape(-1, *frames.shape[-3:]).permute(0, 3, 1, 2).float() / 255
    if pixels.shape[-2:] != (size, size):
        pixels = F.interpolate(pixels, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = (torch.tensor(s, device=pixels.device).view(3, 1, 1) for s in (MEAN, STD))
    return ((pixels - mean) / std).unflatten(0, batch)
