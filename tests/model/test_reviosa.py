"""The whole model: what it trains, what it minimises (Eq. 7-8), what it predicts, and that all of it can be saved."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from huggingface_hub import ModelCard
from torch import Tensor

from reviosa_core import config, masks
from reviosa_core.data import sampling
from reviosa_core.intershapes import language, scenes, splits
from reviosa_core.model import losses, prompts, reviosa, segmenter
from reviosa_core.model.reviosa import FeatureCache, ReVIOSa
from reviosa_core.schema import NOTHING, Clip, DataError, Expression, Prediction, Role, Sample
from reviosa_core.training import finetune
from reviosa_core.weights import checkpoint, files, folders

P, WIDTH, S = tiny.GRID, 48, 64
WEIGHTS = config.LossWeights(ce=2.0, dice=0.5, aml=3.0, text=0.7, points=50)
AML = (1, (3, 0))
BOTH, ACTOR = tuple(Role), (Role.ACTOR,)


def model(roles: tuple[Role, ...] = BOTH, aml: tuple | None = AML, seed: int = 0, **kwargs) -> ReVIOSa:
    torch.manual_seed(seed)
    out = ReVIOSa(tiny.reader(lora=True), tiny.seeing(), roles, frames=3, aml=aml, weights=WEIGHTS, **kwargs)
    out.freeze()
    return out.eval()


def sample(name: str, t: int, size: tuple[int, int], directed: tuple[bool | None, ...], seed: int) -> Sample:
    """Random frames; one random rectangle a frame, expression and role. None: an expression about nothing."""
    rng = np.random.default_rng(seed)
    boxes = {role: np.zeros((len(directed), t, *size), dtype=bool) for role in Role}
    for e, due in enumerate(directed):
        for role in () if due is None else Role if due else ACTOR:
            for i in range(t):
                top, left = rng.integers(0, size[0] - 12), rng.integers(0, size[1] - 12)
                boxes[role][e, i, top : top + rng.integers(5, 12), left : left + rng.integers(5, 12)] = True
    words = rng.permutation(language.vocabulary())
    expressions = tuple(
        Expression(
            str(e),
            " ".join(words[3 * e : 4 * e + 3]),
            "single",
            (NOTHING,) if due is None else ("a",),
            ("b",) if due else None,
        )
        for e, due in enumerate(directed)
    )
    frames = rng.integers(0, 256, (t, *size, 3), dtype=np.uint8)
    return Sample(name, tuple(range(t)), frames, expressions, boxes)


def samples() -> list[Sample]:
    """Two clips that differ in length, size in pixels and number of expressions."""
    return [
        sample("one", 3, (40, 56), (True, False, True, False, True), 1),
        sample("two", 2, (36, 44), (False, True), 2),
    ]


# -- what is trained ---------------------------------------------------------------------------------------------------


def test_exactly_the_papers_parameters_are_trainable():
    own = model()
    found = {name for name, p in own.named_parameters() if p.requires_grad}
    language = "mllm.internvl.model.language_model"
    linears = [f"self_attn.{n}_proj" for n in "qkvo"] + [f"mlp.{n}_proj" for n in ("gate", "up", "down")]
    lora = {f"{language}.layers.{i}.{m}.lora_{ab}.default.weight" for i in range(3) for m in linears for ab in "AB"}
    heads = {f"{language}.embed_tokens.weight", "mllm.internvl.lm_head.weight"}
    projector = {f"projector.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")}
    decoder = {f"segmenter.decoder.{name}" for name, _ in own.segmenter.sam.sam_mask_decoder.named_parameters()}
    unused = {f"segmenter.decoder.conv_s{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")}
    assert unused < decoder
    assert found == lora | heads | projector | (decoder - unused)


def test_the_visual_projector_learns_where_the_profile_says_so_as_in_the_release():
    """The same losses; its gradient; and of two equal steps, frames are encoded in the first only."""
    frozen, own = model(cache_gb=0.1), model(cache_gb=0.1, visual_projector="trained")
    batch, name = own.collate(samples()), "mllm.internvl.model.multi_modal_projector."
    more = own.trained().keys() - frozen.trained().keys()
    assert more == {n for n, _ in own.named_parameters() if n.startswith(name)} != set()
    found = []
    for system in (frozen, own):
        torch.manual_seed(7)
        found.append(system.training_losses(batch))
    torch.testing.assert_close(found[1], found[0])
    torch.stack(list(found[1].values())).sum().backward()
    assert all(p.grad is not None and p.grad.any() for n, p in own.named_parameters() if n in more)
    own.mllm.unprojected = lambda *_: pytest.fail("seen twice")
    own.training_losses(batch)


@torch.no_grad()
def test_aml_of_the_prompted_frames_reads_no_other():
    own, (clip, _) = model(prompted="first"), samples()

    def aml(frames: str, masks: dict[Role, np.ndarray]) -> float:
        own.weights = WEIGHTS.model_copy(update={"aml_frames": frames})
        changed = Sample(clip.clip_id, clip.indices, clip.frames, clip.expressions, masks)
        return float(own.training_losses(own.collate([changed]))["aml"])

    later = {role: np.concatenate([m[:, :1], np.logical_not(m[:, 1:])], 1) for role, m in clip.masks.items()}
    assert aml("prompted", later) == aml("prompted", dict(clip.masks)) != aml("all", dict(clip.masks))
    assert aml("all", later) != aml("all", dict(clip.masks))
    own.prompted = "all"
    assert aml("prompted", dict(clip.masks)) == aml("all", dict(clip.masks))


def test_every_trainable_parameter_is_in_one_group_and_learns():
    own = model()
    rates = config.Train(
        frames='uniform',
        steps=1, clips=1, expressions=1, lr=1, decoder_lr=2, projector_lr=3, gradient_checkpointing=False,
        cache_gb=0, loss=WEIGHTS,
    )  # fmt: skip
    rate = {id(p): group["lr"] for group in own.parameter_groups(rates) for p in group["params"]}
    assert sum(len(g["params"]) for g in own.parameter_groups(rates)) == len(rate) == len(list(own.parameters()))
    torch.stack(list(own.training_losses(own.collate(samples())).values())).sum().backward()
    idle = set()
    for name, p in own.named_parameters():
        assert rate[id(p)] == {"mllm": 1, "segmenter": 2, "projector": 3}[name.split(".")[0]]
        if not p.requires_grad:
            assert p.grad is None, name
        elif p.grad is None or not p.grad.any():
            idle.add(".".join(name.split(".")[:3]))
    # Nothing in the loss asks for SAM2's quality and presence estimates: they stay as they were.
    # Of the three masks' own layers, those that were never the best have none either.
    masks_ = {"segmenter.decoder.output_hypernetworks_mlps"}
    assert idle - masks_ == {"segmenter.decoder.iou_prediction_head", "segmenter.decoder.pred_obj_score_head"}


def test_a_new_projector_says_there_is_something():
    """Its last bias is SAM2's own word for a point on an object."""
    own = model()
    assert torch.equal(own.projector[-1].bias, own.segmenter.sam.sam_prompt_encoder.point_embeddings[1].weight[0])


