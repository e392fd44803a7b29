from __future__ import annotations

import queries
import torch

from reviosa_core.baselines import positions, pyramid
from reviosa_core.baselines.referformer import ReferFormer
from reviosa_core.baselines.text import Words

SIZES = queries.SIZES[ReferFormer]
P, T, D = 2, 3, SIZES.dim
SHAPES = [(9, 13), (5, 7), (3, 4), (2, 2)]


def inputs() -> tuple[torch.Tensor, list[torch.Tensor], Words]:
    real = torch.tensor([[True, True, False, False], [True] * 4])
    words = Words(torch.randn(P, 4, D), real, positions.of_words(real, D), torch.randn(P, D))
    return torch.randn(P, T, 8, *SHAPES[0]), [torch.randn(P, T, D, *s) for s in SHAPES[1:]], words


def test_mask_features_have_stride_4():
    for made in (pyramid.CrossModalPyramid(SIZES, 8), pyramid.Pyramid(SIZES, 8)):
        assert made(*inputs()).shape == (P, T, SIZES.mask_channels, *SHAPES[0])


def test_referformers_reads_real_words_and_socs_none():
    stride4, memory, words = inputs()
    more = torch.randn_like(words.features)
    padding, first = words.features.clone(), words.features.clone()
    padding[0, 2:] = more[0, 2:]
    first[0, 0] = more[0, 0]

    def changed(made, features) -> bool:
        other = Words(features, words.real, words.positions, words.sentence)
        return not torch.allclose(made(stride4, memory, words), made(stride4, memory, other), atol=1e-5)

    ours, socs = pyramid.CrossModalPyramid(SIZES, 8).eval(), pyramid.Pyramid(SIZES, 8)
    assert changed(ours, first) and not changed(ours, padding) and not changed(socs, first)


def test_cells_meet_over_all_frames_on_the_coarser_grid():
    """At the coarsest level nothing is made coarser: plain attention of all t h w cells."""
    part = pyramid._Block(SIZES, 1).eval()
    x = torch.randn(P, T, D, 2, 3)
    own = positions.of_cells(2, 3, D, x.device).expand(1, T, -1, -1, -1)
    want = part.cells(pyramid._rows(x), own=pyramid._rows(own))
    torch.testing.assert_close(pyramid._rows(part._among_cells(x, own)), want, atol=1e-5, rtol=1e-4)


def test_the_feed_forward_layer_takes_so_many_cells_at_once(monkeypatch):
    """So what a large frame needs is bounded; the numbers are the same to the last bit."""
    made, (stride4, memory, words), taken = pyramid.CrossModalPyramid(SIZES, 8).eval(), inputs(), []
    for part in made.language:
        part.forth.register_forward_pre_hook(lambda _, given: taken.append(given[0].shape[1]))
    whole = made(stride4, memory, words)
    assert taken == [T * h * w for h, w in reversed(SHAPES)]
    taken.clear()
    monkeypatch.setattr(pyramid, "ROWS", 2 * 100)
    assert torch.equal(made(stride4, memory, words), whole)
    assert taken == [12, 36, 100, 5, 100, 100, 100, 51]


def test_a_grid_smaller_than_the_factor_is_one_cell():
    x = torch.randn(P, T, D, 2, 3)
    own = positions.of_cells(2, 3, D, x.device).expand(1, T, -1, -1, -1)
    assert pyramid._Block(SIZES, 8)._among_cells(x, own).shape == x.shape
