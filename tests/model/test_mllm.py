"""Prompts survive the tokenizer, features land where they belong, and answers equal plain greedy decoding."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch import Tensor

from reviosa_core.config import Lora
from reviosa_core.model import attention, mllm, packing, pixels, prompts
from reviosa_core.schema import Expression, Role

T, P, WIDTH = 3, tiny.GRID, 48
PASSIVE = Expression("0", "The red circle is being pushed.", "unidirectional", ("1",), ("0",))
QUESTIONS = ["the red circle", "Please segment the blue star .", "it"]


@pytest.fixture
def model() -> mllm.Mllm:
    return tiny.reader()


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_special_tokens_stay_whole_and_prompts_come_back(model):
    chat = model.template
    text = chat.user + chat.frames(2, 3) + chat.question("the red circle")
    ids = model.encode(text + chat.assistant + chat.answer(PASSIVE, tuple(Role)) + chat.end)
    words = model.tokenizer.convert_ids_to_tokens(ids)
    image = ["<img>", *["<IMG_CONTEXT>"] * 3, "</img>"]
    assert words == [
        "<|im_start|>", "user", "Frame1", ":", *image, "Frame2", ":", *image,
        "Please", "segment", "the", "red", "circle", ".", "<|im_end|>", "<|im_start|>", "assistant",
        "Sure", ",", "it", "is", "[SEG_ACT]", "and", "[SEG_TAR]", ".", "<|im_end|>",
    ]  # fmt: skip
    assert model.tokenizer.decode(ids).split() == words
    assert model.tokenizer.unk_token_id not in ids


def test_each_special_token_has_one_id_of_its_own(model):
    tokens = [*prompts.TOKENS.values(), "<img>", "</img>", "<IMG_CONTEXT>", "<|im_start|>", "<|im_end|>"]
    ids = [model.encode(token) for token in tokens]
    assert all(len(i) == 1 for i in ids) and len({i[0] for i in ids}) == len(tokens)
    assert model.role_ids == {Role.ACTOR: ids[0][0], Role.TARGET: ids[1][0]}
    assert (model.context_id, model.end_ids) == (ids[4][0], ids[6])


def test_an_unknown_token_is_named(model):
    with pytest.raises(ValueError, match=r"no token '\[SEG_OBJ\]'"):
        model.token_id("[SEG_OBJ]")
    assert tiny.reader(roles=False).role_ids == {}


@pytest.mark.parametrize(
    ("roles", "target", "answer"),
    [
        (tuple(Role), ("0",), "Sure, it is [SEG_ACT] and [SEG_TAR]."),
        (tuple(Role), None, "Sure, it is [SEG_ACT]."),
        ((Role.ACTOR,), ("0",), "Sure, it is [SEG_ACT]."),
    ],
)
def test_the_target_is_written_only_where_due(roles, target, answer):
    one = Expression("0", "a", "unidirectional", ("1",), target)
    for name in ("qwen_chat", "phi3_chat"):
        assert prompts.TEMPLATES[name].answer(one, roles) == answer
    short = answer.removeprefix("Sure, ").removesuffix(".")
    assert prompts.TEMPLATES["tiny_chat"].answer(one, roles) == f"{short} ."


def test_questions_are_clean():
    assert prompts.TEMPLATES["qwen_chat"].question(" The Red  circle.\n") == "Please segment the red circle."


def test_role_tokens_start_as_what_a_place_follows_where_a_backbone_answers_with_places():
    tokenizer = mllm.word_tokenizer([*mllm.template_words(1), prompts.place(0)])
    internvl = mllm.build(tiny.SIZES.mllm, tokenizer)
    words = {role: tokenizer.convert_tokens_to_ids(word) for role, word in prompts.BEFORE.items()}
    before = internvl.model.language_model.get_input_embeddings().weight.detach().clone()
    mllm.add_role_tokens(internvl, tokenizer)
    rows = internvl.model.language_model.get_input_embeddings().weight
    for role, token in prompts.TOKENS.items():
        torch.testing.assert_close(rows[tokenizer.convert_tokens_to_ids(token)], before[words[role]])
    assert len({*words.values(), tokenizer.unk_token_id}) == 3
    mllm.add_role_tokens(other := mllm.build(tiny.SIZES.mllm, tokenizer), tokenizer, "random")
    rows = other.model.language_model.get_input_embeddings().weight
    for role, token in prompts.TOKENS.items():
        assert not torch.equal(rows[tokenizer.convert_tokens_to_ids(token)], rows[words[role]])


@torch.no_grad()
def test_what_is_seen_is_the_projection_of_what_is_unprojected():
    reader, frames = tiny.reader(), torch.randint(256, (3, 20, 30, 3), dtype=torch.uint8)
    held = reader.unprojected(frames)
    assert held.shape == (3, tiny.GRID, tiny.GRID, 4 * tiny.SIZES.mllm.vision.hidden)
    assert torch.equal(reader.project(held), reader.see(frames))


@pytest.mark.parametrize("template", prompts.TEMPLATES.values(), ids=lambda t: t.name)
def test_every_reply_has_the_words_before_the_tokens(template):
    due = Expression("0", "a pushes b", "unidirectional", ("1",), ("2",))
    words = template.answer(due, tuple(Role)).split()
    for role, token in prompts.TOKENS.items():
        assert words[words.index(next(w for w in words if w.startswith(token))) - 1] == prompts.BEFORE[role]


def test_role_tokens_get_rows_and_move_no_other():
    tokenizer = tiny.tokenizer()
    internvl, old = mllm.build(tiny.SIZES.mllm, tokenizer), len(tokenizer)
    embeddings, head = (m.weight.detach().clone() for m in (internvl.get_input_embeddings(), internvl.lm_head))
    mllm.add_role_tokens(internvl, tokenizer)
    new = internvl.get_input_embeddings().weight, internvl.lm_head.weight
    assert [w.shape for w in new] == [(old + 2, WIDTH)] * 2 and len(tokenizer) == old + 2
    assert torch.equal(new[0][:old], embeddings) and torch.equal(new[1][:old], head)
    assert new[0].data_ptr() != new[1].data_ptr() and not torch.equal(new[0], new[1])  # untied
    assert new[0][old:].std() > 0 and not torch.equal(new[0][old], new[0][old + 1])


def test_lora_goes_on_every_layer_of_the_language_model_only():
    internvl = mllm.build(tiny.SIZES.mllm, tiny.tokenizer())
    mllm.add_lora(internvl, Lora(rank=3, alpha=6, dropout=0.0))
    found = {name.split(".lora_")[0] for name, _ in internvl.named_parameters() if "lora_" in name}
    attention_, ffn = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
    names = [f"self_attn.{n}" for n in attention_] + [f"mlp.{n}" for n in ffn]
    assert found == {f"model.language_model.layers.{i}.{name}" for i in range(3) for name in names}


# -- frames ------------------------------------------------------------------------------------------------------------


def test_normalise_golden():
    frames = torch.full((2, 3, 5, 3), 255, dtype=torch.uint8)
    frames[1] = 0
    out = pixels.normalise(frames, 7)
    assert out.shape == (2, 3, 7, 7)
    white = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    black = [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    want = torch.tensor([white, black])
    torch.testing.assert_close(out, want[..., None, None].expand(2, 3, 7, 7), atol=1e-5, rtol=1e-5)
    assert pixels.normalise(frames[None], 7).shape == (1, 2, 3, 7, 7)


def test_each_frame_is_seen_by_itself_and_rows_are_rows(model):
    frames = torch.randint(0, 256, (T, 32, 32, 3), dtype=torch.uint8)
    seen = model.see(frames)
    assert seen.shape == (T, P, P, WIDTH)
    for t in range(T):
        torch.testing.assert_close(model.see(frames[t : t + 1])[0], seen[t], atol=1e-5, rtol=1e-4)
    # A change in the top right corner of a frame is felt most in the top right token.
    changed = frames.clone()
    changed[1, :8, 24:] = 255 - changed[1, :8, 24:]
    moved = (model.see(changed) - seen).norm(dim=-1)
    assert moved[0].max() == moved[2].max() == 0
    assert moved.argmax() == torch.arange(T * P * P).view(T, P, P)[1, 0, 3]


def test_features_are_scattered_in_order_and_attention_maps_gather_them_back(model):
    """Position (t, p, q) of a map is the token see() returned there: features give each place its own value, and an
    attention row that reports its key's value must draw the same picture."""
    lengths = (2, 3)
    features = [torch.rand(t, P, P, WIDTH) + torch.arange(t * P * P).view(t, P, P, 1) + 100 * t for t in lengths]
    turns = [[model.turn("it", "[SEG_ACT] .")], [model.turn("the star", "[SEG_ACT] and [SEG_TAR]")]]
    packed = packing.pack([model.prefix_ids(t) for t in lengths], turns, model.tokenizer.pad_token_id)
    embedded = model.embed(packed.ids, features)
    text = packed.ids != model.context_id
    assert torch.equal(embedded[text], model.language.get_input_embeddings()(packed.ids)[text])

    heads = torch.tensor([1.0, 10.0])
    queries = torch.tensor([[1, 60], [0, 40], [1, 58]])
    tap = attention.RowTap(queries, {2: (0, 1)}, {2: embedded[queries[:, 0], :, 0][:, None] * heads[:, None]})
    groups = list(model.attention_maps(packed, tap, layer=2, frames=lengths))
    assert [own for own, _ in groups] == [[0, 2], [1]]  # by length
    for own, maps in groups:
        for row, found in zip(own, maps, strict=True):
            assert torch.equal(found, features[queries[row, 0]][..., 0] * heads.view(2, 1, 1, 1))


