"""Golden values by hand."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from reviosa_core.config import LossWeights
from reviosa_core.model import losses

N, H, W, K = 2, 3, 5, 40


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def nll(p: float, y: float) -> float:
    return -(y * math.log(p) + (1 - y) * math.log(1 - p))


# -- points ------------------------------------------------------------------------------------------------------------


def test_values_at_pixel_centres_equal_the_pixels():
    maps = torch.randn(N, H, W)
    ys, xs = torch.meshgrid((torch.arange(H) + 0.5) / H, (torch.arange(W) + 0.5) / W, indexing="ij")
    points = torch.stack([xs, ys], -1).flatten(0, 1).expand(N, -1, 2)
    torch.testing.assert_close(losses.sample(maps, points), maps.flatten(1))


def test_values_between_pixels_are_bilinear():
    maps = torch.tensor([[[0.0, 1.0, 4.0], [10.0, 11.0, 14.0]]])
    points = torch.tensor([[[2 / 6, 1 / 4], [4 / 6, 1 / 4], [2 / 6, 2 / 4]]])  # x, y
    torch.testing.assert_close(losses.sample(maps, points), torch.tensor([[0.5, 2.5, 5.5]]))


def test_points_lie_in_the_frame_and_follow_the_generator():
    logits = torch.randn(N, H, W)
    first = losses.uncertain_points(logits, K, generator())
    assert first.shape == (N, K, 2) and 0 <= first.min() and first.max() < 1
    torch.rand(3)  # the global state does not matter
    assert torch.equal(losses.uncertain_points(logits, K, generator()), first)
    assert not torch.equal(losses.uncertain_points(logits, K, generator(1)), first)


def test_three_quarters_of_the_points_are_the_least_certain_candidates():
    logits = torch.randn(N, H, W)
    points = losses.uncertain_points(logits, K, generator(5))
    # The same stream, taken apart.
    again = generator(5)
    candidates, rest = torch.rand(N, 3 * K, 2, generator=again), torch.rand(N, K // 4, 2, generator=again)
    for n in range(N):
        certainty = losses.sample(logits[n : n + 1], candidates[n : n + 1])[0].abs()
        want = {tuple(p) for p in candidates[n, certainty.argsort()[: 3 * K // 4]].tolist()}
        assert {tuple(p) for p in points[n, : 3 * K // 4].tolist()} == want and len(want) == 30
    assert torch.equal(points[:, 3 * K // 4 :], rest)


# -- masks -------------------------------------------------------------------------------------------------------------


def test_mask_losses_golden(monkeypatch):
    """Even logits and masks make every point alike: ce = -ln p, dice = 1 - (2 k p + 1) / (k p + k + 1)."""
    value, k = 1.5, 40
    monkeypatch.setattr(losses, "uncertain_points", lambda *_: torch.rand(3, k, 2))
    p = 1 / (1 + math.exp(-value))
    logits = torch.full((3, H, W), value)
    masks = torch.ones(3, 4, 7, dtype=torch.bool)
    masks[1] = False
    logits[2] = -value
    ce, dice = losses.mask_losses(logits, masks, k, generator())
    want = [nll(p, 1), nll(p, 0), nll(1 - p, 1)]
    torch.testing.assert_close(ce, torch.tensor(want))
    full, empty = 1 - (2 * k * p + 1) / (k * p + k + 1), 1 - 1 / (k * p + 1)
    missed = 1 - (2 * k * (1 - p) + 1) / (k * (1 - p) + k + 1)
    torch.testing.assert_close(dice, torch.tensor([full, empty, missed]))


def test_mask_losses_compare_the_same_places():
    """Top or left half on, at different resolutions: right costs little, the other mask's prediction much."""
    masks = torch.zeros(2, 8, 12, dtype=torch.bool)
    masks[0, :, :6], masks[1, :4] = True, True
    logits = torch.nn.functional.interpolate(masks[None].float() * 40 - 20, (16, 24))[0]
    ce, dice = losses.mask_losses(logits, masks, 200, generator())
    swapped_ce, swapped_dice = losses.mask_losses(logits.flip(0), masks, 200, generator())
    assert (swapped_ce > 3 * ce).all() and (swapped_dice > 2 * dice).all()


def test_an_empty_mask_predicted_empty_costs_nothing():
    ce, dice = losses.mask_losses(torch.full((1, H, W), -40.0), torch.zeros(1, H, W, dtype=torch.bool), K, generator())
    assert ce.item() == pytest.approx(0, abs=1e-6) and dice.item() == pytest.approx(0, abs=1e-6)


def test_mask_losses_pull_the_logits_the_right_way():
    logits = torch.zeros(N, H, W, requires_grad=True)
    masks = torch.zeros(N, H, W, dtype=torch.bool)
    masks[0] = True
    for term in losses.mask_losses(logits, masks, K, generator()):
        (grad,) = torch.autograd.grad(term.sum(), logits, retain_graph=True)
        assert (grad[0] <= 0).all() and (grad[1] >= 0).all() and grad[0].sum() < 0 < grad[1].sum()


# -- attention ---------------------------------------------------------------------------------------------------------


