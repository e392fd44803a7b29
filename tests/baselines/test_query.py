"""What holds for all three systems: they are Systems, pairs do not touch each other, they learn, and they segment."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import queries
import tiny
import torch

from reviosa_core.baselines import query, sizes, training
from reviosa_core.baselines.attention import Multiply
from reviosa_core.baselines.ifirvos import Ifirvos
from reviosa_core.baselines.query import QuerySystem
from reviosa_core.baselines.referformer import ReferFormer
from reviosa_core.baselines.soc import Soc
from reviosa_core.data import sampling
from reviosa_core.intershapes import language, scenes, splits
from reviosa_core.schema import NOTHING, Expression, Role, System
from reviosa_core.training import finetune, loop

ALL = pytest.mark.parametrize("kind", list(queries.SIZES))
SIZE = (48, 72)


def samples() -> list:
    """Two of one shape, one of another, one that is a frame shorter; sentences of three to seven words."""
    long = ("the dog", "the red dog that chases the ball")
    clips = [
        queries.clip("a", 4, SIZE),
        queries.clip("bb", 4, SIZE, long),
        queries.clip("ccc", 4, (56, 80)),
        queries.clip("d", 2, SIZE, long[1:]),
    ]
    return [sampling.take(clip, tuple(range(min(len(clip), 3)))) for clip in clips]


@ALL
def test_a_batch_is_the_mean_of_its_pairs_whatever_their_sizes_and_lengths(kind: type[QuerySystem]):
    """Nothing leaks between clips, sentences are not changed by padding, and clips of other shapes stand apart."""
    made = queries.system(kind)
    assert isinstance(made, System) and made.roles == (Role.ACTOR,)
    drawn = samples()
    groups = made.collate(drawn)
    assert [len(group.owner) for group in groups] == [4, 2, 1]  # by shape
    together = made(groups)
    single = [made(made.collate([sample])) for sample in drawn]
    pairs = torch.tensor([float(len(sample.expressions)) for sample in drawn])
    for name, value in together.items():
        alone = torch.stack([found[name] for found in single])
        torch.testing.assert_close(value, (alone * pairs).sum() / pairs.sum(), atol=1e-4, rtol=1e-4)


@ALL
def test_every_layers_heads_have_their_shapes(kind: type[QuerySystem]):
    made = queries.system(kind)
    (group,) = made.collate(samples()[:2])
    seen = made.see(query.batch.pixels(group.frames, (64, 96))).of(group.owner)
    found, videos, _ = made.sequences(seen, made.text(group.tokens))
    p, t, q = 4, 3, made.sizes.queries
    assert [tuple(level.shape[-2:]) for level in seen.levels] == [(8, 12), (4, 6), (2, 3), (1, 2)]
    assert len(found) == made.sizes.decoder_layers and len(videos) in (0, len(found))
    for layer in found:
        assert layer.scores.shape == (p, t, q) and layer.boxes.shape == (p, t, q, 4)
        assert layer.masks.shape == (p, t, q, 64 // 4, 96 // 4)


@ALL
@pytest.mark.parametrize("stride", [2, 1])
def test_masks_may_be_finer_than_stride_4(kind: type[QuerySystem], stride: int):
    """Pairs still do not touch each other, the loss is at that stride, and every new weight learns."""
    made = queries.system(kind, mask_stride=stride)
    both = samples()[:2]
    (group,) = made.collate(both)
    seen = made.see(query.batch.pixels(group.frames, (64, 96))).of(group.owner)
    found, _, words = made.sequences(seen, made.text(group.tokens))
    assert found[-1].masks.shape == (4, 3, 3, 64 // stride, 96 // stride)
    single, _, _ = made.sequences(
        seen.of(torch.tensor([2])), made.text(made.text.tokenize([both[1].expressions[0].text]))
    )
    torch.testing.assert_close(single[-1].masks, found[-1].masks[2:3], atol=1e-4, rtol=1e-4)
    sum(made(made.collate(both)).values()).backward()
    assert all(p.grad is not None and p.grad.any() for p in made.finer.parameters())
    assert made.segment(queries.clip("a", 3, SIZE))[0].masks[Role.ACTOR].shape == (3, *SIZE)


@ALL
def test_every_weight_that_is_trained_has_a_gradient_and_a_rate(kind: type[QuerySystem]):
    made = queries.system(kind)
    sum(made(made.collate(samples()[:2])).values()).backward()
    idle = {name for name, p in made.named_parameters() if p.grad is None or not p.grad.any()}
    known = {
        Ifirvos: {f"text.roberta.pooler.dense.{n}" for n in ("weight", "bias")},  # pools words that saw the video
        Soc: {"decoder.0.layer.self_attn.v_proj.weight"},  # of queries that are empty
    }
    assert idle == known.get(kind, set())
    groups = made.parameter_groups(queries.RATES)
    assert sum(len(group["params"]) for group in groups) == len(list(made.parameters()))
    assert [group["lr"] for group in groups] == [1e-3, 0.5e-3]
    held = {id(p) for p in groups[1]["params"]}
    assert {n.split(".")[0] for n, p in made.named_parameters() if id(p) in held} == {"backbone", "text"}


@ALL
def test_fine_tuning_resumes_as_if_it_had_not_stopped(kind: type[QuerySystem], tmp_path: Path):
    clips = [queries.clip("a", 4, SIZE), queries.clip("bb", 5, SIZE), queries.clip("ccc", 4, (56, 80))]
    rates = queries.RATES

    def tuned(name: str, stop: int | None = None) -> dict[str, torch.Tensor]:
        made = queries.system(kind, dropout=0.1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(finetune, "fit", partial(loop.fit, stop_after=stop))
            training.train(made, clips, rates, 3, folder=tmp_path / name, seed=3)
        return made.state_dict()

    whole, half = tuned("whole"), tuned("twice", stop=2)
    again = tuned("twice")
    assert all(torch.equal(value, again[key]) for key, value in whole.items())
    assert not all(torch.equal(value, half[key]) for key, value in whole.items())


def test_training_is_in_float32_on_a_gpu_too(tmp_path: Path, monkeypatch):
    class Asked(Exception):
        pass

    def accelerator(**named):
        raise Asked(named["mixed_precision"])

    monkeypatch.setattr(loop, "Accelerator", accelerator)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(Asked, match="^no$"):
        training.train(queries.system(Soc), [queries.clip("a", 4, SIZE)], queries.RATES, 3, folder=tmp_path, seed=3)
    with pytest.raises(Asked, match="^bf16$"):
        loop.fit(torch.nn.Linear(1, 1), lambda *_: {}, [], queries.RATES, folder=tmp_path, seed=3)


@ALL
def test_segments_at_the_clips_own_size_over_all_frames(kind: type[QuerySystem]):
    made = queries.system(kind)
    clip = queries.clip("a", 5, (50, 75), ("the red dog", "the ball", "the dog that chases the ball"))
    found = made.segment(clip)
    assert [(p.clip_id, p.expression_id, list(p.masks)) for p in found] == [("a", e, [Role.ACTOR]) for e in "012"]
    assert all(p.masks[Role.ACTOR].shape == (5, 50, 75) and p.masks[Role.ACTOR].dtype == bool for p in found)
    (alone,) = made.segment(clip, clip.expressions[2:])
    assert np.array_equal(alone.masks[Role.ACTOR], found[2].masks[Role.ACTOR])  # whoever else is asked for
    assert made.segment(clip, []) == []


@ALL
def test_a_sentence_about_nothing_is_an_empty_mask_to_learn(kind: type[QuerySystem]):
    """Finite losses, which training makes less; there is no other way to say nothing."""
    made, clip = queries.system(kind), queries.clip("a", 3, SIZE)
    gone = Expression("9", "the green dog", "undefined", (NOTHING,))
    masks = {**clip.masks, NOTHING: [None] * 3}
    clip = replace(clip, expressions=(*clip.expressions, gone), masks=masks)
    sample = sampling.take(clip, (0, 1, 2), (2,))
    assert not sample.masks[Role.ACTOR].any()
    optimizer, costs = torch.optim.AdamW(made.parameters(), lr=2e-3), []
    for _ in range(12):
        terms = made(made.collate([sample]))
        costs.append(torch.stack(list(terms.values())).sum().item())
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
    assert np.isfinite(costs).all() and costs[-1] < costs[0]
    assert all(term.isfinite() for term in made(made.collate([sampling.take(clip, (0, 1, 2))])).values())


@ALL
def test_a_long_clip_is_seen_in_windows_and_answered_by_one_query(kind: type[QuerySystem], monkeypatch):
    made = queries.system(kind, window=2)
    seen = []
    see = made.see
    monkeypatch.setattr(made, "see", lambda frames: seen.append(frames.shape[1]) or see(frames))
    (found, *_) = made.segment(queries.clip("a", 5, SIZE))
    assert seen == [2, 1, 2] and found.masks[Role.ACTOR].shape == (5, *SIZE)


@pytest.mark.parametrize(
    ("frames", "size", "many"), [(8, (128, 128), 8), (36, (360, 640), 1), (5, (360, 640), 7), (36, (720, 1280), 1)]
)
def test_large_frames_are_read_with_fewer_sentences_at_once(frames: int, size: tuple[int, int], many: int):
    """The tiny profile's with eight, the papers' windows with one."""
    assert query.at_once(frames, size) == many


def test_sentences_are_read_so_many_at_once(monkeypatch):
    made, clip = queries.system(Soc), queries.clip("a", 3, SIZE, ("the red dog", "the ball", "the dog"))
    whole, asked, read = made.segment(clip), [], made._read
    monkeypatch.setattr(query, "PIXELS", 2 * 3 * 64 * 96)
    monkeypatch.setattr(made, "_read", lambda seen, texts: asked.append(len(texts)) or read(seen, texts))
    for one, other in zip(whole, made.segment(clip), strict=True):
        assert np.array_equal(one.masks[Role.ACTOR], other.masks[Role.ACTOR])
    assert asked == [2, 1]


@pytest.mark.parametrize(("kind", "count"), [(ReferFormer, 1), (Ifirvos, 8), (Soc, 2)])
def test_words_multiply_by_about_one_at_first(kind: type[QuerySystem], count: int):
    """PyTorch's output bias is 0, and a product with it nearly nothing."""
    torch.manual_seed(0)
    made = kind(queries.SIZES[kind], queries.tokenizer())
    fused = [part for part in made.modules() if isinstance(part, Multiply)]
    assert len(fused) == count
    for part in fused:
        x, others = torch.randn(2, 5, 16), torch.nn.functional.layer_norm(torch.randn(2, 3, 16), (16,))
        assert torch.equal(part.attention.out_proj.bias, torch.ones(16))
        assert (part(x, others, torch.zeros(1, 3, 16)) / x - 1).abs().mean() < 0.5


