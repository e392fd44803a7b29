"""Samples as the query systems train on them: clips of one shape side by side, so that nothing needs to be padded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from reviosa_core.baselines.text import TextEncoder, Tokens
from reviosa_core.model.pixels import MEAN, STD
from reviosa_core.schema import Role, Sample


@dataclass(frozen=True)
class Group:
    """b clips of the same number and size of frames, and p sentences about them; `owner` is whose each one is."""

    frames: UInt8[Tensor, "b t y x 3"]
    owner: Int[Tensor, "p"]
    tokens: Tokens
    masks: Bool[Tensor, "p o t y x"]  # o = 1: the union of the actors

    def to(self, device: torch.device) -> Group:
        tokens = Tokens(self.tokens.ids.to(device), self.tokens.real.to(device))
        return Group(self.frames.to(device), self.owner.to(device), tokens, self.masks.to(device))


def collate(samples: Sequence[Sample], text: TextEncoder) -> list[Group]:
    """A group for each shape (t, y, x) among the samples, in the order in which they appear."""
    shapes: dict[tuple[int, ...], list[Sample]] = {}
    for sample in samples:
        shapes.setdefault(sample.frames.shape, []).append(sample)
    return [_group(same, text) for same in shapes.values()]


def _group(samples: Sequence[Sample], text: TextEncoder) -> Group:
    owner = torch.arange(len(samples)).repeat_interleave(torch.tensor([len(s.expressions) for s in samples]))
    masks = np.concatenate([s.masks[Role.ACTOR] for s in samples])
    return Group(
        torch.from_numpy(np.stack([s.frames for s in samples])),
        owner,
        text.tokenize([e.text for s in samples for e in s.expressions]),
        torch.from_numpy(masks)[:, None],
    )


def fit(size: tuple[int, int], short: int, long: int) -> tuple[int, int]:
    """(h, w) with the short side brought to `short`, unless the long one would then be over `long`: that to `long`."""
    scale = min(short / min(size), long / max(size))
    height, width = (max(round(n * scale), 1) for n in size)
    return height, width


def pixels(frames: UInt8[Tensor, "b t y x 3"], size: tuple[int, int]) -> Float[Tensor, "b t 3 h w"]:
    """Frames at `size` (bilinear, antialiased), by ImageNet's statistics."""
    x = frames.movedim(-1, 2).flatten(0, 1).float() / 255
    if x.shape[-2:] != size:
        x = F.interpolate(x, size, mode="bilinear", antialias=True)
    mean, std = (torch.tensor(s, device=x.device)[:, None, None] for s in (MEAN, STD))
    return ((x - mean) / std).unflatten(0, frames.shape[:2])


def resized(masks: Bool[Tensor, "p o t y x"], size: tuple[int, int]) -> Bool[Tensor, "p o t h w"]:
    """Masks at `size`, by the nearest pixel."""
    if masks.shape[-2:] == size:
        return masks
    return F.interpolate(masks.flatten(0, 1).float(), size, mode="nearest-exact").unflatten(0, masks.shape[:2]) > 0
