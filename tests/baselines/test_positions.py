from __future__ import annotations

import math

import torch
from transformers.models.deformable_detr.modeling_deformable_detr import DeformableDetrSinePositionEmbedding

from reviosa_core.baselines import positions

H, W, C = 3, 5, 12


def test_cells_are_placed_as_in_deformable_detr():
    theirs = DeformableDetrSinePositionEmbedding(C // 2, normalize=True)(
        torch.Size([1, 1, H, W]), torch.device("cpu"), torch.float32
    )
    torch.testing.assert_close(positions.of_cells(H, W, C, torch.device("cpu")), theirs[0])


def test_words_golden():
    """Word i of n is at the angle 2 pi i / n; channel 2 k has its sine, slowed down 10000^(2 k / channels) times."""
    real = torch.tensor([[True, True, True, False], [True, True, True, True]])
    found = positions.of_words(real, 4)
    angle = 2 * math.pi * 2 / 3
    want = [math.sin(angle), math.cos(angle), math.sin(angle / 100), math.cos(angle / 100)]
    torch.testing.assert_close(found[0, 1], torch.tensor(want), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1, 3, :2], torch.tensor([0.0, 1.0]), atol=1e-5, rtol=0)


def test_padding_does_not_move_words():
    short = positions.of_words(torch.ones(1, 3, dtype=torch.bool), C)
    long = positions.of_words(torch.tensor([[True, True, True, False, False]]), C)
    torch.testing.assert_close(long[:, :3], short)
