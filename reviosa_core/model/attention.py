"""Chosen rows of chosen layers' attention, without an N x N matrix: an attention function registered with transformers.

The model keeps running SDPA. Where a `RowTap` travels with the call (as the keyword `row_tap`, so that gradient
checkpointing recomputes exactly what the first forward did), the few asked rows are computed beside it:
O(rows x N) instead of O(N^2) a layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "sdpa_with_row_tap"


@dataclass
class RowTap:
    """What to take (queries, heads by layer), and what was taken.

    `queries` holds (batch index, position) of each asked row. `heads` maps a layer, counted from 0, to the heads to
    take; None means all of them. After the forward, `rows[layer]` is the attention [r h n] of those queries over all
    n keys, in float32: softmax over every allowed key, so each row sums to 1.
    """

    queries: Int[Tensor, "r 2"]
    heads: Mapping[int, Sequence[int] | None]
    rows: dict[int, Float[Tensor, "r h n"]] = field(default_factory=dict)

    def take(self, layer: int, query: Tensor, key: Tensor, mask: Tensor | None, scale: float) -> None:
        """Compute the asked rows of one layer from rotated queries [b h n d] and keys [b g n d] (g key-value heads)."""
        batch, position = self.queries.to(query.device).unbind(-1)
        heads = self.heads[layer]
        picked = torch.arange(query.shape[1]) if heads is None else torch.tensor(heads)
        if int(picked.max()) >= query.shape[1]:
            raise ValueError(
                f"row tap asks for head {int(picked.max())} of layer {layer}, which has {query.shape[1]} heads"
            )
        picked = picked.to(query.device)
        with torch.autocast(query.device.type, enabled=False):
            # Rows of one video share its keys: laid out by video, and padded, no key is copied for a row. index_select
            # and index_copy, as their gradients come in a fixed order.
            slot = _count_before(batch)
            most, place = int(slot.max()) + 1, batch * (int(slot.max()) + 1) + slot
            flat = query[:, picked].transpose(1, 2).flatten(0, 1)  # [b*n h d]
            asked = flat.index_select(0, batch * query.shape[2] + position).float()
            padded = asked.new_zeros(len(query) * most, *asked.shape[1:]).index_copy(0, place, asked)
            group = picked // (query.shape[1] // key.shape[1])  # the key-value head each query head reads
            by_video = padded.unflatten(0, (len(query), most)).transpose(1, 2)  # [b h r d]
            scores = by_video @ key[:, group].float().transpose(-1, -2) * scale
            scores = scores.transpose(1, 2).flatten(0, 1).index_select(0, place)
            if mask is None:
                allowed = torch.arange(key.shape[2], device=query.device)[None] <= position[:, None]
                scores = scores.masked_fill(~allowed[:, None], -torch.inf)
            elif mask.dtype == torch.bool:
                scores = scores.masked_fill(~mask[batch, 0, position][:, None], -torch.inf)
            else:
                scores = scores + mask[batch, 0, position][:, None].float()
            # A checkpointed layer runs again in backward: the loss already holds the first result.
            self.rows.setdefault(layer, scores.softmax(-1))


def _count_before(values: Int[Tensor, "r"]) -> Int[Tensor, "r"]:
    """How often each value came before."""
    return ((values[:, None] == values[None]).tril(-1)).sum(1)


def tapped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    row_tap: RowTap | None = None,
    **kwargs,
) -> tuple[Tensor, None]:
    """transformers' SDPA attention; takes the rows `row_tap` asks for on the way."""
    out = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    layer = getattr(module, "layer_idx", None)
    if row_tap is not None and layer in row_tap.heads:
        row_tap.take(layer, query, key, attention_mask, scaling if scaling is not None else query.shape[-1] ** -0.5)
    return out


AttentionInterface.register(NAME, tapped_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