def test_windows_are_even():
    assert query.windows(5, 2) == [range(0, 2), range(2, 3), range(3, 5)]
    assert query.windows(36, 36) == [range(36)]
    assert [len(w) for w in query.windows(37, 36)] == [18, 19]
    assert [len(w) for w in query.windows(100, 36)] == [33, 34, 33]


def test_the_answer_is_the_query_with_the_best_mean_over_the_whole_clip():
    """Query 0 wins the first window, query 1 the clip; a mask is where the probability is above a half."""
    scores = [torch.tensor([[0.9, 0.6]]), torch.tensor([[0.1, 0.8], [0.2, 0.7]])]
    masks = [torch.full((n, 2, 1, 2), -1.0) for n in (1, 2)]
    masks[1][1, 1, 0, 1] = 5.0
    found, score = query.chosen(scores, masks, (2, 4))
    assert score == pytest.approx((0.6 + 0.8 + 0.7) / 3)
    assert found.shape == (3, 2, 4) and not found[:2].any()
    assert found[2].tolist() == [[False, True, True, True]] * 2  # logits -1, 1/2, 7/2, 5


def test_frames_are_brought_to_the_short_side_unless_the_long_one_forbids():
    assert query.batch.fit((720, 1280), 360, 640) == (360, 640)
    assert query.batch.fit((480, 480), 360, 640) == (360, 360)
    assert query.batch.fit((500, 2000), 360, 640) == (160, 640)


