"""Every variant of the papers' ablations is what its name says."""

from __future__ import annotations

import pytest
import queries
import torch

from reviosa_core.baselines import sizes, studies
from reviosa_core.baselines.ifirvos import Ifirvos
from reviosa_core.baselines.referformer import ReferFormer
from reviosa_core.bounds import changed
from reviosa_core.data.sampling import take
from reviosa_core.schema import Role

VARIANTS = [(study, name) for study, variants in studies.STUDIES.items() for name in variants]


@pytest.mark.parametrize(("study", "name"), VARIANTS)
def test_every_variant_trains_and_segments(study: str, name: str):
    variant = studies.STUDIES[study][name]
    made = variant.system(changed(queries.tiny(variant.published), **variant.changes), queries.tokenizer())
    clip = queries.clip("a", 4, (64, 64))
    terms = made(made.collate([take(clip, (0, 1))]))
    sum(terms.values()).backward()
    assert ("contrastive" in terms) == (study == "SOC")
    assert made.segment(clip)[0].masks[Role.ACTOR].shape == (4, 64, 64)


def parts(kind: type[ReferFormer] | type[Ifirvos]) -> set[str]:
    return {name for name, _ in kind(queries.tiny(sizes.IFIRVOS), queries.tokenizer()).named_children()}


def test_variants_have_the_modules_that_they_are_named_for():
    assert parts(studies.InterFrame) - parts(ReferFormer) == {"between_frames"}
    assert parts(Ifirvos) - parts(studies.VisionLanguage) == {"between_frames"}
    assert parts(studies.Dynamic) == parts(Ifirvos)


def test_interaction_between_frames_adds_nothing_at_first():
    """So "+ IFI" starts as the baseline: what it then gains, it learns."""
    torch.manual_seed(0)
    made = studies.InterFrame(queries.tiny(sizes.IFIRVOS), queries.tokenizer())
    states = torch.nn.functional.layer_norm(torch.randn(2, 3, 4, 64), (64,))
    torch.testing.assert_close(made.between(0, states), states, atol=1e-4, rtol=1e-4)


def test_dynamic_words_have_seen_the_levels_before_and_fixed_ones_none():
    torch.manual_seed(0)
    fixed = Ifirvos(queries.tiny(sizes.IFIRVOS), queries.tokenizer())
    dynamic = studies.Dynamic(fixed.sizes, queries.tokenizer())
    dynamic.load_state_dict(fixed.state_dict())
    words = fixed.text(fixed.text.tokenize(["the red dog"]))
    levels = [torch.randn(1, 2, 64, n, n) for n in (8, 4, 2, 1)]

    def moved_with(made: Ifirvos, i: int) -> list[int]:
        """The levels that come out otherwise when level i does."""
        moved = [level + 1 if i == j else level for j, level in enumerate(levels)]
        both = zip(made.fuse(levels, words)[0], made.fuse(moved, words)[0], strict=True)
        return [j for j, (old, new) in enumerate(both) if not torch.allclose(old, new)]

    assert [moved_with(fixed, i) for i in range(4)] == [[0], [1], [2], [3]]
    assert [moved_with(dynamic, i) for i in range(4)] == [[0, 1, 2, 3], [1, 2, 3], [2, 3], [3]]
    assert torch.equal(fixed.fuse(levels, words)[0][0], dynamic.fuse(levels, words)[0][0]), "the first reads raw words"
    both = (made.fuse(levels, words)[1].sentence for made in (fixed, dynamic))
    assert torch.equal(*both), "the query is the same in both"
