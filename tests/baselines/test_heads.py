from __future__ import annotations

import math

import queries
import torch
from torch.nn import functional as F

from reviosa_core.baselines import heads
from reviosa_core.baselines.referformer import ReferFormer

SIZES = queries.SIZES[ReferFormer]
P, T, Q, H, W = 2, 3, 5, 4, 7
SIZE = (15, 27)  # pixels: 4 x 7 cells, the last ones cut


def test_dynamic_masks_equal_grouped_convolutions_over_maps_of_distances():
    """As published: mask features and (x, y) distances in one map for each query, and one group a query."""
    made = heads.DynamicMasks(SIZES)
    m, k = SIZES.mask_channels, SIZES.kernel_channels
    states, points, features = torch.randn(P, T, Q, SIZES.dim), torch.rand(P, T, Q, 2), torch.randn(P, T, m, H, W)
    found = made(states, points, features, SIZE)
    numbers = made.controller(states)
    cuts = [k * (m + 2), k * k, k, k, k, 1]
    assert numbers.shape[-1] == sum(cuts)
    for p in range(P):
        for t in range(T):
            w0, w1, w2, b0, b1, b2 = numbers[p, t].split(cuts, -1)
            xs, ys = 4 * torch.arange(W) + 2, 4 * torch.arange(H) + 2
            x = (points[p, t, :, 0] * SIZE[1])[:, None, None] - xs.expand(H, W)
            y = (points[p, t, :, 1] * SIZE[0])[:, None, None] - ys[:, None].expand(H, W)
            maps = torch.cat([features[p, t].expand(Q, -1, -1, -1), torch.stack([x, y], 1)], 1).view(1, -1, H, W)
            out = F.relu(F.conv2d(maps, w0.reshape(Q * k, m + 2, 1, 1), b0.flatten(), groups=Q))
            out = F.relu(F.conv2d(out, w1.reshape(Q * k, k, 1, 1), b1.flatten(), groups=Q))
            out = F.conv2d(out, w2.reshape(Q, k, 1, 1), b2.flatten(), groups=Q)
            torch.testing.assert_close(found[p, t], out[0], atol=1e-4, rtol=1e-4)


def test_the_papers_head_makes_2153_numbers_and_socs_169():
    """m = 256, k = 8: 8 * 258 + 64 + 8 weights, 8 + 8 + 1 biases. SOC has m = 8."""
    for m, count in ((256, 2153), (8, 169)):
        assert (
            heads.DynamicMasks(SIZES.model_copy(update={"mask_channels": m})).controller.layers[-1].out_features
            == count
        )


def test_an_untrained_query_is_the_one_with_a_probability_of_a_hundredth():
    made = heads.Heads(SIZES)
    torch.testing.assert_close(made.score[1].bias.sigmoid(), torch.tensor([0.01]))


def test_boxes_start_at_their_references():
    made = heads.Heads(SIZES)
    states = torch.randn(P, Q, SIZES.dim)
    points = torch.rand(P, Q, 2)
    first = made.boxes(0, states, points)
    torch.testing.assert_close(first[..., :2], points)
    torch.testing.assert_close(first[..., 2:], torch.full((P, Q, 2), 1 / (1 + math.exp(2))))
    torch.testing.assert_close(made.boxes(1, states, first), first)


def test_inverse_sigmoid_ends():
    found = heads.inverse_sigmoid(torch.tensor([-0.1, 0.0, 0.5, 1.0]))
    torch.testing.assert_close(found, torch.tensor([math.log(1e-5), math.log(1e-5), 0.0, -math.log(1e-5)]))
