"""Which query is the object: one for the whole sequence, the cheapest by the Hungarian method, and what it then costs.

A sentence of this project has one sequence to find, the union of its actors, so o = 1; the axis is kept for more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from reviosa_core.baselines import losses
from reviosa_core.baselines.heads import Sequences
from reviosa_core.baselines.sizes import Terms


@dataclass(frozen=True)
class Truth:
    """o true sequences for each of p pairs. `there` says in which frames an object is seen; an absent one has no box.
    Masks are those of every `stride`-th pixel, as the queries' are."""

    there: Bool[Tensor, "p o t"]
    boxes: Float[Tensor, "p o t 4"]
    masks: Float[Tensor, "p o t h w"]

    @staticmethod
    def of(masks: Bool[Tensor, "p o t y x"], stride: int) -> Truth:
        rest = [-n % stride for n in masks.shape[-2:]]
        whole = torch.nn.functional.pad(masks, (0, rest[1], 0, rest[0]))
        every = whole[..., stride // 2 :: stride, stride // 2 :: stride].float()
        return Truth(masks.flatten(-2).any(-1), losses.boxes_of(masks), every)


@torch.no_grad()
def costs(found: Sequences, truth: Truth, terms: Terms) -> Float[Tensor, "p q o"]:
    """What it would cost to take query q for sequence o, each part weighted by its term: class and boxes averaged over
    the frames where the object is, focal and Dice over all pixels of all frames."""
    there = truth.there.float()
    there = there / there.sum(-1, keepdim=True).clamp(min=1)
    yes, no = losses.focal_parts(found.scores)
    cost = terms.cls * torch.einsum("ptq,pot->pqo", yes - no, there)
    ours, theirs = found.boxes[:, :, :, None], truth.boxes.transpose(1, 2)[:, :, None]  # p t q o 4
    l1 = (ours - theirs).abs().sum(-1)
    giou = 1 - losses.giou(*torch.broadcast_tensors(ours, theirs))
    cost += torch.einsum("ptqo,pot->pqo", terms.l1 * l1 + terms.giou * giou, there)
    masks, whole = found.masks.transpose(1, 2).flatten(2), truth.masks.flatten(2)  # p q k, p o k
    yes, no = losses.focal_parts(masks)
    per_pixel = torch.einsum("pqk,pok->pqo", yes - no, whole) + no.sum(-1, keepdim=True)
    cost += terms.focal * per_pixel / whole.shape[-1]
    p = masks.sigmoid()
    either = p.sum(-1)[:, :, None] + whole.sum(-1)[:, None]
    return cost + terms.dice * (1 - (2 * torch.einsum("pqk,pok->pqo", p, whole) + 1) / (either + 1))


def assign(cost: Float[Tensor, "p q o"]) -> Int[Tensor, "p o"]:
    """The query of each sequence, no query twice, by the smallest sum. ValueError when there are more sequences than
    queries."""
    _, q, o = cost.shape
    if o > q:
        raise ValueError(f"{o} sequences for {q} queries")
    chosen = [linear_sum_assignment(one)[1] for one in cost.transpose(1, 2).float().cpu().numpy()]
    return torch.as_tensor(np.stack(chosen), device=cost.device)


def compare(found: Sequences, truth: Truth, matched: Int[Tensor, "p o"]) -> dict[str, Float[Tensor, "p"]]:
    """The terms of `Terms` for each pair, not yet weighted.

    Class: focal loss over all queries and frames, where the matched query is right in the frames where its object is,
    divided by the number of these. Boxes: mean over these frames. Focal and Dice: over all pixels of all frames. With
    several sequences: the mean over them, for the class the sum over both.

    The published code (ReferFormer's) divides by the number of frames in the mask terms as well, so that masks weigh as
    many times more here as there are frames, and supervises the box of an absent object with zeros. SOC's compares
    masks at full size and averages a Dice of each frame, as IFIRVOS's paper may mean by "from each frame and normalized
    by the frames number" (3.5); a Dice over the sequence is ReferFormer's.
    """
    there = truth.there.float()
    frames = there.sum(-1).clamp(min=1)  # p o
    right = torch.zeros_like(found.scores).scatter(2, matched[:, None].expand(-1, there.shape[-1], -1), there.mT)
    boxes, masks = _take(found.boxes, matched), _take(found.masks, matched)
    per_frame = {
        "l1": (boxes - truth.boxes).abs().sum(-1),
        "giou": 1 - losses.giou(boxes, truth.boxes),
    }
    logits, whole = masks.flatten(2), truth.masks.flatten(2)
    return {
        "cls": losses.focal(found.scores, right).sum((1, 2)) / frames.sum(1),
        **{name: ((value * there).sum(-1) / frames).mean(1) for name, value in per_frame.items()},
        "focal": losses.focal(logits, whole).mean((1, 2)),
        "dice": losses.dice(logits.sigmoid(), whole).mean(1),
    }


def _take(x: Float[Tensor, "p t q *k"], matched: Int[Tensor, "p o"]) -> Float[Tensor, "p o t *k"]:
    return x.transpose(1, 2)[torch.arange(len(x), device=x.device)[:, None], matched]