def test_attention_mask_loss_golden():
    """Mean over the six tokens (t p q), by head."""
    maps = torch.tensor(
        [
            [[[0.1, 0.2, 0.3]], [[0.05, 0.15, 0.2]]],  # head 0: t, p, q = 2, 1, 3
            [[[0.5, 0.1, 0.1]], [[0.1, 0.1, 0.1]]],
        ]
    )
    mask = torch.tensor([[[1.0, 0.0, 0.25]], [[0.0, 1.0, 0.0]]])
    first = nll(0.1, 1) + nll(0.2, 0) + nll(0.3, 0.25) + nll(0.05, 0) + nll(0.15, 1) + nll(0.2, 0)
    second = nll(0.5, 1) + nll(0.1, 0) + nll(0.1, 0.25) + nll(0.1, 0) + nll(0.1, 1) + nll(0.1, 0)
    assert losses.attention_mask_loss(maps, mask).tolist() == pytest.approx([first / 6, second / 6], rel=1e-5)


def test_other_forms_of_it_golden():
    """Three tokens (q), two heads, half of it all on the text; the object covers one cell and half of another."""
    maps, mask = torch.tensor([[[[0.3, 0.1, 0.1]]], [[[0.1, 0.2, 0.2]]]]), torch.tensor([[[1.0, 0.5, 0.0]]])
    shares = ((0.6, 0.2, 0.2), (0.2, 0.4, 0.4))  # of what goes to the video
    truth = (2 / 3, 1 / 3)
    due = {
        "renormalised": [sum(nll(p, y) for p, y in zip(own, (1, 0.5, 0), strict=True)) / 3 for own in shares],
        "kl": [sum(y * math.log(y / p) for p, y in zip(own, truth, strict=False)) for own in shares],
        "mass": [-math.log(0.3 + 0.05), -math.log(0.1 + 0.1)],
    }
    for form, values in due.items():
        assert losses.attention_mask_loss(maps, mask, form).tolist() == pytest.approx(values, rel=1e-5), form
    for form in ("kl", "mass"):  # nobody is there to look at
        assert losses.attention_mask_loss(maps, torch.zeros(1, 1, 3), form).tolist() == [0, 0]
    even = mask / mask.sum() / 2
    assert losses.attention_mask_loss(even[None], mask, "kl").tolist() == pytest.approx([0], abs=1e-6)
    assert losses.FORMS.keys() == {*get_args(LossWeights.model_fields["aml_form"].annotation)}


@pytest.mark.parametrize("form", losses.FORMS)
def test_the_loss_of_many_tokens_is_each_ones_own(form: str):
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(6, 2, 3, 4, 5, generator=generator).flatten(2).softmax(-1).view(6, 2, 3, 4, 5)
    mask = torch.rand(6, 3, 4, 5, generator=generator).round()
    mask[4] = 0  # nobody is there to look at
    together = losses.attention_mask_loss(maps, mask, form)
    alone = torch.stack([losses.attention_mask_loss(m, t, form) for m, t in zip(maps, mask, strict=True)])
    assert together.shape == (6, 2) and torch.equal(together, alone)


def test_attention_on_the_object_costs_less_than_beside_it():
    mask = torch.zeros(2, 3, 5)
    mask[1, 2, 4] = mask[0, 0, 1] = 1
    on = mask.expand(4, -1, -1, -1) / 2
    assert (losses.attention_mask_loss(on, mask) < losses.attention_mask_loss(on.flip(1), mask)).all()


@pytest.mark.parametrize("axes", [(1, 0, 2), (0, 2, 1), (2, 1, 0)])
def test_transposed_axes_are_an_error(axes):
    maps = torch.full((4, 2, 3, 5), 0.01)
    losses.attention_mask_loss(maps, torch.zeros(2, 3, 5))
    with pytest.raises((ValueError, TypeError)):  # TypeError: from the axis names, under pytest
        losses.attention_mask_loss(maps, torch.zeros(2, 3, 5).permute(axes))


def test_attention_mask_loss_leaves_autocast(monkeypatch):
    """On a GPU autocast refuses the cross-entropy of probabilities, which a CPU lets pass."""
    plain, under = losses.F.binary_cross_entropy, []

    def watched(*args, **kwargs):
        under.append(torch.is_autocast_enabled("cpu"))
        return plain(*args, **kwargs)

    monkeypatch.setattr(losses.F, "binary_cross_entropy", watched)
    with torch.autocast("cpu", torch.bfloat16):
        losses.attention_mask_loss(torch.rand(2, 3, 4, 5), torch.rand(3, 4, 5))
    assert under == [False]


def test_attention_mask_loss_survives_zero_and_one_and_reaches_the_scores():
    scores = torch.full((4, 2, 3, 5), -200.0)
    scores[:, 1, 0, 3] = 200.0
    scores.requires_grad_()
    maps = scores.flatten(1).softmax(-1).view_as(scores)  # exactly 0 and 1
    mask = torch.zeros(2, 3, 5)
    mask[0, 1, 2] = 1
    loss = losses.attention_mask_loss(maps, mask)
    assert torch.isfinite(loss).all() and (loss > 0).all()
    soft = torch.zeros(4, 2, 3, 5, requires_grad=True)
    losses.attention_mask_loss(soft.flatten(1).softmax(-1).view_as(soft), mask).sum().backward()
    grad = soft.grad
    assert (grad[:, 0, 1, 2] < 0).all() and (grad[:, 1] > 0).all()