# -- what is minimised -------------------------------------------------------------------------------------------------


def everywhere(logits: Tensor, count: int, generator: object = None) -> Tensor:
    """Every pixel centre instead of random points."""
    line = (torch.arange(S) + 0.5) / S
    ys, xs = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([xs, ys], -1).flatten(0, 1).expand(len(logits), -1, 2)


def by_hand(own: ReVIOSa, batch: list[Sample]) -> dict[str, float]:
    """Eq. 7-8 for one expression at a time, nothing packed, attention from whole matrices."""
    ce = dice = text = tokens = 0.0
    aml: dict[Role, list[float]] = {role: [] for role in own.roles}
    language, roles, chat = own.mllm.language, own.roles, own.mllm.template
    for clip in batch:
        frames = torch.from_numpy(clip.frames)
        visual, sam = own.mllm.see(frames), own.segmenter.see(frames)
        prefix = own.mllm.prefix_ids(len(frames))
        for e, expression in enumerate(clip.expressions):
            turn = own.mllm.turn(chat.question(expression.text), chat.answer(expression, roles))
            ids = torch.tensor([[*prefix, *turn.question, *turn.answer]])
            inputs = own.mllm.embed(ids, [visual])
            language.set_attn_implementation("eager")
            out = language(inputs_embeds=inputs, use_cache=False, output_attentions=True)
            language.set_attn_implementation("sdpa_with_row_tap")
            hidden = out.last_hidden_state[0]
            logp = own.mllm.internvl.lm_head(hidden).log_softmax(-1)
            start = len(prefix) + len(turn.question)
            text -= sum(float(logp[start - 1 + i, token]) for i, token in enumerate(turn.answer))
            tokens += len(turn.answer)
            for role in roles:
                if expression.is_about_nothing or (role is Role.TARGET and expression.target is None):
                    continue
                (place,) = (ids[0] == own.mllm.role_ids[role]).nonzero()[:, 0].tolist()
                truth = clip.masks[role][e]
                shown = range(1) if own.prompted == "first" else range(len(frames))
                for t in shown:
                    logits, _ = own.segmenter.decode(sam[[t]], own.projector(hidden[place])[None])
                    one = losses.mask_losses(
                        own.segmenter.upsample(logits, (S, S)),
                        segmenter.to_square(torch.from_numpy(truth[[t]]), S),
                        points=0,
                    )
                    ce, dice = ce + float(one[0]) / len(shown), dice + float(one[1]) / len(shown)
                cover = torch.from_numpy(masks.area_resize(truth, (P, P)))
                by_head = []
                for head in AML[1]:
                    seen = out.attentions[AML[0]][0, head, place, ids[0] == own.mllm.context_id]
                    seen = seen.view(len(frames), P, P)
                    by_head.append(float(-(cover * seen.log() + (1 - cover) * (1 - seen).log()).mean()))
                aml[role].append(sum(by_head) if own.weights.aml_heads == "sum" else np.mean(by_head))
    count = sum(not e.is_about_nothing for clip in batch for e in clip.expressions)
    return {
        "ce": WEIGHTS.ce * ce / count,
        "dice": WEIGHTS.dice * dice / count,
        "aml": WEIGHTS.aml * sum(sum(a) / (len(a) if own.weights.aml_over == "rows" else count) for a in aml.values()),
        "text": WEIGHTS.text * text / tokens,
    }


@pytest.mark.parametrize(("roles", "prompted"), [(BOTH, "all"), (BOTH, "first"), (ACTOR, "all")])
@torch.no_grad()
def test_losses_equal_those_of_one_expression_at_a_time(monkeypatch, roles, prompted):
    monkeypatch.setattr(losses, "uncertain_points", everywhere)
    own, batch = model(roles, prompted=prompted), samples()
    found = {name: float(term) for name, term in own.training_losses(own.collate(batch)).items()}
    assert found == pytest.approx(by_hand(own, batch), rel=1e-4)


