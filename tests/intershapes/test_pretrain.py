"""What the backbones are taught: the targets are what the scene shows, and every word of them can be written."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tiny
import torch

from reviosa_core import config
from reviosa_core.intershapes import world
from reviosa_core.intershapes.pretrain import clips, grounding, internvl, sam2, watching
from reviosa_core.intershapes.pretrain.reading import ACTOR, NAME, TARGET, LookingPretraining, ReadingPretraining
from reviosa_core.intershapes.scenes import make_scene
from reviosa_core.model import attention, mllm, prompts, segmenter
from reviosa_core.training import loop

GRID, SHOWN = 6, (0, 2, 5)
SETTINGS = tiny.data(64, 6, objects=(4, 5), two_pairs=0.5, lookalikes=0.5, no_interaction=0.0)


@pytest.fixture(scope="module")
def scenes() -> list[world.Scene]:
    return [make_scene(SETTINGS, (0, world.SPLITS["pretrain"], i)) for i in range(40)]


@pytest.fixture(scope="module")
def reader() -> mllm.Mllm:
    tokenizer = mllm.word_tokenizer(grounding.words(GRID, len(SHOWN)))
    sizes = tiny.SIZES.mllm.model_copy(update={"image_size": 48, "patch_size": 4})
    torch.manual_seed(0)
    return mllm.Mllm(mllm.build(sizes, tokenizer), tokenizer)


def test_every_word_is_in_the_vocabulary(scenes, reader):
    unknown = reader.tokenizer.unk_token_id
    for scene in scenes:
        clip = grounding.ground(scene, GRID, SHOWN)
        for utterance in clip.utterances:
            assert unknown not in reader.encode(utterance.text), utterance.text
        for tags in (*clip.looks, *clip.deeds):
            assert all(reader.token_id(word) for word in tags)
    assert reader.encode(prompts.place(35)) == [reader.token_id(prompts.place(35))], "a place is one token"


def test_ground_says_what_the_labels_show(scenes):
    scene = next(s for s in scenes if s.interactions and s.interactions[0].directed)
    clip = grounding.ground(scene, GRID, SHOWN)
    assert clip.coverage.shape == (len(scene.shapes), len(SHOWN), GRID, GRID)
    for k in range(len(scene.shapes)):
        for row, t in enumerate(SHOWN):
            share = (scene.labels[t] == k + 1).mean()
            np.testing.assert_allclose(clip.coverage[k, row].mean(), share, atol=1e-6)
            x, y = np.clip(scene.centres[k, t], 0, 0.999)
            assert clip.cells[k][row] == int(y * GRID) * GRID + int(x * GRID)
    event = scene.interactions[0]
    assert clip.deeds[event.a][1].endswith("ing") and clip.deeds[event.b][1] != clip.deeds[event.a][1]
    named = {u.text: u.actor for u in clip.utterances if u.text == f"the {' '.join(clip.looks[event.a])}"}
    assert all(event.a in objects for objects in named.values()) and named


def absent(scene: world.Scene) -> list[world.Utterance]:
    return [u for u in scene.utterances if not all(phrase.objects for phrase in u.phrases)]


def reading_of(reader: mllm.Mllm, scenes: list[world.Scene]) -> ReadingPretraining:
    phase = config.Phase(steps=1, batch=2, lr=1e-3, muon_lr=1e-3)
    grounded, features = internvl.see(reader, scenes, len(SHOWN), seed=0)
    return ReadingPretraining(watching.WatchingPretraining(reader, grounded, features, phase, seed=0), phase)


def test_everything_asked_for_is_learned(scenes, reader):
    """A few steps on two clips, one of which tells of somebody who is not there: every term goes down."""
    reading = reading_of(reader, [scenes[0], next(s for s in scenes if absent(s))])
    optimizer = torch.optim.AdamW([p for p in reading.parameters() if p.requires_grad], lr=3e-3)
    both, before = np.arange(2), None
    for _ in range(25):
        terms, hits = reading.read(both, np.random.default_rng(0))
        before = before or {name: float(term.detach()) for name, term in terms.items()}
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    assert set(terms) == set(reading.weights)
    assert all(float(term.detach()) < 0.95 * before[name] for name, term in terms.items()), (before, terms)
    assert set(hits) == {"actor found", "target found", "roles swapped", "single found", "target foreseen"}


def test_what_follows_a_name_can_read_what_it_means(scenes, reader, monkeypatch):
    """Names are asked before the last layer, whose states no later word sees; answers are asked of the last."""
    reading, depths = reading_of(reader, [next(s for s in scenes if absent(s))]), reader.depths
    nobody = tuple(u for u in reading.clips[0].utterances if not all(phrase.objects for phrase in u.phrases))
    reading.clips = [dataclasses.replace(reading.clips[0], utterances=nobody)]

    def terms(changed: int | None) -> dict[str, float]:
        def other(*args, **kwargs):
            found = list(depths(*args, **kwargs))
            return [state + 1 if i - len(found) == changed else state for i, state in enumerate(found)]

        monkeypatch.setattr(reader, "depths", other)
        with torch.no_grad():
            return {k: float(v) for k, v in reading.read(np.array([0]), np.random.default_rng(0))[0].items()}

    as_it_is, last, before = terms(None), terms(-1), terms(-2)
    for term in ("places of names", "nowhere"):
        assert last[term] == as_it_is[term] != before[term], term
    assert last["places"] != as_it_is["places"] == before["places"]


def test_every_weight_has_one_optimizer_and_matrices_of_layers_muon(scenes, reader):
    sam = segmenter.build(tiny.SIZES.segmenter)
    phase = config.Phase(steps=1, batch=1, lr=2e-3, muon_lr=3e-3)
    for module, muons, others in (
        (
            reading_of(reader, scenes[:1]),
            ("q_proj", "down_proj", "fc1"),
            ("where", "track", "lm_head", "embed", "norm"),
        ),
        (sam, ("attn.qkv", "memory_attention.layers.0.linear1"), ("pos_embed", "patch_embed", "mask_tokens", "bias")),
    ):
        muon, adamw = (
            {id(p) for group in optimizer.param_groups for p in group["params"]}
            for optimizer in clips.optimizers(module, phase)
        )
        named = {name: id(p) for name, p in module.named_parameters() if p.requires_grad}
        assert muon | adamw == set(named.values()) and not muon & adamw
        for parts, own in ((muons, muon), (others, adamw)):
            for part in parts:
                found = [i for name, i in named.items() if part in name and ("bias" in name) == (part == "bias")]
                assert found and own.issuperset(found), part
    first, second = clips.optimizers(sam, phase)
    assert isinstance(first, torch.optim.Muon) and (first.defaults["lr"], second.param_groups[0]["lr"]) == (3e-3, 2e-3)


@pytest.mark.parametrize("dies", ["watching", "reading"])
def test_interrupted_and_resumed_equals_uninterrupted(scenes, root, tmp_path, monkeypatch, dies):
    phases = config.load(root / "params.yaml").profiles["smoke"].pretrain

    def pretrained(folder) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        tokenizer = mllm.word_tokenizer(grounding.words(GRID, len(SHOWN)))
        sizes = tiny.SIZES.mllm.model_copy(update={"image_size": 48, "patch_size": 4})
        model = mllm.Mllm(mllm.build(sizes, tokenizer), tokenizer)
        internvl.pretrain_mllm(model, scenes[:8], scenes[:8], phases, len(SHOWN), folder, 0)
        return model.state_dict()

    def dying(*args, label, **kwargs):
        loop.fit(*args, label=label, **kwargs, stop_after=1 if dies in label else None)
        if dies in label:
            raise KeyboardInterrupt

    whole = pretrained(tmp_path / "whole")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(internvl, "fit", dying)
        pretrained(tmp_path / "parts")
    torch.manual_seed(1)
    parts = pretrained(tmp_path / "parts")
    assert all(torch.equal(parts[name], value) for name, value in whole.items())


def test_watching_knows_what_was_where(reader):
    """Two equal clips but for the way one object went: states that hold its cells have the smaller loss."""
    grid, frames, width = reader.grid, 3, reader.width
    coverage = np.zeros((1, frames, grid, grid), np.float32)
    cells = ((0, 7, 14),)
    for frame, cell in enumerate(cells[0]):
        coverage[0, frame].flat[cell] = 1
    clip = grounding.Grounded(coverage, (("red", "circle"),), (("right", "pushing"),), cells, ())
    features = torch.zeros(1, frames, grid, grid, width)
    learner = watching.WatchingPretraining(
        reader, [clip], features, config.Phase(steps=1, batch=1, lr=1e-3, muon_lr=1e-3), seed=0
    )
    with torch.no_grad():
        learner.track.weight.zero_()
        bias = learner.track.bias.view(frames, grid * grid).zero_()
        bias[0, 0] = bias[1, 7] = 20.0  # where it was in frames 0 and 1: right for every later token
        states = torch.zeros(1, frames, grid, grid, width)
        right = learner._tracks(states, [clip])
        bias[0, 0], bias[0, 1] = 0.0, 20.0
        wrong = learner._tracks(states, [clip])
    assert right < 1e-3 and wrong > 10


def test_deeds_are_asked_of_the_later_frames_only(scenes, reader, monkeypatch):
    reading = reading_of(reader, [next(s for s in scenes if s.interactions[0].directed)])
    clip, asked = reading.clips[0], []
    monkeypatch.setattr(watching, "tag_loss", lambda logits, target, background: asked.append(target) or logits.sum())
    reading.watching._words(torch.zeros(1, len(SHOWN), GRID, GRID, reader.width), [clip])
    deeds = [reader.token_id(word) for own in clip.deeds for word in own]
    looks = [reader.token_id(word) for own in clip.looks for word in own]
    early = len(SHOWN) // 2
    assert asked[0][0, :early, ..., looks].any() and not asked[0][0, :early, ..., deeds].any()
    assert asked[0][0, early:, ..., looks].any() and asked[0][0, early:, ..., deeds].any()


def test_nobody_tells_attention_where_to_go(scenes, reader, monkeypatch):
    """As in InternVL: states are asked, attention is not even looked at."""
    monkeypatch.setattr(attention.RowTap, "__init__", lambda *_: pytest.fail("pretraining reads attention"))
    terms, _ = reading_of(reader, scenes[:4]).read(np.arange(4), np.random.default_rng(0))
    assert terms.keys() == ReadingPretraining.weights.keys()


def test_looking_asks_attention_of_two_layers_and_nothing_else_of_others(scenes, reader):
    """A study's term: it goes down when it is trained on, and the other terms are those without it."""
    plain = reading_of(reader, scenes[:2])
    told = LookingPretraining(plain.watching, plain.phase, weight=0.5)
    told.where.load_state_dict(plain.where.state_dict())
    both = np.arange(2)
    terms, others = (m.read(both, np.random.default_rng(0))[0] for m in (told, plain))
    assert terms.keys() - others.keys() == {"looking"} and told.weights["looking"] == 0.5
    torch.testing.assert_close({k: terms[k] for k in others}, others)
    attending = [layer.self_attn for layer in reader.language.layers]
    grads = torch.autograd.grad(terms["looking"], [a.q_proj.weight for a in attending], allow_unused=True)
    asked = {told.watching.middle, len(attending) - 1}
    moved = {i for i, g in enumerate(grads) if g is not None and g.any()}
    assert asked <= moved, "and what lies below them"
    optimizer = torch.optim.AdamW([p for p in told.parameters() if p.requires_grad], lr=3e-3)
    for _ in range(15):
        optimizer.zero_grad()
        told.read(both, np.random.default_rng(0))[0]["looking"].backward()
        optimizer.step()
    assert told.read(both, np.random.default_rng(0))[0]["looking"] < 0.9 * terms["looking"].detach()


