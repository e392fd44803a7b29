"""Deformable-DETR's encoder and decoder layers: the one place that knows transformers' classes for them.

Those are private to transformers, in plain torch (`grid_sample`). Here are named axes, start values, and one decoder
layer at a time, since IFIRVOS puts a layer between them. All frames of a batch have one size, so nothing is padded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import DeformableDetrConfig
from transformers.models.deformable_detr import modeling_deformable_detr as detr

from reviosa_core.baselines import positions
from reviosa_core.baselines.attention import xavier
from reviosa_core.baselines.sizes import LEVELS, Sizes


@dataclass(frozen=True)
class Memory:
    """Cells of all levels of n frames in one row, s = sum of h w; `shapes` are the levels' (h, w)."""

    cells: Float[Tensor, "n s d"]
    shapes: list[tuple[int, int]]

    def maps(self) -> list[Float[Tensor, "n d _ _"]]:
        """Each level as a map again, without copying."""
        parts = self.cells.split([h * w for h, w in self.shapes], 1)
        return [part.transpose(1, 2).unflatten(2, shape) for part, shape in zip(parts, self.shapes, strict=True)]


class Encoder(nn.Module):
    """Every cell looks at a few points of every level of its own frame."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        described = _describe(sizes)
        self.layers = nn.ModuleList(detr.DeformableDetrEncoderLayer(described) for _ in range(sizes.encoder_layers))
        self.level = nn.Parameter(torch.randn(LEVELS, sizes.dim))
        _start(self)

    def forward(self, levels: Sequence[Float[Tensor, "n d _ _"]]) -> Memory:
        shapes = [(level.shape[2], level.shape[3]) for level in levels]
        cells = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)
        placed = torch.cat(
            [
                positions.of_cells(h, w, cells.shape[-1], cells.device).flatten(1).T + self.level[i]
                for i, (h, w) in enumerate(shapes)
            ]
        )
        centres = torch.cat([_centres(h, w, cells.device) for h, w in shapes])
        reference = centres[None, :, None].expand(len(cells), -1, LEVELS, -1)
        for layer in self.layers:
            cells = layer(
                cells,
                attention_mask=None,
                spatial_position_embeddings=placed,
                reference_points=reference,
                **_geometry(shapes, cells.device),
            )
        return Memory(cells, shapes)


class DecoderLayer(nn.Module):
    """The queries of a frame look at each other, then at a few points of every level of that frame."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.layer = detr.DeformableDetrDecoderLayer(_describe(sizes))
        _start(self)

    def forward(
        self,
        states: Float[Tensor, "n q d"],
        queries: Float[Tensor, "q d"],
        reference: Float[Tensor, "n q r"],
        memory: Memory,
    ) -> Float[Tensor, "n q d"]:
        """`queries` are the positions of the states. `reference` is where each looks: (x, y), or (x, y, w, h) when a
        box is known already, as shares of the frame; points are then spread over the box."""
        return self.layer(
            states,
            object_queries_position_embeddings=queries.expand_as(states),
            reference_points=reference[:, :, None].expand(-1, -1, LEVELS, -1),
            encoder_hidden_states=memory.cells,
            encoder_attention_mask=None,
            **_geometry(memory.shapes, states.device),
        )


def _describe(sizes: Sizes) -> DeformableDetrConfig:
    return DeformableDetrConfig(
        d_model=sizes.dim,
        encoder_attention_heads=sizes.heads,
        decoder_attention_heads=sizes.heads,
        encoder_ffn_dim=sizes.ffn,
        decoder_ffn_dim=sizes.ffn,
        encoder_n_points=sizes.points,
        decoder_n_points=sizes.points,
        num_feature_levels=LEVELS,
        dropout=sizes.dropout,
        attention_dropout=sizes.dropout,
        activation_dropout=sizes.dropout,
        disable_custom_kernels=True,
        attn_implementation="sdpa",
    )


def _geometry(shapes: list[tuple[int, int]], device: torch.device) -> dict[str, object]:
    return {
        "spatial_shapes": torch.tensor(shapes, device=device),
        "spatial_shapes_list": shapes,
        "level_start_index": None,  # for the custom kernels only
    }


def _centres(height: int, width: int, device: torch.device) -> Float[Tensor, "s 2"]:
    """(x, y) of each cell, rows first, as shares of the frame."""
    rows, columns = ((torch.arange(n, device=device) + 0.5) / n for n in (height, width))
    return torch.stack([columns.repeat(height), rows.repeat_interleave(width)], -1)


@torch.no_grad()
def _start(module: nn.Module) -> None:
    """Deformable DETR's own start: the heads look in as many directions, their points 1, 2, 3 ... cells away."""
    xavier(module)
    for part in module.modules():
        if isinstance(part, detr.DeformableDetrMultiscaleDeformableAttention):
            angle = 2 * math.pi * torch.arange(part.n_heads) / part.n_heads
            way = torch.stack([angle.cos(), angle.sin()], -1)
            way = way / way.abs().amax(-1, keepdim=True)
            far = torch.arange(1, part.n_points + 1)
            offsets = way[:, None, None] * far[:, None]  # heads 1 points 2
            part.sampling_offsets.weight.zero_()
            part.sampling_offsets.bias.copy_(offsets.expand(-1, part.n_levels, -1, -1).flatten())
            part.attention_weights.weight.zero_()
            for linear in (part.attention_weights, part.value_proj, part.output_proj):
                linear.bias.zero_()