def test_trains_in_half_precision_as_on_a_gpu():
    """Under autocast every term is float32 and near the exact one, and reaches all that is trained."""
    own, batch = model(prompted="all"), samples()
    given = own.collate(batch)
    exact = {name: float(term.detach()) for name, term in own.training_losses(given).items()}
    with torch.autocast("cpu", torch.bfloat16):
        terms = own.training_losses(given)
    assert {term.dtype for term in terms.values()} == {torch.float32}
    torch.stack(list(terms.values())).sum().backward()
    unmoved = {name for name, p in own.trained().items() if p.grad is None}
    assert all("iou_prediction_head" in name or "pred_obj_score_head" in name for name in unmoved), unmoved
    assert all(p.grad.isfinite().all() for p in own.trained().values() if p.grad is not None)
    for name in ("text", "aml"):  # the masks' points are drawn anew
        assert terms[name].item() == pytest.approx(exact[name], rel=0.02) and terms[name].item() != exact[name]


@pytest.mark.gpu
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_gpu_trains_as_a_cpu(monkeypatch, checkpointing: bool):
    """Losses and gradients in float32; then finite ones under autocast. Points are drawn where both draw alike."""
    drawn = losses.uncertain_points

    def points(logits: Tensor, *rest) -> Tensor:
        torch.manual_seed(0)
        return drawn(logits.cpu(), *rest).to(logits.device)

    monkeypatch.setattr(losses, "uncertain_points", points)
    found = {}
    for device in ("cpu", "cuda"):
        own = model(prompted="all").to(device).train()
        if checkpointing:
            own.mllm.checkpoint_gradients()
        terms = own.training_losses(own.collate(samples()))
        torch.stack(list(terms.values())).sum().backward()
        gradients = {name: p.grad.cpu() for name, p in own.trained().items() if p.grad is not None}
        found[device] = {name: term.detach().cpu() for name, term in terms.items()}, gradients
        if device == "cuda":
            with torch.autocast("cuda", torch.bfloat16):
                half = own.training_losses(own.collate(samples()))
            torch.stack(list(half.values())).sum().backward()
            assert all(p.grad.isfinite().all() for p in own.trained().values() if p.grad is not None)
    for here, there in zip(found["cuda"], found["cpu"], strict=True):
        torch.testing.assert_close(here, there, atol=3e-3, rtol=3e-3)


@torch.no_grad()
def test_aml_as_in_eq_6_and_as_released(monkeypatch):
    """Sum or mean over heads; over all expressions, or over each role's own rows."""
    monkeypatch.setattr(losses, "uncertain_points", everywhere)
    own, batch, found = model(), samples(), {}
    for heads in ("sum", "mean"):
        for over in ("expressions", "rows"):
            own.weights = WEIGHTS.model_copy(update={"aml_heads": heads, "aml_over": over})
            found[heads, over] = float(own.training_losses(own.collate(batch))["aml"])
            assert found[heads, over] == pytest.approx(by_hand(own, batch)["aml"], rel=1e-4)
    assert found["sum", "rows"] == pytest.approx(len(AML[1]) * found["mean", "rows"], rel=1e-5)
    assert found["sum", "rows"] > 1.1 * found["sum", "expressions"], "not every expression has a target"


@torch.no_grad()
def test_aml_reads_each_mask_with_its_own_attention():
    """Swapping two expressions' masks, the roles', or two frames' moves the AML, and the text not at all."""
    own, (clip, _) = model(), samples()

    def terms(change: Callable[[dict[Role, np.ndarray]], dict[Role, np.ndarray]]) -> tuple[float, float]:
        changed = Sample(clip.clip_id, clip.indices, clip.frames, clip.expressions, change(dict(clip.masks)))
        found = own.training_losses(own.collate([changed]))
        return float(found["aml"]), float(found["text"])

    aml, text = terms(lambda m: m)
    for change in (
        lambda m: {role: m[role][[2, 1, 0, 3, 4]] for role in Role},
        lambda m: {Role.ACTOR: np.where(m[Role.TARGET].any((1, 2, 3), keepdims=True), m[Role.TARGET], m[Role.ACTOR]),
                   Role.TARGET: np.where(m[Role.TARGET].any((1, 2, 3), keepdims=True), m[Role.ACTOR], False)},
        lambda m: {role: m[role][:, [1, 0, 2]] for role in Role},
    ):  # fmt: skip
        other = terms(change)
        assert abs(other[0] - aml) > 1e-5 and other[1] == text


@torch.no_grad()
def test_only_the_terms_asked_for():
    batch = samples()
    without = model(aml=None)
    assert set(without.training_losses(without.collate(batch))) == {"ce", "dice", "text"}
    single = model(ACTOR)
    assert set(single.training_losses(single.collate(batch))) == {"ce", "dice", "text", "aml"}


@torch.no_grad()
def test_a_system_without_the_target_role_never_sees_a_target():
    own, (clip, _) = model(ACTOR), samples()
    batch = own.collate([clip])
    assert set(batch.masks) == set(batch.patch_masks) == {Role.ACTOR}
    assert (batch.packed.ids != own.mllm.role_ids[Role.TARGET]).all()
    assert (batch.packed.ids == own.mllm.role_ids[Role.ACTOR]).sum() == 5


@torch.no_grad()
def test_clips_without_any_target_are_fine(monkeypatch):
    monkeypatch.setattr(losses, "uncertain_points", everywhere)
    own, batch = model(), [sample("none", 2, (40, 56), (False, False, False), 5)]
    found = {name: float(term) for name, term in own.training_losses(own.collate(batch)).items()}
    assert found == pytest.approx(by_hand(own, batch), rel=1e-4)


def honest(own: ReVIOSa) -> ReVIOSa:
    """Says of nothing what the tests' tokenizer has words for."""
    own.mllm.template = replace(own.mllm.template, nothing="Sure.")
    return own


def some_about_nothing() -> list[Sample]:
    return [
        sample("some", 3, (40, 56), (None, True, False, None, True), 1),
        sample("none", 2, (36, 44), (None, None), 2),
    ]