@ALL
@pytest.mark.slow
def test_overfits_one_clip(kind: type[QuerySystem]):
    """Two sentences about one InterShapes clip, told apart. Masks have stride 4: a right one is not exact."""
    clip = splits.to_clip(scenes.make_scene(tiny.data(96, 3), (0, 0, 1)), "a")
    different = {e.actor: i for i, e in enumerate(clip.expressions)}
    sample = sampling.take(clip, (0, 1, 2), tuple(different.values())[:2])
    torch.manual_seed(0)
    text = sizes.Text(hidden=32, layers=1, heads=2, ffn=48, vocabulary=128, positions=32)
    small = queries.SIZES[kind].model_copy(update={"dim": 32, "mask_channels": 8, "text": text, "short": 96})
    made = kind(small, queries.word_tokenizer(language.vocabulary()))
    optimizer = torch.optim.AdamW(made.parameters(), lr=2e-3, weight_decay=0.0)
    made.train()
    for _ in range(100):
        optimizer.zero_grad()
        sum(made(made.collate([sample])).values()).backward()
        torch.nn.utils.clip_grad_norm_(made.parameters(), 1.0)
        optimizer.step()
    made.eval()
    for i, prediction in enumerate(made.segment(clip, sample.expressions)):
        mask, true = prediction.masks[Role.ACTOR], sample.masks[Role.ACTOR]
        ious = [(mask & one).sum() / (mask | one).sum() for one in true]
        assert ious[i] > 0.4 and ious[1 - i] < 0.1
