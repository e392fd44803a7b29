"""IFIRVOS's own: frames that talk to each other, words that have seen the video, and what the paper leaves open."""

from __future__ import annotations

import queries
import torch
from torch.nn import functional as F

from reviosa_core.baselines import sizes
from reviosa_core.baselines.ifirvos import BetweenFrames, Ifirvos, WordsSee, places
from reviosa_core.baselines.positions import of_cells
from reviosa_core.baselines.referformer import ReferFormer
from reviosa_core.model.sam2 import unallocated

SIZES = queries.SIZES[Ifirvos]
P, T, Q, D = 2, 3, 5, SIZES.dim


def shaken() -> BetweenFrames:
    made = BetweenFrames(SIZES)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def test_inter_frame_interaction_equals_eq_5():
    """One attention over the t q queries of a pair, head by head, then the feed-forward layer; norms after the sums."""
    made, states = shaken(), torch.randn(P, T, Q, D)
    part, rows = made.attend.attention, states.reshape(P, T * Q, D)
    q, k, v = (rows @ part.in_proj_weight.T + part.in_proj_bias).chunk(3, -1)
    heads = []
    for h in range(SIZES.heads):
        one = slice(h * D // SIZES.heads, (h + 1) * D // SIZES.heads)
        heads.append((q[..., one] @ k[..., one].mT / (D // SIZES.heads) ** 0.5).softmax(-1) @ v[..., one])
    found = made.attend.norm(rows + part.out_proj(torch.cat(heads, -1)))
    found = made.forth.norm(found + made.forth.back(F.relu(made.forth.wide(found))))
    torch.testing.assert_close(made(states), found.reshape(P, T, Q, D), atol=1e-5, rtol=1e-4)


def test_frames_of_a_pair_meet_and_pairs_do_not():
    made, states = shaken(), torch.randn(P, T, Q, D)
    other = states.clone()
    other[0, 2, 1] += 1
    change = (made(states) - made(other)).abs().amax(-1) > 1e-6
    assert change[0].all() and not change[1].any()


def test_frames_are_a_set():
    made, states = shaken(), torch.randn(P, T, Q, D)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(made(states[:, order]), made(states)[:, order], atol=1e-5, rtol=1e-4)


def test_plug_and_play_it_starts_by_adding_nothing():
    """The decoder layer before ends in a norm that starts as one: two more norms change next to nothing."""
    states = F.layer_norm(torch.randn(P, T, Q, D), (D,))
    torch.testing.assert_close(BetweenFrames(SIZES)(states), states, atol=1e-3, rtol=1e-3)


def test_words_are_multiplied_level_after_level_over_all_frames_then_pooled():
    made, system = WordsSee(SIZES), queries.system(Ifirvos)
    words = system.text(system.text.tokenize(["the red dog", "the ball that moves"]))
    levels = [torch.randn(2, T, D, *shape) for shape in ((4, 5), (2, 3), (1, 2), (1, 1))]
    found = words.features
    for level, fusion in zip(levels, made.levels, strict=True):
        cells = level.permute(0, 1, 3, 4, 2).reshape(2, -1, D)
        place = of_cells(*level.shape[-2:], D, level.device).permute(1, 2, 0).reshape(1, -1, D).repeat(1, T, 1)
        assert torch.equal(places(level), place)
        found = found * fusion.attention(found, cells + place, cells)[0]
    dense, _, norm = made.pool
    torch.testing.assert_close(made(levels, words), norm(torch.tanh(dense(found[:, 0]))))


def test_the_chain_of_four_products_hands_the_sentence_on():
    """Two sentences stay apart. With factors that start near 0, as attention usually does, they come out as one."""
    torch.manual_seed(0)
    made = Ifirvos(queries.tiny(sizes.IFIRVOS), queries.tokenizer())
    words = made.text(made.text.tokenize(["red dog", "blue ball"]))
    levels = [torch.randn(2, 2, 64, *shape) for shape in ((8, 8), (4, 4), (2, 2), (1, 1))]

    def alike() -> float:
        return float(F.cosine_similarity(*made.fuse(levels, words)[1].sentence.detach(), dim=0))

    assert alike() < 0.8
    for fusion in made.words_see.levels:
        torch.nn.init.zeros_(fusion.attention.out_proj.bias)
    assert alike() > 0.999


def test_levels_read_the_raw_words():
    """ "Fixed" in Table 5: each level with its own weights, and none sees what another made of the words."""
    made = queries.system(Ifirvos)
    words = made.text(made.text.tokenize(["the red dog"]))
    levels = [torch.randn(1, T, D, *shape) for shape in ((4, 5), (2, 3), (1, 2), (1, 1))]
    found, _ = made.fuse(levels, words)
    changed, _ = made.fuse([levels[0] + 1, *levels[1:]], words)
    assert not torch.allclose(found[0], changed[0])
    assert all(torch.equal(a, b) for a, b in zip(found[1:], changed[1:], strict=True))


def test_counts_at_the_papers_sizes():
    """ReferFormer with ResNet-50, and the two modules: eight fusions for one, a pooler, four layers between frames."""
    with unallocated():
        words = queries.tokenizer()
        ours = Ifirvos(sizes.IFIRVOS, words)
        theirs = ReferFormer(sizes.REFERFORMER.model_copy(update={"backbone": sizes.RESNET_50}), words)
    more = sum(p.numel() for p in ours.parameters()) - sum(p.numel() for p in theirs.parameters())
    fusion, pooler, between = 4 * 65_792, 65_792 + 512, 4 * (4 * 65_792 + 526_336 + 524_544 + 2 * 512)
    assert more == 7 * fusion + pooler + between