def about_something(clip: Sample) -> Sample:
    kept = [e for e, said in enumerate(clip.expressions) if not said.is_about_nothing]
    found = {role: m[kept] for role, m in clip.masks.items()}
    return Sample(clip.clip_id, clip.indices, clip.frames, tuple(clip.expressions[e] for e in kept), found)


@pytest.mark.parametrize(("roles", "over"), [(BOTH, "expressions"), (BOTH, "rows"), (ACTOR, "expressions")])
@torch.no_grad()
def test_what_is_about_nothing_is_learnt_from_its_text_alone(monkeypatch, roles, over):
    """Masks and AML are averaged as if it were not there; Sa2VA-style, with one role, too."""
    monkeypatch.setattr(losses, "uncertain_points", everywhere)
    own, batch = honest(model(roles)), some_about_nothing()
    own.weights = WEIGHTS.model_copy(update={"aml_over": over})
    found = {name: float(term) for name, term in own.training_losses(own.collate(batch)).items()}
    assert found == pytest.approx(by_hand(own, batch), rel=1e-4)
    rest = [about_something(batch[0])]
    without = {name: float(term) for name, term in own.training_losses(own.collate(rest)).items()}
    assert found.pop("text") != pytest.approx(without.pop("text"), rel=1e-3)
    assert found == pytest.approx(without, rel=1e-4)
    ids = own.collate(batch).packed.ids
    assert (ids == own.mllm.role_ids[Role.ACTOR]).sum() == 3, "one token for each that is about something"


@torch.no_grad()
def test_what_is_about_nothing_draws_no_random_number():
    """Neither points of masks nor words: whatever comes after is as if it were not there."""
    own, states = model(), []
    for batch in (some_about_nothing(), [about_something(some_about_nothing()[0])]):
        rng = np.random.default_rng(5)
        own.mllm.template = prompts.chat("qwen_chat", "reviosa")
        honest(own)
        asked = [own.mllm.template.answer(e, BOTH, rng) for clip in batch for e in clip.expressions]
        assert sum("[SEG_ACT]" in answer for answer in asked) == 3
        torch.manual_seed(7)
        own.training_losses(own.collate(batch))
        states.append((torch.get_rng_state().tolist(), rng.bit_generator.state))
    assert states[0] == states[1]


def test_a_batch_about_nothing_trains_the_text():
    own, (_, nothing) = honest(model()), some_about_nothing()
    assert list(own.training_losses(own.collate(samples()))) == ["ce", "dice", "text", "aml"]
    terms = own.training_losses(own.collate([nothing]))
    assert list(terms) == ["ce", "dice", "text", "aml"] and terms["text"].item() > 0
    assert [terms[name].item() for name in ("ce", "dice", "aml")] == [0, 0, 0]
    torch.stack(list(terms.values())).sum().backward()
    moved = {name for name, p in own.trained().items() if p.grad is not None and p.grad.any()}
    assert any("lora_" in name for name in moved) and not any("decoder" in name for name in moved)
    assert all(p.grad.isfinite().all() for p in own.trained().values() if p.grad is not None)


def test_collate_keeps_each_axis_where_it_belongs():
    own, batch = model(), samples()
    out = own.collate(batch)
    assert [m.shape for m in out.masks[Role.TARGET]] == [(5, 3, 40, 56), (2, 2, 36, 44)]
    assert [m.shape for m in out.patch_masks[Role.ACTOR]] == [(5, 3, P, P), (2, 2, P, P)]
    quarter = batch[0].masks[Role.ACTOR][4, 2, 10:20, 14:28]  # cell (1, 1) of 4 x 4
    assert out.patch_masks[Role.ACTOR][0][4, 2, 1, 1].item() == pytest.approx(quarter.mean())


def test_a_model_without_loss_weights_is_for_inference():
    own = model()
    own.weights = None
    with pytest.raises(ValueError, match="no loss weights"):
        own.training_losses(own.collate(samples()))


def test_a_role_token_that_is_not_there_is_an_error_with_both_numbers(monkeypatch):
    own = model()
    silent = lambda chat, e, roles, rng: "Sure." if e.id == "1" else "[SEG_ACT]"  # noqa: E731
    monkeypatch.setattr(prompts.Template, "answer", silent)
    with pytest.raises(ValueError, match=r"5 \[SEG_ACT\] states for 7 masks in \['one', 'two'\]"):
        own.training_losses(own.collate(samples()))


# -- the feature cache -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompted", ["first", "all"])
@torch.no_grad()
def test_the_cache_changes_no_loss_and_spares_every_second_look(monkeypatch, prompted):
    monkeypatch.setattr(losses, "uncertain_points", everywhere)
    cached, plain = model(prompted=prompted, cache_gb=0.01), model(prompted=prompted)
    seen = {"tower": 0, "sam": 0}

    def count(name: str, inside: Callable) -> Callable:
        def counted(frames: Tensor) -> object:
            seen[name] += len(frames)
            return inside(frames)

        return counted

    for part, name in ((cached.mllm, "tower"), (cached.segmenter, "sam")):
        monkeypatch.setattr(part, "see", count(name, part.see))
    batch = cached.collate(samples())
    first, second, want = (m.training_losses(batch) for m in (cached, cached, plain))
    assert seen == {"tower": 5, "sam": {"first": 2, "all": 5}[prompted]}  # every frame once
    assert first == second == want