def test_attention_maps_keep_what_goes_to_the_text_out(model):
    packed = packing.pack([model.prefix_ids(T)], [[model.turn("it", "[SEG_ACT]")]], 0)
    where, _ = packed.find(model.role_ids[Role.ACTOR])
    tap = attention.RowTap(where, {1: None})
    model(packed, [torch.randn(T, P, P, WIDTH)], row_tap=tap)
    ((own, (found,)),) = model.attention_maps(packed, tap, 1, [T])
    assert own == [0] and found.shape == (4, T, P, P)
    assert (found.sum((1, 2, 3)) < 0.999).all()  # not renormalised
    text = tap.rows[1][0, :, packed.ids[0] != model.context_id].sum(1)
    torch.testing.assert_close(found.sum((1, 2, 3)) + text, torch.ones(4))


@pytest.mark.parametrize("frames", [2, 4])
def test_the_wrong_number_of_features_is_an_error_with_both_numbers(model, frames):
    ids = torch.tensor([model.prefix_ids(T)])
    with pytest.raises(ValueError, match=f"{T * P * P} image tokens in the prompt for {frames * P * P} visual"):
        model.embed(ids, [torch.zeros(frames, P, P, WIDTH)])


def test_text_loss_is_the_mean_over_answer_tokens(model):
    packed = packing.pack([[1, 2], [1]], [[packing.Turn([3], [4, 5])], [packing.Turn([6, 7], [8])]], 0)
    hidden = torch.randn(2, 5, WIDTH)
    logp = model.internvl.lm_head(hidden).log_softmax(-1)
    want = -(logp[0, 2, 4] + logp[0, 3, 5] + logp[1, 2, 8]) / 3
    torch.testing.assert_close(model.text_loss(packed, hidden), want)


