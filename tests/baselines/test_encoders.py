"""Encoders' pretraining, and what starts from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import queries
import torch

from reviosa_core.baselines import folders, pretrain, sizes
from reviosa_core.baselines.training import train
from reviosa_core.data import sampling
from reviosa_core.model.mllm import word_tokenizer
from reviosa_core.schema import DataError

SIZE = (64, 64)


def grounding() -> pretrain.Grounding:
    torch.manual_seed(0)
    return pretrain.Grounding(queries.tiny(sizes.REFERFORMER), queries.tokenizer())


def test_sentences_about_one_clip_get_masks_of_their_own():
    made = grounding().eval()
    (group,) = made.collate([sampling.take(queries.clip("a", 4, SIZE), (0, 1, 2))])
    found = made.masks(group, SIZE)
    assert found.shape == (2, 3, 16, 16) and not torch.allclose(found[0], found[1])
    terms = made([group])
    assert terms.keys() == {"dice", "ce"} and all(term.ndim == 0 for term in terms.values())


@pytest.mark.slow
def test_it_learns(tmp_path: Path):
    clip, made = queries.clip("a", 4, SIZE), grounding()
    before = pretrain.found(made.eval(), [clip])
    rates = queries.RATES.model_copy(update={"steps": 60, "lr": 3e-3, "checkpoint_every": 60})
    train(made, [clip], rates, 3, folder=tmp_path, seed=0)
    assert pretrain.found(made, [clip]) > max(60, before)


@pytest.mark.parametrize("name", folders.KINDS)
def test_all_three_start_from_it(tmp_path: Path, name: str):
    made = grounding()
    pretrain.save(made, tmp_path / "encoders")
    system = folders.make(name, queries.GIVEN, 64, queries.tokenizer(), seed=3)
    kept = {n: t.clone() for n, t in system.state_dict().items()}
    pretrain.start(system, tmp_path / "encoders")
    for part, tensor in system.state_dict().items():
        if part.split(".")[0] in pretrain.SHARED:
            assert torch.equal(tensor, made.state_dict()[part]), part
        else:
            assert torch.equal(tensor, kept[part]), part
    assert {n.split(".")[0] for n, t in system.state_dict().items() if not torch.equal(t, kept[n])} == {
        *pretrain.SHARED
    }


def test_encoders_of_another_size_are_refused(tmp_path: Path):
    pretrain.save(grounding(), tmp_path / "encoders")
    system = folders.make("SOC", queries.GIVEN.model_copy(update={"text": 40}), 64, queries.tokenizer(), seed=3)
    with pytest.raises(DataError, match="encoders: text"):
        pretrain.start(system, tmp_path / "encoders")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (queries.WORDS[::-1], "23 words, the system's 23; numbers differ of 16, as of 'a': 8 there, 21 here"),
        ([*queries.WORDS, "cat"], "23 words, the system's 24; numbers differ of 1, as of 'cat': None there, 23 here"),
        (
            ["cat", *queries.WORDS[1:]],
            "23 words, the system's 23; numbers differ of 2, as of 'cat': None there, 7 here",
        ),
    ],
)
def test_encoders_that_know_words_by_other_numbers_are_refused(tmp_path: Path, words: list[str], said: str):
    """Of as many words nothing else would tell: each would be read as another one."""
    pretrain.save(grounding(), tmp_path / "encoders")
    system = folders.make("SOC", queries.GIVEN, 64, word_tokenizer(words), seed=3)
    with pytest.raises(DataError, match=f"encoders: its tokenizer has {said}"):
        pretrain.start(system, tmp_path / "encoders")


def test_a_system_at_a_profiles_scale_is_saved_and_opened(tmp_path: Path):
    system = folders.make("SOC", queries.GIVEN, 64, queries.tokenizer(), seed=3, queries=2).eval()
    folders.save(system, tmp_path / "soc")
    again = folders.open_system(tmp_path / "soc", "cpu")
    clip = queries.clip("a", 3, SIZE)
    for ours, theirs in zip(system.segment(clip), again.segment(clip), strict=True):
        assert (ours.masks["actor"] == theirs.masks["actor"]).all() and ours.score == theirs.score
    with pytest.raises(ValueError, match="a query system computes in float32 only, not bfloat16"):
        folders.open_system(tmp_path / "soc", "cpu", torch.bfloat16)