@pytest.mark.parametrize("prompted", ["first", "all"])
@pytest.mark.parametrize("cache_gb", [0.0, 0.01])
def test_a_step_passes_every_frame_through_each_encoder_once(cache_gb, prompted):
    """Counted inside the encoders, in a whole training step, so with or without a cache."""
    own, seen = model(prompted=prompted, cache_gb=cache_gb).train(), {"tower": 0, "sam": 0}
    tower, sam = own.mllm.internvl.model.vision_tower, own.segmenter.sam.image_encoder
    tower.register_forward_pre_hook(
        lambda _, args, kwargs: seen.update(tower=seen["tower"] + len(kwargs.get("pixel_values", *args))),
        with_kwargs=True,
    )
    sam.register_forward_pre_hook(lambda _, args: seen.update(sam=seen["sam"] + len(args[0])))
    torch.stack(list(own.training_losses(own.collate(samples())).values())).sum().backward()
    assert seen == {"tower": 5, "sam": {"first": 2, "all": 5}[prompted]}


def test_on_a_gpu_neighbours_of_one_shape_are_seen_together_and_on_a_cpu_one_by_one(monkeypatch):
    made = model(prompted="all")
    frames = [torch.from_numpy(sample(str(i), *shape, (True,), i).frames) for i, shape in enumerate(SHAPES)]
    for device, limit, due in (
        ("cpu", 100, [[0], [1], [3], [4], [5]]),
        ("cuda", 100, [[0, 1], [3], [4, 5]]),  # the second is another shape's, the third is not asked for
        ("cuda", 6, [[0, 1], [3], [4], [5]]),  # frames at once
        ("cuda", 1, [[0], [1], [3], [4], [5]]),
    ):
        monkeypatch.setattr(reviosa, "PIXELS", limit * made.segmenter.image_size**2)
        with monkeypatch.context() as patch:
            patch.setattr(type(made.mllm), "device", torch.device(device))
            assert list(made._at_once([0, 1, 3, 4, 5], frames)) == due
    together, alone = list(made._see(frames[4:])), [next(iter(made._see([each]))) for each in frames[4:]]
    assert [[x.shape for x in found] for found in together] == [[x.shape for x in found] for found in alone]
    for found, own in zip(together, alone, strict=True):
        for x, y in zip(found, own, strict=True):
            torch.testing.assert_close(x, y, atol=1e-4, rtol=1e-4)
            assert x.untyped_storage().nbytes() == x.nbytes  # what the cache counts is what it holds


SHAPES = [(3, (40, 56)), (3, (40, 56)), (3, (40, 56)), (3, (36, 44)), (4, (36, 44)), (4, (36, 44))]


def test_the_cache_is_bounded_and_forgets_the_least_recently_used():
    cache, asked = FeatureCache(100 / 2**30), []

    def get(key: str, size: int = 40) -> None:
        if cache.get(key) is None:
            asked.append(key)
            cache.keep(key, (torch.zeros(size, dtype=torch.uint8), torch.zeros(2)))

    get("a")
    get("b")
    get("a")  # b is now the older one
    assert asked == ["a", "b"] and cache.held == 96
    get("c")
    get("a")
    assert asked == ["a", "b", "c"] and cache.held == 96
    get("b")
    assert asked == ["a", "b", "c", "b"] and set(cache.store) == {"a", "b"}
    get("huge", 93)  # 101 bytes: never kept, and nothing else goes for it
    get("a")
    assert asked == ["a", "b", "c", "b", "huge"] and cache.held == 96


def test_no_cache_keeps_nothing():
    cache = FeatureCache(0.0)
    cache.keep("a", (torch.zeros(3),))
    assert not cache.store and cache.held == 0 and cache.get("a") is None


@pytest.mark.parametrize("clips", [0.5, 1, 2, 3])
def test_a_batch_may_hold_more_than_the_cache(clips: float):
    """What is new in a batch pushes out what the same batch has found."""
    made, plain = model(prompted="all"), model(prompted="all")
    four = [sample(name, 3, (40, 56), (True, False), seed) for seed, name in enumerate("abcd")]
    made.cache = FeatureCache(1.0)
    made._seen(made.collate(four[:1]))
    made.cache = FeatureCache((clips * made.cache.held + 1) / 2**30)
    for names in ("ab", "ca", "dcab", "aa"):
        batch = [four["abcd".index(name)] for name in names]
        for found, due in zip(made._seen(made.collate(batch)), plain._seen(plain.collate(batch)), strict=True):
            assert len(found) == len(due) == len(names)
            for x, y in zip(found, due, strict=True):
                torch.testing.assert_close(getattr(x, "stride16", x), getattr(y, "stride16", y))
        assert made.cache.held == sum(t.nbytes for value in made.cache.store.values() for t in value)
        assert made.cache.held <= made.cache.limit


# -- segmenting --------------------------------------------------------------------------------------------------------

TARGETED = Expression("7", "the red circle pushes the star", "unidirectional", ("a",), ("b",))
PLAIN = Expression("8", "the square", "single", ("a",))
SILENT = Expression("9", "all objects", "multi", ("a",))
ASKED = (PLAIN, TARGETED, SILENT)
ANSWERS = ("Sure, it is [SEG_ACT].", "Sure, it is [SEG_ACT] and [SEG_TAR].", "Sure.")


def clip(t: int = 6) -> Clip:
    frames = np.random.default_rng(4).integers(0, 256, (t, 40, 56, 3), dtype=np.uint8)
    boxes = {}
    for i, key in enumerate("ab"):
        box = np.zeros((40, 56), dtype=bool)
        box[5 : 15 + 8 * i, 20 - 9 * i : 40] = True
        boxes[key] = [masks.encode(box)] * t
    return Clip("clip", frames, tuple(map(str, range(t))), (40, 56), ASKED, boxes)


def speaking(roles: tuple[Role, ...] = BOTH, **kwargs) -> ReVIOSa:
    """Writes ANSWERS to ASKED about clip(), with prompts that differ strongly between tokens."""
    own = model(roles, **kwargs)
    keys = sampling.frame_indices(6, 3)
    with torch.no_grad():
        visual = own.mllm.see(torch.from_numpy(clip().frames[list(keys)]))
        tiny.taught(own.mllm, visual, [own.mllm.template.question(e.text) for e in ASKED], ANSWERS)
        own.projector[-1].weight.mul_(5)
    return own


