"""The paper's losses, pure and with named axes: mask cross-entropy and Dice (Eq. 7), attention mask loss (Eq. 6)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def sample(maps: Float[Tensor, "n h w"], points: Float[Tensor, "n k 2"]) -> Float[Tensor, "n k"]:
    """Values of maps at points (x, y) in [0, 1], bilinear, pixel centres at (i + 0.5) / size."""
    # Without padding, points in the outer half pixel would look uncertain for ever.
    return F.grid_sample(maps[:, None], 2 * points[:, None] - 1, padding_mode="border", align_corners=False)[:, 0, 0]


def uncertain_points(
    logits: Float[Tensor, "n h w"],
    count: int,
    generator: torch.Generator | None = None,
    oversample: float = 3.0,
    important: float = 0.75,
) -> Float[Tensor, "n k 2"]:
    """PointRend's points: of `oversample * count` random ones, the `important` share nearest to the decision boundary;
    the rest uniform. Coordinates (x, y) in [0, 1]."""
    n, device = len(logits), logits.device
    candidates = torch.rand(n, int(count * oversample), 2, generator=generator, device=device)
    certainty = sample(logits, candidates).abs()
    kept = int(count * important)
    nearest = certainty.topk(kept, dim=1, largest=False).indices
    chosen = candidates.gather(1, nearest[..., None].expand(-1, -1, 2))
    rest = torch.rand(n, count - kept, 2, generator=generator, device=device)
    return torch.cat([chosen, rest], dim=1)


def mask_losses(
    logits: Float[Tensor, "n h w"],
    masks: Bool[Tensor, "n h2 w2"],
    points: int,
    generator: torch.Generator | None = None,
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """Cross-entropy and Dice loss of each mask (Eq. 7), both at `points` uncertainty-sampled points.

    Dice is 1 - (2 sum(p g) + 1) / (sum p + sum g + 1), so an empty mask predicted empty costs nothing.
    """
    with torch.no_grad():
        where = uncertain_points(logits.detach().float(), points, generator)
        truth = sample(masks.float(), where)
    guess = sample(logits.float(), where)
    ce = F.binary_cross_entropy_with_logits(guess, truth, reduction="none").mean(1)
    p = guess.sigmoid()
    dice = 1 - (2 * (p * truth).sum(1) + 1) / (p.sum(1) + truth.sum(1) + 1)
    return ce, dice


def attention_mask_loss(
    maps: Float[Tensor, "*n heads t p q"], mask: Float[Tensor, "*n t p q"], form: str = "bce"
) -> Float[Tensor, "*n heads"]:
    """AML of role tokens, by head (Eq. 6 sums them): BCE between a token's attention to the visual tokens and its
    object's mask, mean over the T' x P x P tokens. Other `FORMS` are for studies.

    `maps` are softmax values over all keys, in [0, 1]; `mask` is the share of each token's cell that the object
    covers: the binary mask at patch resolution, without losing objects smaller than a cell.
    """
    of_a_head = (*maps.shape[:-4], *maps.shape[-3:])
    if of_a_head != mask.shape:
        raise ValueError(f"attention maps {of_a_head} and mask {tuple(mask.shape)} differ in (*n, t, p, q)")
    return FORMS[form](maps, mask.to(maps.dtype).unsqueeze(-4))


def _bce(maps: Float[Tensor, "*n heads t p q"], mask: Float[Tensor, "*n 1 t p q"]) -> Float[Tensor, "*n heads"]:
    """Eq. 6. Attention sums to 1 over all keys, so it cannot be 1 on an object of several tokens."""
    with torch.autocast(maps.device.type, enabled=False):  # which refuses this function on a GPU, whatever the type
        target = mask.expand_as(maps)
        return F.binary_cross_entropy(maps.clamp(1e-7, 1 - 1e-7), target, reduction="none").mean((-3, -2, -1))


def _renormalised(
    maps: Float[Tensor, "*n heads t p q"], mask: Float[Tensor, "*n 1 t p q"]
) -> Float[Tensor, "*n heads"]:
    """Eq. 6 on attention that is made to sum to 1 over the visual tokens, whatever goes to the text."""
    return _bce(_visual(maps), mask)


def _kl(maps: Float[Tensor, "*n heads t p q"], mask: Float[Tensor, "*n 1 t p q"]) -> Float[Tensor, "*n heads"]:
    """KL divergence from the mask, made to sum to 1, to the attention over the visual tokens; 0 for an empty mask. At 0
    where attention covers the object evenly, whatever its size."""
    truth = _visual(mask)
    return (torch.xlogy(truth, truth) - truth * _visual(maps).clamp(min=1e-7).log()).sum((-3, -2, -1))


def _mass(maps: Float[Tensor, "*n heads t p q"], mask: Float[Tensor, "*n 1 t p q"]) -> Float[Tensor, "*n heads"]:
    """-log of the attention that falls inside, of all there is; 0 for an empty mask. Where inside is left open."""
    inside = (maps * mask).sum((-3, -2, -1)).clamp(min=1e-7)
    return -inside.log() * mask.flatten(-3).any(-1)


def _visual(maps: Float[Tensor, "*n t p q"]) -> Float[Tensor, "*n t p q"]:
    """Made to sum to 1 over all frames' tokens."""
    return maps / maps.sum((-3, -2, -1), keepdim=True).clamp(min=1e-7)


FORMS = {"bce": _bce, "renormalised": _renormalised, "kl": _kl, "mass": _mass}
