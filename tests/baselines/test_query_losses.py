"""Golden values by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.ops import box_convert, generalized_box_iou

from reviosa_core.baselines import losses


@pytest.mark.parametrize("logit", [-3.0, 0.4, 2.0])
def test_focal_golden(logit: float):
    p = 1 / (1 + math.exp(-logit))
    x = torch.tensor([logit, logit])
    want = [0.25 * (1 - p) ** 2 * -math.log(p), 0.75 * p**2 * -math.log(1 - p)]
    torch.testing.assert_close(losses.focal(x, torch.tensor([1.0, 0.0])), torch.tensor(want))


def test_dice_golden():
    p, g = torch.tensor([[0.5, 0.25, 1.0], [0.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(losses.dice(p, g), torch.tensor([1 - (2 * 1.5 + 1) / (1.75 + 2 + 1), 0.0]))


def test_giou_golden_and_like_torchvision():
    a, b = torch.tensor([0.25, 0.5, 0.5, 1.0]), torch.tensor([0.75, 0.5, 0.5, 1.0])  # side by side: no hull outside
    torch.testing.assert_close(losses.giou(a, b), torch.tensor(0.0))
    torch.testing.assert_close(losses.giou(a, torch.tensor([0.875, 0.5, 0.25, 1.0])), torch.tensor(-0.25))
    ours, theirs = torch.rand(7, 4), torch.rand(7, 4)
    want = generalized_box_iou(box_convert(ours, "cxcywh", "xyxy"), box_convert(theirs, "cxcywh", "xyxy")).diagonal()
    torch.testing.assert_close(losses.giou(ours, theirs), want)


def test_boxes_that_are_nothing_have_a_gradient():
    ours = torch.zeros(2, 4, requires_grad=True)
    losses.giou(ours, torch.zeros(2, 4)).sum().backward()
    assert ours.grad is not None and ours.grad.isfinite().all()


def test_boxes_of_masks_golden():
    masks = torch.zeros(3, 4, 10, dtype=torch.bool)
    masks[0, 1:3, 2:7] = True
    masks[1, 3, 9] = True
    want = [[0.45, 0.5, 0.5, 0.5], [0.95, 0.875, 0.1, 0.25], [0.0, 0.0, 0.0, 0.0]]
    torch.testing.assert_close(losses.boxes_of(masks), torch.tensor(want))


def test_contrastive_golden():
    """d = 2, so s = v . l / 2; the second pair's match is its first query."""
    videos = torch.tensor([[[2.0, 0.0], [0.0, 2.0], [4.0, 2.0]], [[0.0, 0.0], [2.0, 2.0], [1.0, 1.0]]])
    language = torch.tensor([[1.0, 3.0], [1.0, 1.0]])
    found = losses.contrastive(videos, language, torch.tensor([[2], [0]]))
    first = -math.log(math.exp(5) / (math.exp(1) + math.exp(3) + math.exp(5)))
    second = -math.log(1 / (1 + math.exp(2) + math.exp(1)))
    torch.testing.assert_close(found, torch.tensor([first, second]))