@pytest.mark.parametrize("prompted", ["first", "all"])
def test_a_segmented_clip_has_a_mask_for_every_role_and_frame(prompted):
    own = speaking(prompted=prompted)
    found = own.segment(clip(), ASKED)
    assert [p.expression_id for p in found] == ["8", "7", "9"] and {p.clip_id for p in found} == {"clip"}
    assert [p.answer for p in found] == ["Sure , it is [SEG_ACT] .", "Sure , it is [SEG_ACT] and [SEG_TAR] .", "Sure ."]
    assert [p.written for p in found] == [{Role.ACTOR}, {Role.ACTOR, Role.TARGET}, set()]
    for prediction in found:
        assert set(prediction.masks) == {Role.ACTOR, Role.TARGET}
        for mask in prediction.masks.values():
            assert mask.shape == (6, 40, 56) and mask.dtype == bool
    assert not found[0].masks[Role.TARGET].any()  # no token: predicted empty
    assert not any(mask.any() for mask in found[2].masks.values())
    # What is prompted is what decode says, at the clip's own size.
    answers = own.mllm.write(
        own.mllm.see(torch.from_numpy(clip().frames[[0, 2, 5]])), [own.mllm.template.question(e.text) for e in ASKED]
    )
    for t in (0,) if prompted == "first" else (0, 2, 5):
        features = own.segmenter.see(torch.from_numpy(clip().frames[[t]]))
        for row, role in ((0, Role.ACTOR), (1, Role.ACTOR), (1, Role.TARGET)):
            with torch.no_grad():
                logits, _ = own.segmenter.decode(features, own.projector(answers[row].states[role])[None])
            want = (own.segmenter.upsample(logits, (40, 56)) > 0)[0].numpy()
            assert (found[row].masks[role][t] != want).mean() < 0.002
            assert 0 < want.mean()


def test_of_a_sentence_about_nothing_nothing_is_drawn_or_looked_at():
    own, said = honest(speaking()), replace(SILENT, caption_type="undefined", actor=(NOTHING,))
    gone = replace(clip(), expressions=(said,), masks={NOTHING: [None] * 6})
    (found,) = own.segment(gone)
    assert found.written == set() and not any(mask.any() for mask in found.masks.values())
    assert own.attention(gone) == {}
    mixed = replace(clip(), expressions=(PLAIN, said), masks={**clip().masks, NOTHING: [None] * 6})
    assert set(own.attention(mixed)) == {("8", Role.ACTOR)}


def whole(own: ReVIOSa, clip: Clip) -> dict[tuple[str, Role], np.ndarray]:
    """Masks by a path that holds all features of the clip at once."""
    keys, seg = sampling.frame_indices(len(clip), own.frames), own.segmenter
    visual = own.mllm.see(torch.from_numpy(np.stack([clip.frames[i] for i in keys])))
    answers = own.mllm.write(visual, [own.mllm.template.question(e.text) for e in clip.expressions])
    named = {(e.id, r): a.states[r] for e, a in zip(clip.expressions, answers, strict=True) for r in a.states}
    features = segmenter.FrameFeatures.cat([seg.see(torch.tensor(clip.frames[t])[None]) for t in range(len(clip))])
    prompt, decoded = own.prompt(torch.stack(list(named.values()))), {}
    for key in keys[:1] if own.prompted == "first" else keys:
        decoded[key], _ = seg.decode(features[[key] * len(prompt)], prompt)
    given = {key: seg.upsample(d, (seg.image_size,) * 2) > 0 for key, d in decoded.items()}
    logits = torch.stack(
        [dict(seg.carry(lambda t: features[t : t + 1], len(clip), given))[t].logits for t in range(len(clip))], 1
    )
    for key, d in decoded.items():
        logits[:, key] = d
    return {owner: (seg.upsample(track, clip.size) > 0).numpy() for owner, track in zip(named, logits, strict=True)}


@torch.no_grad()
@pytest.mark.parametrize("prompted", ["first", "all"])
def test_run_lengths_are_the_masks_of_the_whole_clip_at_once(prompted):
    own, long = speaking(prompted=prompted), clip(t=22)
    frames = np.concatenate([clip().frames[[0]], long.frames[1:10], clip().frames[[2]], long.frames[11:21]])
    long = Clip("clip", np.concatenate([frames, clip().frames[[5]]]), long.frame_names, long.size, ASKED, long.masks)
    want, found = whole(own, long), own.run_lengths(long)
    assert len(want) == 3 and all(0 < mask.mean() < 1 for mask in want.values())
    for prediction, dense in zip(found, own.segment(long), strict=True):
        for role, rles in prediction.masks.items():
            mask = want.get((prediction.expression_id, role), np.zeros((22, 40, 56), bool))
            assert np.array_equal(masks.decode_all(rles, (40, 56)), mask), "bit for bit"
            assert np.array_equal(dense.masks[role], mask)


def test_how_sure_it_is_by_token_and_frame():
    own = speaking(prompted="first")
    plain, targeted, silent = own.run_lengths(clip())
    for prediction in (plain, targeted, silent):
        for role, sure in prediction.confidence.items():
            assert sure.iou.shape == sure.present.shape == sure.frames.shape == (6,)
            if role in prediction.written:  # the tiny decoder is as good as certain of what it was taught
                assert (
                    sure.token > 0.5
                    and (sure.iou > 0).all()
                    and sure.present == pytest.approx([1 / (1 + np.exp(-2))] * 6)
                )
                assert sure.frames == pytest.approx(sure.token * sure.iou * sure.present)
            else:
                assert 0 < sure.token < 0.5 and not sure.iou.any() and not sure.frames.any()
    assert plain.confidence[Role.ACTOR].iou[0] != plain.confidence[Role.ACTOR].iou[3]