@torch.no_grad()
def test_a_new_language_model_reads_what_another_sees():
    one, other = tiny.reader(roles=False), tiny.reader(roles=False)
    frames = torch.randint(256, (2, 24, 24, 3), dtype=torch.uint8)
    assert not torch.equal(other.see(frames), one.see(frames))
    internvl.take_sight(other, one.internvl)
    assert torch.equal(other.see(frames), one.see(frames))
    assert not any(p.requires_grad for p in other.internvl.model.vision_tower.parameters())
    assert all(p.requires_grad for p in other.language.parameters())


def test_what_is_meant_are_the_words_of_what_is_seen(scenes, reader):
    """Of each sentence, every word for the actor is among the words of the actor's own visual tokens."""
    reading, seen = reading_of(reader, scenes), 0
    for clip in reading.clips:
        for utterance in clip.utterances:
            roles = [(ACTOR, utterance.actor), (TARGET, utterance.target)]
            for what, objects in roles:
                if objects is None:
                    continue
                words = set(reading._words_for(utterance, what))
                assert words, utterance.text
                own = [{*clip.looks[k], *clip.deeds[k]} for k in objects]
                said = words - set(world.HEADINGS)  # a heading is the way of one moment, not of the whole clip
                assert said <= set.union(*own), (utterance.text, words, own)
                if utterance.level == "object" and utterance.target is not None:
                    seen += 1
                    other = utterance.target if what == ACTOR else utterance.actor
                    assert not words <= {*clip.looks[other[0]], *clip.deeds[other[0]]}, "the deed tells the roles apart"
    assert seen > 20


