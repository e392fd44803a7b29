"""ReferFormer's own: the sentence as queries, words in every level, by one module."""

from __future__ import annotations

import queries
import torch

from reviosa_core.baselines import sizes
from reviosa_core.baselines.referformer import ReferFormer, read
from reviosa_core.model.sam2 import unallocated


def test_fusion_is_a_product_without_residual_golden():
    """One head of width 2, one word: attention is 1, so a cell is multiplied by the word's value, through two maps."""
    made = queries.system(ReferFormer)
    words = made.text(made.text.tokenize(["dog"]))
    level = torch.randn(1, 2, 16, 3, 4)
    part = made.fusion.attention
    value = words.features[0, 0] @ part.in_proj_weight[32:].T + part.in_proj_bias[32:]
    factor = value @ part.out_proj.weight.T + part.out_proj.bias
    torch.testing.assert_close(read(made.fusion, level, words), level * factor[:, None, None])


def test_the_factor_starts_near_one():
    torch.manual_seed(0)
    made = ReferFormer(queries.tiny(sizes.REFERFORMER), queries.tokenizer())
    words = made.text(made.text.tokenize(["the red dog"]))
    level = torch.ones(1, 1, 64, 3, 4)
    found = read(made.fusion, level, words).detach()
    assert abs(float(found.mean()) - 1) < 0.2 and found.std() < 0.5


def test_every_query_starts_as_the_sentence():
    made = queries.system(ReferFormer)
    words = made.text(made.text.tokenize(["the red dog", "the ball"]))
    assert torch.equal(made.first(words), words.sentence)


def test_counts_at_the_papers_sizes():
    """RoBERTa-base is published with 124,645,632 parameters; ours leave out nothing of it."""
    with unallocated():
        made = ReferFormer(sizes.REFERFORMER, queries.tokenizer())
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in made.named_children()}
    assert sum(p.numel() for p in made.text.roberta.parameters()) == 124_645_632
    assert {name: counts[name] for name in ("encoder", "fusion", "heads")} == {
        # a layer: 256 to 256 offsets, 256 to 128 weights, twice 256 to 256, FFN of 2048, two norms; and 4 level codes
        "encoder": 4 * (65_792 + 32_896 + 2 * 65_792 + 526_336 + 524_544 + 2 * 512) + 4 * 256,
        "fusion": 4 * 65_792,
        "heads": 4 * (257 + 2 * 65_792 + 1_028) + 2 * 65_792 + 257 * 2_153,
    }