def test_every_frame_is_encoded_once_for_all_expressions_and_roles(monkeypatch):
    own, seen = speaking(), {"tower": 0, "sam": 0}
    encoder = own.segmenter.sam.image_encoder
    inside = own.mllm.internvl.model.get_image_features
    monkeypatch.setattr(
        own.mllm.internvl.model, "get_image_features", lambda x: seen.update(tower=seen["tower"] + len(x)) or inside(x)
    )
    encoder.register_forward_pre_hook(lambda _, args: seen.update(sam=seen["sam"] + len(args[0])))
    own.segment(clip(), ASKED)
    assert seen == {"tower": 3, "sam": 6}


def same(a: list[Prediction], b: list[Prediction]) -> bool:
    return all(
        x.answer == y.answer
        and x.masks.keys() == y.masks.keys()
        and all((x.masks[r] == y.masks[r]).all() for r in x.masks)
        for x, y in zip(a, b, strict=True)
    )


def test_an_expression_alone_is_segmented_as_among_others():
    own = speaking()
    together = own.segment(clip(), ASKED)
    assert any(m.any() and not m.all() for p in together for m in p.masks.values())
    for expression, want in zip(ASKED, together, strict=True):
        (alone,) = own.segment(clip(), (expression,))
        assert alone.answer == want.answer
        for role in BOTH:
            assert (alone.masks[role] != want.masks[role]).mean() < 0.002


def test_an_unsupported_role_is_no_key():
    found = speaking(ACTOR).segment(clip(), ASKED)
    assert [set(p.masks) for p in found] == [{Role.ACTOR}] * 3 and all(p.written <= {Role.ACTOR} for p in found)


def test_a_clip_shorter_than_k_frames_is_segmented():
    found = model().segment(clip(t=2), (PLAIN,))
    assert found[0].masks[Role.ACTOR].shape == (2, 40, 56)


def test_attention_gives_every_layer_and_head_by_expression_and_role():
    own = model()
    maps = own.attention(clip())
    assert set(maps) == {("7", Role.ACTOR), ("7", Role.TARGET), ("8", Role.ACTOR), ("9", Role.ACTOR)}
    assert {key: {layer: m.shape for layer, m in layers.items()} for key, layers in maps.items()} == {
        key: {layer: (4, 3, P, P) for layer in range(3)} for key in maps
    }
    some = own.attention(clip(), layers=(2,))
    assert set(some["8", Role.ACTOR]) == {2}
    assert np.array_equal(some["7", Role.TARGET][2], maps["7", Role.TARGET][2])
    assert not np.allclose(maps["7", Role.TARGET][2], maps["7", Role.ACTOR][2])


# -- saving and loading ------------------------------------------------------------------------------------------------


def test_saved_and_loaded_predicts_the_same(tmp_path):
    own = speaking(prompted="first")
    folders.save(own, tmp_path, {"note": "test"})
    again = folders.read(tmp_path)
    assert not again.training and again.weights is None
    assert (again.roles, again.aml, again.prompted, again.frames) == (BOTH, AML, "first", 3)
    assert again.state_dict().keys() == own.state_dict().keys()
    assert all(torch.equal(value, own.state_dict()[name]) for name, value in again.state_dict().items())
    assert same(again.segment(clip(), ASKED), own.segment(clip(), ASKED))
    assert json.loads((tmp_path / "reviosa.json").read_text())["card"] == {"note": "test"}


def test_a_baseline_comes_back_as_one(tmp_path):
    folders.save(model(ACTOR, aml=None), tmp_path)
    again = folders.read(tmp_path)
    assert (again.roles, again.aml) == (ACTOR, None)


def test_the_card_says_what_is_known(tmp_path):
    facts = {"license": "mit", "base_model": ["InternVL2_5-1B", "sam2_hiera_large.pt"], "datasets": "data/tiny/train"}
    own = model()
    folders.save(own, tmp_path, facts | {"run_id": "abc", "git_commit": "0123", "metrics": {"J&F": 58.0}})
    text = (tmp_path / "README.md").read_text()
    assert facts.items() <= ModelCard(text).data.to_dict().items()
    assert "- run id: abc\n- git commit: 0123\n" in text and "| J&F | 58.0 |" in text
    assert f"{sum(t.numel() for t in own.state_dict().values()):,} parameters" in text
    assert json.loads((tmp_path / "reviosa.json").read_text())["card"]["run_id"] == "abc"
    folders.save(own, tmp_path)
    assert "license" not in (tmp_path / "README.md").read_text(), "what is not known is not said"


def test_a_folder_of_another_format_is_refused(tmp_path):
    folders.save(model(), tmp_path)
    about = json.loads((tmp_path / "reviosa.json").read_text())
    for change, message in [
        ({"format": "reviosa-workbook 1"}, "format 'reviosa-workbook 1', this version reads 'reviosa-workbook 2'"),
        ({"format": "reviosa-workbook 3"}, "format 'reviosa-workbook 3', this version reads 'reviosa-workbook 2'"),
        ({"roles": ["agent"]}, r"reviosa\.json: roles\.0: "),
        ({"sam2": {"_target_": "os.system"}}, r"sam2\._target_: Input should be 'sam2.*got 'os\.system'"),
    ]:
        (tmp_path / "reviosa.json").write_text(json.dumps(about | change))
        with pytest.raises(DataError, match=message):
            folders.read(tmp_path)


