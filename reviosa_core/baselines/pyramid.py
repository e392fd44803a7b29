"""From the encoder's levels to mask features at stride 4: with the words (ReferFormer, IFIRVOS), or without (SOC)."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from reviosa_core.baselines import positions
from reviosa_core.baselines.attention import Attend, FeedForward
from reviosa_core.baselines.sizes import Sizes
from reviosa_core.baselines.text import Words

GROUPS = 8
COARSER = (8, 4, 2, 1)  # self-attention at strides 4, 8, 16, 32 is on maps this much smaller: all 32 then
ROWS = 2**16  # cells that go through a feed-forward layer together; at 2,048 channels each copy of them is 512 MiB


class CrossModalPyramid(nn.Module):
    """ReferFormer's: at each level cells look at each other, over all frames, and at the words; so down to stride 4."""

    def __init__(self, sizes: Sizes, stride4: int) -> None:
        super().__init__()
        dim = sizes.dim
        inputs = (stride4, dim, dim, dim)  # strides 4, 8, 16, 32, as all lists here
        self.enter = nn.ModuleList(_normed(n, dim, 1) for n in inputs)
        self.leave = nn.ModuleList(_normed(dim, dim, 3) for _ in inputs)
        self.language = nn.ModuleList(_Block(sizes, coarser) for coarser in COARSER)
        self.out = _convolution(dim, sizes.mask_channels, 3)

    def forward(
        self, stride4: Float[Tensor, "p t c h w"], memory: Sequence[Float[Tensor, "p t d _ _"]], words: Words
    ) -> Float[Tensor, "p t m h w"]:
        """`memory` are the encoder's strides 8, 16, 32."""
        clips, found = stride4.shape[:2], None
        for i, level in reversed(list(enumerate([stride4, *memory]))):
            x = self.language[i](self.enter[i](level.flatten(0, 1)).unflatten(0, clips), words).flatten(0, 1)
            if found is not None:
                x = x + F.interpolate(found, x.shape[-2:], mode="nearest")
            found = F.relu(self.leave[i](x))
        return self.out(found).unflatten(0, clips)


class _Block(nn.Module):
    """Self-attention of all cells of all frames, on a coarser grid; attention to the words; feed-forward."""

    def __init__(self, sizes: Sizes, coarser: int) -> None:
        super().__init__()
        self.coarser = coarser
        self.cells = Attend(sizes.dim, sizes.heads, sizes.dropout)
        self.words = Attend(sizes.dim, sizes.heads, sizes.dropout)
        self.forth = FeedForward(sizes.dim, sizes.ffn, sizes.dropout)

    def forward(self, x: Float[Tensor, "p t d h w"], words: Words) -> Float[Tensor, "p t d h w"]:
        p, t, d, h, w = x.shape
        own = positions.of_cells(h, w, d, x.device).expand(1, t, -1, -1, -1)
        rows = _rows(self._among_cells(x, own))
        rows = self.words(rows, words.features, own=_rows(own), positions=words.positions, real=words.real)
        parts = [self.forth(part) for part in rows.split(max(ROWS // p, 1), 1)]
        rows = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        return rows.unflatten(1, (t, h, w)).movedim(-1, 2)

    def _among_cells(
        self, x: Float[Tensor, "p t d h w"], own: Float[Tensor, "1 t d h w"]
    ) -> Float[Tensor, "p t d h w"]:
        """norm(x + attention), the attention found on the coarser grid and spread out again."""
        p, t, _, h, w = x.shape
        small = (max(h // self.coarser, 1), max(w // self.coarser, 1))
        coarse, place = (
            _rows(F.interpolate(y.flatten(0, 1), small, mode="nearest").unflatten(0, y.shape[:2])) for y in (x, own)
        )
        part = self.cells
        found, _ = part.attention(coarse + place, coarse + place, coarse, need_weights=False)
        found = found.unflatten(1, (t, *small)).movedim(-1, 2).flatten(0, 1)
        found = F.interpolate(found, (h, w), mode="bilinear").unflatten(0, (p, t))
        return part.norm((x + part.dropout(found)).movedim(2, -1)).movedim(-1, 2)


class Finer(nn.Module):
    """Mask features at a finer stride than the papers' 4, for small pictures: what the pyramid found, spread out, and
    what one convolution sees of the frames themselves at that stride."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.frames = nn.Conv2d(3, channels, 5, stride, 2)
        self.out = _convolution(channels, channels, 3)

    def see(self, frames: Float[Tensor, "b t 3 h w"]) -> Float[Tensor, "b t m _ _"]:
        """Once a clip, whatever the number of sentences."""
        return self.frames(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def forward(
        self, features: Float[Tensor, "p t m _ _"], seen: Float[Tensor, "p t m h w"]
    ) -> Float[Tensor, "p t m h w"]:
        spread = F.interpolate(features.flatten(0, 1), seen.shape[-2:], mode="bilinear")
        return self.out(F.relu(spread + seen.flatten(0, 1))).unflatten(0, seen.shape[:2])


class Pyramid(nn.Module):
    """SOC's: the same way down without words, halving the channels with each level."""

    def __init__(self, sizes: Sizes, stride4: int) -> None:
        super().__init__()
        dim = sizes.dim
        widths = [dim, dim // 2, dim // 4, dim // 8, dim // 16]
        self.layers = nn.ModuleList(
            _normed(before, after, 3, bias=True) for before, after in zip([dim, *widths], widths, strict=False)
        )
        self.adapters = nn.ModuleList(
            _convolution(n, m, 1) for n, m in zip((dim, dim, stride4), widths[1:4], strict=True)
        )
        self.out = _convolution(widths[-1], sizes.mask_channels, 3)

    def forward(
        self, stride4: Float[Tensor, "p t c h w"], memory: Sequence[Float[Tensor, "p t d _ _"]], words: Words
    ) -> Float[Tensor, "p t m h w"]:
        """`memory` are the encoder's strides 8, 16, 32; the words are not looked at."""
        finer = [level.flatten(0, 1) for level in (memory[1], memory[0], stride4)]
        x = F.relu(self.layers[0](memory[2].flatten(0, 1)))
        x = F.relu(self.layers[1](x))
        for layer, adapter, level in zip(self.layers[2:], self.adapters, finer, strict=True):
            level = adapter(level)
            x = F.relu(layer(level + F.interpolate(x, level.shape[-2:], mode="nearest")))
        return self.out(x).unflatten(0, stride4.shape[:2])


def _rows(x: Float[Tensor, "p t d h w"]) -> Float[Tensor, "p n d"]:
    """Cells of all frames in one row, n = t h w."""
    return x.movedim(2, -1).flatten(1, 3)


def _convolution(before: int, after: int, size: int, bias: bool = True) -> nn.Conv2d:
    made = nn.Conv2d(before, after, size, padding=size // 2, bias=bias)
    nn.init.kaiming_uniform_(made.weight, a=1)
    if bias:
        nn.init.zeros_(made.bias)
    return made


def _normed(before: int, after: int, size: int, bias: bool = False) -> nn.Sequential:
    return nn.Sequential(_convolution(before, after, size, bias), nn.GroupNorm(gcd(GROUPS, after), after))
