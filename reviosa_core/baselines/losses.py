"""What a sequence is compared by: focal loss, boxes, Dice, and SOC's contrastive loss. Pure, with named axes."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

ALPHA, GAMMA = 0.25, 2.0  # of the focal loss, everywhere


def focal(logits: Float[Tensor, "*n"], truth: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Focal loss of each element: alpha (1 - p)^2 (-log p) where the truth is 1, (1 - alpha) p^2 (-log(1 - p)) where it
    is 0."""
    yes, no = focal_parts(logits)
    return truth * yes + (1 - truth) * no


def focal_parts(logits: Float[Tensor, "*n"]) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """What each element costs if the truth is 1, and if it is 0."""
    p = logits.sigmoid()
    return ALPHA * (1 - p) ** GAMMA * F.softplus(-logits), (1 - ALPHA) * p**GAMMA * F.softplus(logits)


def dice(probabilities: Float[Tensor, "*n k"], truth: Float[Tensor, "*n k"]) -> Float[Tensor, "*n"]:
    """1 - (2 sum(p g) + 1) / (sum p + sum g + 1) over the last axis."""
    both, either = (probabilities * truth).sum(-1), probabilities.sum(-1) + truth.sum(-1)
    return 1 - (2 * both + 1) / (either + 1)


def giou(ours: Float[Tensor, "*n 4"], theirs: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """Generalised IoU of boxes (centre x, centre y, w, h), in (-1, 1]: IoU less the share of the hull outside both."""
    (low_a, high_a), (low_b, high_b) = corners(ours), corners(theirs)
    both = (torch.minimum(high_a, high_b) - torch.maximum(low_a, low_b)).clamp(min=0).prod(-1)
    hull = (torch.maximum(high_a, high_b) - torch.minimum(low_a, low_b)).prod(-1)
    either = ours[..., 2:].prod(-1) + theirs[..., 2:].prod(-1) - both
    tiny = torch.finfo(hull.dtype).tiny
    return both / either.clamp(min=tiny) - (hull - either) / hull.clamp(min=tiny)


def corners(boxes: Float[Tensor, "*n 4"]) -> tuple[Float[Tensor, "*n 2"], Float[Tensor, "*n 2"]]:
    """Lower and upper (x, y)."""
    return boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2


def boxes_of(masks: Bool[Tensor, "*n h w"]) -> Float[Tensor, "*n 4"]:
    """Box (centre x, centre y, w, h) around each mask, as shares of the frame, edges of pixels included; zeros where
    there is nothing."""
    low, high = zip(*(_span(masks.any(axis)) for axis in (-2, -1)), strict=True)  # x from columns, y from rows
    low, high = torch.stack(low, -1), torch.stack(high, -1)
    return torch.cat([(low + high) / 2, high - low], -1)


def _span(there: Bool[Tensor, "*n k"]) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """Where the first True starts and the last one ends, as shares of k; zeros without one."""
    k = there.shape[-1]
    first = there.byte().argmax(-1).float() / k
    last = 1 - there.flip(-1).byte().argmax(-1).float() / k
    return first, torch.where(there.any(-1), last, 0.0)


def contrastive(
    videos: Float[Tensor, "p q d"], language: Float[Tensor, "p d"], matched: Int[Tensor, "p o"]
) -> Float[Tensor, "p"]:
    """SOC's: -log softmax over the video queries of v . language / d, at the matched ones."""
    similar = torch.einsum("pqd,pd->pq", videos, language) / videos.shape[-1]
    return -similar.log_softmax(1).gather(1, matched).mean(1)