def test_a_state_is_asked_at_the_word_it_is_about(scenes, reader):
    """The last word of a name; "is" and the actor's first place; "and" and the target's first place; and whether there
    will be a target, at "is" already."""
    clip = grounding.ground(next(s for s in scenes if s.interactions[0].directed), GRID, SHOWN)
    reading = reading_of(reader, scenes[:1])
    utterance = next(u for u in clip.utterances if u.target is not None)
    turn, start = reading._turn(clip, utterance), 7
    words = ["x"] * start + reader.tokenizer.convert_ids_to_tokens([*turn.question, *turn.answer])
    asks = reading._asks(clip, utterance, 0, 0, start, len(turn.question))
    names = [words[a.position] for a in asks if a.what == NAME]
    assert names == [utterance.text.split()[p.stop - 1] for p in utterance.phrases]
    actor, target = (clip.cells[objects[0]][0] for objects in (utterance.actor, utterance.target))
    assert [words[a.position] for a in asks if a.what == ACTOR] == ["is", prompts.place(actor)]
    assert [words[a.position] for a in asks if a.what == TARGET] == ["is", "and", prompts.place(target)]
    assert [a.early for a in asks if a.what == TARGET] == [True, False, False]


def test_who_is_not_there_is_nowhere(scenes, reader):
    """Every sentence about an absent partner asks for nobody twice: at the partner's name, and before the answer."""
    reading = reading_of(reader, scenes)
    cases = [(clip, u) for scene, clip in zip(scenes, reading.clips, strict=True) for u in absent(scene)]
    assert len(cases) > 10
    for clip, utterance in cases:
        asks = reading._asks(clip, utterance, 0, 0, 0, len(reading._turn(clip, utterance).question))
        nobody = [ask for ask in asks if not ask.objects]
        assert [ask.what for ask in nobody] == [NAME, TARGET]
        assert not any(ask.meant for ask in nobody) and {ask.what for ask in asks} == {0, 1, 2}
        places = torch.zeros(len(asks), reading.where.out_features // 3)
        truth = places.clone()
        truth[:, 0], places[:, -1] = 1.0, 1.0
        truth[[not ask.objects for ask in asks]] = places[0]
        assert reading._hits(places, truth, asks)["target foreseen"] == 1
        assert reading._hits(truth.flip(1), truth, asks)["target foreseen"] == 0


@pytest.mark.parametrize("frames", [1, 3])
def test_segmenter_losses_are_finite_and_reach_every_part(scenes, frames):
    torch.manual_seed(0)
    sam = segmenter.build(tiny.SIZES.segmenter).train()
    phase = config.Phase(steps=1, batch=2, lr=1e-3, muon_lr=1e-3)
    for micro in range(4):  # every kind of prompt
        terms = sam2._segmenter_losses(sam, micro, scenes, phase, 0, 2, frames)
        assert set(terms) == {"mask", "iou", "presence"}
        torch.stack(list(terms.values())).sum().backward()
    silent = {n for n, p in sam.named_parameters() if p.grad is None or not p.grad.any()}
    parts = {name.split(".")[0] for name in silent}
    assert "image_encoder" not in parts
    assert any(p.grad is not None and p.grad.any() for p in sam.memory_attention.parameters()) == (frames > 1)