def test_a_smaller_save_leaves_nothing_of_a_larger_one(tmp_path, monkeypatch):
    own = model()
    monkeypatch.setattr(
        "reviosa_core.weights.files.Weights.write", partialmethod(files.Weights.write, shard_bytes=300_000)
    )
    folders.save(own, tmp_path)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert all(torch.equal(v, own.state_dict()[k]) for k, v in folders.read(tmp_path).state_dict().items())
    monkeypatch.undo()
    folders.save(own, tmp_path)
    assert [path.name for path in tmp_path.glob("model*")] == ["model.safetensors"]


@pytest.mark.parametrize("name", ["reviosa.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(tmp_path, name):
    folders.save(model(), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises((FileNotFoundError, DataError), match=f"no {name}"):
        folders.read(tmp_path)


def test_weights_of_other_sizes_are_an_error_that_names_a_tensor(tmp_path):
    folders.save(model(), tmp_path)
    about = json.loads((tmp_path / "reviosa.json").read_text())
    about["lora"]["rank"] = 5
    (tmp_path / "reviosa.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match=r"lora_A\.default\.weight is \(3, \d+\), .* of the model is \(5, \d+\)"):
        folders.read(tmp_path)


# -- from backbones ----------------------------------------------------------------------------------------------------


def settings(**changes) -> config.Train:
    return config.Train(
        frames='uniform',
        **{
            "steps": 1, "clips": 1, "expressions": 3, "lr": 3e-3, "decoder_lr": 2e-3, "projector_lr": 2e-3,
            "gradient_checkpointing": False, "cache_gb": 0.1, "loss": WEIGHTS, "weight_decay": 0.0, **changes,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder, backbone = tmp_path_factory.mktemp("backbones"), tiny.reader(roles=False)
    folders.save_internvl(folder, backbone.internvl, backbone.tokenizer)
    folders.save_sam2(folder, tiny.seeing().sam)
    return folder


def join(folder: Path, experiment: str = "full", **changes) -> ReVIOSa:
    roles, aml = (ACTOR if experiment == "baseline" else BOTH), experiment == "full"
    return checkpoint.from_backbones(
        folder, tiny.SIZES, config.Experiment(roles=roles, aml=aml), seed=3, aml=AML, settings=settings(**changes)
    )


def test_backbones_are_joined_unchanged_and_the_new_parts_follow_the_seed(backbones):
    torch.manual_seed(0)
    backbone = tiny.reader(roles=False).internvl.half().float().state_dict()
    one, two = join(backbones), join(backbones)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters(), strict=True))
    found = {name.replace("base_layer.", ""): value for name, value in one.mllm.internvl.state_dict().items()}
    for name, value in backbone.items():
        assert torch.equal(found[name][: len(value)], value), name
    assert len(found["lm_head.weight"]) == len(backbone["lm_head.weight"]) + 2
    assert {name for name in found.keys() - backbone.keys() if "lora_" not in name} == set()
    assert one.aml == AML and join(backbones, "baseline").aml is None


def test_aml_without_a_selected_layer_is_an_error(backbones):
    with pytest.raises(ValueError, match="no layer and heads were selected"):
        checkpoint.from_backbones(
            backbones, tiny.SIZES, config.Experiment(roles=BOTH, aml=True), seed=0, aml=None, settings=settings()
        )


def test_gradient_checkpointing_changes_no_gradient(backbones, monkeypatch):
    monkeypatch.setattr(losses, "uncertain_points", everywhere)
    found = []
    for checkpointing in (False, True):
        own = join(backbones, gradient_checkpointing=checkpointing).train()
        assert own.mllm.language.is_gradient_checkpointing == checkpointing
        assert pickle.dumps(own), "as it is sent to the other processes"
        torch.stack(list(own.training_losses(own.collate(samples())).values())).sum().backward()
        found.append({name: p.grad for name, p in own.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name in found[0]:
        torch.testing.assert_close(found[1][name], found[0][name], atol=1e-6, rtol=1e-4)


@pytest.mark.slow
def test_one_clip_can_be_overfitted(backbones, tmp_path):
    """Both voices of one interaction: answers right, and each role's mask on the right object, though SAM2's frozen
    encoder knows nothing."""
    data = tiny.data(64, 3, objects=(2, 2), two_pairs=0, lookalikes=0, no_interaction=0)
    scene = splits.to_clip(scenes.make_scene(data, (0, 0, 2)), "one")
    directed = {e.actor: e for e in scene.expressions if e.is_interaction}  # one in which each is the actor
    assert len(directed) == 2
    one = Clip(scene.id, scene.frames, scene.frame_names, scene.size, tuple(directed.values()), scene.masks)
    weights = config.LossWeights(ce=2, dice=2, aml=1, text=1, points=300)
    rates = settings(steps=500, decoder_lr=5e-3, projector_lr=5e-3, loss=weights)
    own, history = join(backbones), []
    finetune.fine_tune(
        own, [one], rates, frames=3, folder=tmp_path, seed=0, log=lambda metrics, _: history.append(metrics)
    )
    print(history[0], history[-1], sep="\n")
    for name, share in {"ce": 0.3, "dice": 0.4, "text": 0.1, "aml": 0.7}.items():
        assert history[-1][name] < share * history[0][name], name
    overlaps = []
    for expression, prediction in zip(one.expressions, own.segment(one, one.expressions), strict=True):
        assert prediction.answer == "Sure , it is [SEG_ACT] and [SEG_TAR] ."
        for role, keys in ((Role.ACTOR, expression.actor), (Role.TARGET, expression.target)):
            truth, guess = masks.union(one, keys)[0], prediction.masks[role][0]
            overlaps.append((truth & guess).sum() / (truth | guess).sum())
    print(overlaps)
    assert min(overlaps) > 0.5 and np.mean(overlaps) > 0.7