# -- writing -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def greedy(model: mllm.Mllm, features: Tensor, question: str, max_tokens: int) -> tuple[str, dict[Role, Tensor]]:
    """The answer by reading everything anew for each token: no cache, no padding, one question."""
    ids = model.prefix_ids(len(features)) + list(model.turn(question).question)
    start = len(ids)

    def hidden() -> Tensor:
        inputs = model.embed(torch.tensor([ids]), [features])
        return model.language(inputs_embeds=inputs, use_cache=False).last_hidden_state[0]

    while len(ids) - start < max_tokens and (len(ids) == start or ids[-1:] != model.end_ids):
        ids.append(int(model.internvl.lm_head(hidden()[-1]).argmax()))
    states, answer = {}, hidden()[start:]
    for token, state in zip(ids[start:], answer, strict=True):
        for role, role_id in model.role_ids.items():
            if token == role_id:
                states.setdefault(role, state)
    return model.tokenizer.decode([i for i in ids[start:] if i not in model.end_ids]).strip(), states


@pytest.fixture(scope="module")
def features() -> Tensor:
    return torch.randn(T, P, P, WIDTH, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def writer(features) -> mllm.Mllm:
    torch.manual_seed(0)
    answers = ["Sure , it is [SEG_ACT] .", "it is [SEG_ACT] and [SEG_TAR] . [SEG_ACT]", "Sure ."]
    return tiny.taught(tiny.reader(), features, QUESTIONS, answers)


@pytest.mark.parametrize("max_tokens", [12, 4, 1])
def test_written_answers_and_states_equal_plain_greedy_decoding(writer, features, max_tokens):
    answers = writer.write(features, QUESTIONS, max_tokens)
    assert len(answers) == 3
    for question, answer in zip(QUESTIONS, answers, strict=True):
        text, states = greedy(writer, features, question, max_tokens)
        assert answer.text == text
        assert answer.states.keys() == states.keys()
        for role, state in states.items():
            assert answer.states[role].shape == (WIDTH,)
            torch.testing.assert_close(answer.states[role], state, atol=1e-5, rtol=1e-4)


def test_answers_end_and_a_role_that_was_not_written_has_no_state(writer, features):
    answers = writer.write(features, QUESTIONS)
    assert [a.text for a in answers] == [
        "Sure , it is [SEG_ACT] .",
        "it is [SEG_ACT] and [SEG_TAR] . [SEG_ACT]",
        "Sure .",
    ]
    assert [set(a.states) for a in answers] == [{Role.ACTOR}, {Role.ACTOR, Role.TARGET}, set()]
    assert not torch.allclose(answers[0].states[Role.ACTOR], answers[1].states[Role.ACTOR], atol=0.1)


def test_max_tokens_is_kept_and_the_last_token_still_has_a_state(writer, features):
    answers = writer.write(features, QUESTIONS, max_tokens=3)
    assert [a.text for a in answers] == ["Sure , it", "it is [SEG_ACT]", "Sure ."]
    assert [set(a.states) for a in answers] == [set(), {Role.ACTOR}, set()]
    full = writer.write(features, QUESTIONS)[1].states[Role.ACTOR]
    torch.testing.assert_close(answers[1].states[Role.ACTOR], full, atol=1e-5, rtol=1e-4)


def test_nothing_written_after_the_end_counts(writer, features):
    """A row that is done is still fed, and would write [SEG_TAR] here (see `tiny.taught`)."""
    alone, together = writer.write(features, QUESTIONS[2:])[0], writer.write(features, QUESTIONS)[2]
    assert (alone.text, dict(alone.states)) == (together.text, dict(together.states)) == ("Sure .", {})


def test_one_question_alone_is_answered_as_among_others(writer, features):
    together = writer.write(features, QUESTIONS)
    for question, want in zip(QUESTIONS, together, strict=True):
        (alone,) = writer.write(features, [question])
        assert alone.text == want.text and alone.states.keys() == want.states.keys()
        for role in want.states:
            torch.testing.assert_close(alone.states[role], want.states[role], atol=1e-5, rtol=1e-4)
