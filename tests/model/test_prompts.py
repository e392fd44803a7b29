"""Prompts to the last token: what each chat says in each wording, what may be drawn, and that a checkpoint keeps to its
own."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import made
import numpy as np
import pytest
import tiny
import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from reviosa_core import config
from reviosa_core.data import sampling
from reviosa_core.intershapes import scenes, splits
from reviosa_core.model import mllm, prompts
from reviosa_core.model.reviosa import ReVIOSa
from reviosa_core.schema import NOTHING, Clip, DataError, Expression, Role, Sample
from reviosa_core.training import finetune
from reviosa_core.weights import checkpoint, folders, layouts
from reviosa_core.weights.convert import convert

BOTH = tuple(Role)
DUE = Expression("0", "The red circle is being pushed.", "unidirectional", ("1",), ("0",))
ONE = Expression("0", "the blue star", "single", ("1",))
GONE = Expression("0", "the green star", "undefined", (NOTHING,))
I = "<img>" + 9 * "<IMG_CONTEXT>" + "</img>"  # noqa: E741 - made's models have 3 x 3 tokens a frame
CHATS = {
    "qwen_chat": ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>"),
    "phi3_chat": ("<|user|>\n", "<|end|>\n<|assistant|>\n", "<|end|>"),
}
POSTFIX = " If both a subject and an object are present, please segment them separately and output both masks."
FRAMES = {  # labelled or not, by the number of frames
    True: {1: f"Frame1: {I}", 3: f"Frame1: {I}\nFrame2: {I}\nFrame3: {I}"},
    False: {1: I, 3: f"{I}\n{I}\n{I}"},
}
SAID = {  # between the frames and the assistant
    "labelled": "\nPlease segment the red circle is being pushed.",
    "unlabelled": "\nPlease segment the red circle is being pushed.",
    "sa2va": "Please segment the red circle is being pushed in this image.",
    "reviosa": "Please segment the red circle is being pushed in this image." + POSTFIX,
}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = made.write_internvl(tmp_path_factory.mktemp("prompts") / "released")
    made.add_reviosa(folder)
    return folder


@pytest.fixture(scope="module")
def model(released: Path) -> ReVIOSa:
    return checkpoint.load_reviosa(released, configuration=made.SAM2, frames=2)


def ids_of(text: str) -> list[int]:
    """Ids by made's vocabulary, worked out here: special tokens whole, all else a byte each."""
    names = [{"[SEG]": "[SEG_ACT]", "[SEG_OBJ]": "[SEG_TAR]"}.get(name, name) for name in made.SPECIALS]
    found = []
    for part in re.split("(" + "|".join(map(re.escape, names)) + ")", text):
        if part in names:
            found.append(len(made.BYTES) + names.index(part))
        else:
            found += [made.BYTES.index({" ": "Ġ", "\n": "Ċ"}.get(letter, letter)) for letter in part]
    return found


def reader(model: ReVIOSa, chat: prompts.Template) -> mllm.Mllm:
    """The same language model in another chat."""
    own = mllm.Mllm(model.mllm.internvl, model.mllm.tokenizer, chat.name)
    own.template = chat
    return own


# -- golden prompts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("wording", SAID)
@pytest.mark.parametrize("name", CHATS)
def test_every_wording_token_by_token(model, name: str, wording: config.Wording, frames: int):
    user, assistant, end = CHATS[name]
    shown, said = user + FRAMES[wording == "labelled"][frames], SAID[wording] + assistant
    answer = "Sure, it is [SEG_ACT] and [SEG_TAR]." + end
    chat = prompts.chat(name, wording)
    assert chat.user + chat.frames(frames, 9) + chat.question(DUE.text) + chat.assistant == shown + said
    assert chat.answer(DUE, BOTH) + chat.end == answer
    own = reader(model, chat)
    turn = own.turn(chat.question(DUE.text), chat.answer(DUE, BOTH))
    assert own.prefix_ids(frames) + list(turn.question) == ids_of(shown + said)
    assert list(turn.answer) == ids_of(answer)


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("postfix", [True, False])
@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("name", CHATS)
def test_labels_and_postfix_are_apart(model, name: str, labels: bool, postfix: bool, frames: int):
    chat = prompts.chat(name, "labelled" if labels else "unlabelled")
    chat = replace(chat, postfix=POSTFIX if postfix else "")
    user, assistant, _ = CHATS[name]
    text = user + FRAMES[labels][frames] + "\nPlease segment the blue star." + POSTFIX * postfix + assistant
    own = reader(model, chat)
    assert own.prefix_ids(frames) + list(own.turn(chat.question("the blue star")).question) == ids_of(text)


def test_one_prompt_as_stored_numbers(model):
    """Read off the byte-level vocabulary by hand, once: the helper above could be wrong with the code."""
    space, line = made.BYTES.index("Ġ"), made.BYTES.index("Ċ")
    p = [made.BYTES.index(letter) for letter in "Please"]
    assert (made.CONTEXT, space, line, p) == (261, 220, 198, [47, 75, 68, 64, 82, 68])
    own = reader(model, prompts.chat("qwen_chat", "unlabelled"))
    user = [257, 84, 82, 68, 81, 198]  # <|im_start|> u s e r \n
    assert own.prefix_ids(1) == [*user, 259, *[261] * 9, 260, 198]
    asked = [*p, 220, 82, 68, 70, 76, 68, 77, 83, 220, 64, 13]  # Please segment a.
    assert list(own.turn(own.template.question("a")).question) == [*asked, 258, 198, 257, *ids_of("assistant"), 198]


def test_the_tiny_profile_says_what_it_always_said(root: Path):
    """Strings and ids as they were when the committed backbones were pretrained."""
    words = PreTrainedTokenizerFast.from_pretrained(root / "backbones" / "tiny" / "internvl", local_files_only=True)
    words.add_tokens(list(prompts.TOKENS.values()), special_tokens=True)
    chat = prompts.chat("tiny_chat")
    image = "<img><IMG_CONTEXT><IMG_CONTEXT></img>"
    rng = np.random.default_rng(0)
    for text, want, ids in [
        (
            chat.user + chat.frames(3, 2),
            f"<|im_start|>user\nFrame1: {image}\nFrame2: {image}\nFrame3: {image}\n",
            [3, 7, 19, 18, 4, 5, 5, 6, 20, 18, 4, 5, 5, 6, 21, 18, 4, 5, 5, 6],
        ),
        (
            chat.question(DUE.text, rng) + chat.assistant,
            "Where is the red circle is being pushed ?<|im_end|>\n<|im_start|>assistant\n",
            [86, 15, 78, 68, 37, 15, 25, 66, 87, 2, 3, 8],
        ),
        (
            chat.answer(DUE, BOTH, rng) + chat.end,
            "it is [SEG_ACT] and [SEG_TAR] .<|im_end|>",
            [14, 15, 125, 16, 126, 17, 2],
        ),
        (chat.answer(ONE, BOTH, rng) + chat.end, "it is [SEG_ACT] .<|im_end|>", [14, 15, 125, 17, 2]),
        (chat.answer(GONE, BOTH, rng) + chat.end, "it is background .<|im_end|>", [14, 15, 88, 17, 2]),
        (chat.reply.format("at3"), "it is at3 .", [14, 15, words.convert_tokens_to_ids("at3"), 17]),
    ]:
        assert text == want
        assert words(text, add_special_tokens=False).input_ids == ids


def test_full_stops_go_as_each_wording_has_it():
    """The released code takes them out; ours makes a blank of them. A question is put in like any other text."""
    text = "  The U.S. flag.\tby the man's side. "
    for wording, said in (
        ("labelled", "u s flag"),
        ("unlabelled", "u s flag"),
        ("sa2va", "us flag"),
        ("reviosa", "us flag"),
    ):
        chat = prompts.chat("qwen_chat", wording)
        assert f"Please segment the {said} by the man's side" in chat.question(text)
        asks = chat.question("Who pushes the cart?")
        assert asks.startswith("Please segment who pushes the cart?") and asks != "who pushes the cart?"
        assert "[SEG_ACT]" in chat.answer(Expression("0", "Who pushes the cart?", "single", ("1",)), BOTH)


# -- what is drawn -----------------------------------------------------------------------------------------------------


def test_the_released_words_are_those_of_the_release():
    """sha256 of the lists in the released files, sorted, a line each, {} for the expression or the tokens."""
    chat = prompts.chat("phi3_chat", "reviosa")
    for words, count, digest in (
        (chat.asks, 16, "10c1e13b78430558"),
        (chat.postfixes, 7, "29765c13160964c4"),
        (chat.replies, 5, "79dde505932e42e7"),
    ):
        assert len(set(words)) == len(words) == count
        assert hashlib.sha256("\n".join(sorted(words)).encode()).hexdigest().startswith(digest)
    assert chat.ask in chat.asks and chat.postfix in chat.postfixes and chat.reply in chat.replies
    plain = prompts.chat("phi3_chat", "sa2va")
    assert (plain.asks, plain.replies, plain.postfixes, plain.postfix) == (chat.asks, chat.replies, (), "")


def test_a_generator_draws_all_of_them_and_without_one_the_words_are_fixed():
    chat, rng = prompts.chat("qwen_chat", "reviosa"), np.random.default_rng(3)
    asked = {chat.question("a dog", rng) for _ in range(4000)}
    assert asked == {ask.format("a dog") + postfix for ask in chat.asks for postfix in chat.postfixes}
    tokens = ("[SEG_ACT]", "[SEG_ACT] and [SEG_TAR]")
    assert {chat.answer(GONE, roles, rng) for roles in (BOTH, BOTH[:1])} == {"It is not in the video."}
    for expression, said in zip((ONE, DUE), tokens, strict=True):
        found = {chat.answer(expression, BOTH, rng) for _ in range(200)}
        assert found == {reply.format(said) for reply in chat.replies}
    assert {chat.question("a dog") for _ in range(50)} == {f"Please segment a dog in this image.{POSTFIX}"}
    for name in prompts.TEMPLATES:
        own = prompts.chat(name)
        assert own.answer(GONE, BOTH, rng) == own.nothing and not any(t in own.nothing for t in prompts.TOKENS.values())
        assert own.question("a dog", rng) == own.question("a dog") and own.answer(DUE, BOTH, rng) == own.answer(
            DUE, BOTH
        )


def test_every_name_has_words_and_the_tiny_chat_refuses_those_it_cannot_read():
    assert set(get_args(config.Wording)) == set(prompts.WORDINGS) == set(SAID)
    assert prompts.chat("tiny_chat", "unlabelled").frames(2, 1) == 2 * "<img><IMG_CONTEXT></img>\n"
    for wording in ("sa2va", "reviosa"):
        with pytest.raises(ValueError, match=f"tiny_chat has words of its own: .* '{wording}'"):
            prompts.chat("tiny_chat", wording)


def test_collate_draws_only_with_a_generator(model):
    samples = [two_frames(1), two_frames(2)]

    def ids(rng: np.random.Generator | None = None) -> list[list[int]]:
        return model.collate(samples, rng).packed.ids.tolist()

    assert ids() == ids() != ids(np.random.default_rng(0))
    assert ids(np.random.default_rng(0)) == ids(np.random.default_rng(0)) != ids(np.random.default_rng(1))
    text = model.mllm.read(ids()[0])
    assert text.count(POSTFIX) == len(samples[0].expressions) > 1, "one question an expression, all in fixed words"


def two_frames(number: int) -> Sample:
    scene = splits.to_clip(scenes.make_scene(tiny.data(64, 5), (0, 0, number)), f"clip {number}")
    return sampling.take(scene, sampling.frame_indices(len(scene), 2))


class Drawing(nn.Module):
    """A system that notes what its generator gives."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.drawn = nn.Parameter(torch.zeros(1)), []

    def collate(self, samples: Sequence, rng: np.random.Generator | None = None) -> int:
        assert rng is not None
        self.drawn.append(int(rng.integers(2**60)))
        return len(samples)

    def parameter_groups(self, rates: config.Train) -> list[dict]:
        return [{"params": [self.weight], "lr": rates.lr}]

    def forward(self, batch: int) -> dict[str, torch.Tensor]:
        return {"loss": self.weight.square().sum() * batch}


def test_training_draws_from_seed_and_micro_batch(tmp_path: Path):
    clips: list[Clip] = [splits.to_clip(scenes.make_scene(tiny.data(64, 5), (0, 0, 1)), "one")]
    rates = config.Train(
        steps=2, accumulate=2, clips=1, expressions=2, frames="uniform", lr=1e-3, decoder_lr=1e-3, projector_lr=1e-3,
        gradient_checkpointing=False, cache_gb=0,
        loss=config.LossWeights(ce=1, dice=1, aml=1, text=1, points=8),
    )  # fmt: skip
    found = []
    for number, seed in enumerate((5, 5, 6)):
        system = Drawing()
        finetune.fine_tune(system, clips, rates, frames=2, folder=tmp_path / str(number), seed=seed)
        found.append(system.drawn)
    assert found[0] == found[1] != found[2] and len(set(found[0])) == 4


# -- who is asked how --------------------------------------------------------------------------------------------------


def test_released_weights_are_asked_in_the_words_they_were_trained_with(model, monkeypatch):
    """Prediction, and attention on the answer that is due."""
    scene = splits.to_clip(scenes.make_scene(tiny.data(64, 5), (0, 0, 1)), "one")
    asked, read = [], []
    write, forward = model.mllm.write, model.mllm.forward
    monkeypatch.setattr(model.mllm, "write", lambda seen, questions: asked.extend(questions) or write(seen, questions))
    monkeypatch.setattr(
        model.mllm, "forward", lambda batch, *rest, **more: read.append(batch.ids) or forward(batch, *rest, **more)
    )
    model.segment(scene, scene.expressions[:2])
    want = [f"Please segment {e.text.lower()} in this image.{POSTFIX}" for e in scene.expressions]
    assert asked == want[:2]
    model.attention(scene, layers=[0])
    text = model.mllm.read(read[0][0].tolist())
    assert text.startswith(CHATS["qwen_chat"][0] + f"{I}\n{I}{want[0]}<|im_end|>")
    assert all(question in text for question in want)


def test_a_checkpoint_of_one_token_was_trained_as_sa2va(released: Path, tmp_path: Path):
    folder = made.write_internvl(tmp_path / "sa2va")
    made.add_reviosa(folder)
    about = json.loads((folder / "tokenizer_config.json").read_text())
    tokens = about["added_tokens_decoder"].items()
    about["added_tokens_decoder"] = {i: t for i, t in tokens if t["content"] != "[SEG_OBJ]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    own = checkpoint.load_reviosa(folder, configuration=made.SAM2)
    assert (own.roles, own.mllm.template) == ((Role.ACTOR,), prompts.chat("qwen_chat", "sa2va"))
    assert own.mllm.role_ids.keys() == {Role.ACTOR}
    scene = splits.to_clip(scenes.make_scene(tiny.data(64, 5), (0, 0, 1)), "one")
    (found,) = own.segment(scene, scene.expressions[:1])
    assert found.masks.keys() == {Role.ACTOR} and len(found.masks[Role.ACTOR]) == len(scene)


def test_a_folder_keeps_its_wording_and_one_that_says_none_is_labelled(released: Path, tmp_path: Path):
    convert(released, tmp_path / "native", "native", configuration=made.SAM2)
    about = json.loads((tmp_path / "native" / "reviosa.json").read_text())
    assert about["wording"] == "reviosa"
    assert folders.read(tmp_path / "native").mllm.template == prompts.chat("qwen_chat", "reviosa")
    for wording in ("unlabelled", None):
        said = {k: v for k, v in about.items() if k != "wording"} | ({"wording": wording} if wording else {})
        (tmp_path / "native" / "reviosa.json").write_text(json.dumps(said))
        assert folders.read(tmp_path / "native").mllm.template.wording == (wording or "labelled")
    (tmp_path / "native" / "reviosa.json").write_text(json.dumps(about | {"wording": "ours"}))
    with pytest.raises(DataError, match=r"reviosa\.json: wording: "):
        folders.read(tmp_path / "native")


@pytest.mark.parametrize("wording", SAID)
def test_an_export_comes_back_in_its_own_wording(tmp_path: Path, wording: config.Wording):
    own = tiny.reader()
    language = mllm.Mllm(own.internvl, own.tokenizer, "qwen_chat", wording)
    folders.save(ReVIOSa(language, tiny.seeing(), BOTH, frames=3), tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "hf", "reviosa-hf")
    again = checkpoint.load_reviosa(tmp_path / "hf", configuration=made.SAM2)
    assert again.mllm.template == prompts.chat("qwen_chat", wording)
    about = json.loads((tmp_path / "hf" / "config.json").read_text())
    for wrong in ("ours", ["reviosa"]):
        (tmp_path / "hf" / "config.json").write_text(json.dumps(about | {layouts.WORDING: wrong}))
        with pytest.raises(DataError, match=rf"config\.json: {layouts.WORDING} .*not one of \['labelled'"):
            checkpoint.load_reviosa(tmp_path / "hf", configuration=made.SAM2)


def test_training_starts_in_the_wording_of_the_profile(released: Path, tmp_path: Path, root: Path):
    profiles = config.load(root / "params.yaml").profiles
    wordings = {name: profile.train.wording for name, profile in profiles.items()}
    assert wordings == dict.fromkeys(profiles, "labelled") | {"paper-1b": "released", "paper-4b": "released"}
    internvl = made.write_internvl(tmp_path / "internvl")
    sam = tiny.seeing().sam
    torch.save({"model": sam.state_dict()}, tmp_path / "sam2.pt")
    (tmp_path / "sam2.yaml").write_text(json.dumps({"model": sam.configuration.model_dump(mode="json")}))
    start = config.Released(
        internvl=str(internvl), sam2=str(tmp_path / "sam2.pt"), sam2_yaml=str(tmp_path / "sam2.yaml"),
        template="phi3_chat", license="mit",
    )  # fmt: skip
    for wording, roles, want in [
        ("labelled", BOTH, "labelled"),
        ("unlabelled", BOTH, "unlabelled"),
        ("released", BOTH, "reviosa"),
        ("released", (Role.ACTOR,), "sa2va"),  # the postfix asks for a target, which it has no token for
    ]:
        rates = profiles["smoke"].train.model_copy(update={"wording": wording})
        rows = config.Experiment(roles=roles, aml=False)
        own = checkpoint.from_backbones(start, made.sizes(), rows, seed=0, aml=None, settings=rates)
        assert own.mllm.template == prompts.chat("phi3_chat", want)
        for number in range(3):  # whatever is drawn, each mask finds its token
            terms = own.training_losses(own.collate([two_frames(1)], np.random.default_rng(number)))
            assert all(term.isfinite() for term in terms.values())


# -- room for the answer -----------------------------------------------------------------------------------------------


def test_there_is_room_for_the_longest_answer_of_a_chat(model, monkeypatch):
    """Here a letter is a token: sixteen would cut every answer off."""
    longest = "Sure, the segmentation result is [SEG_ACT] and [SEG_TAR]."
    assert max(model.mllm.template.answers, key=len) == longest
    line, spoken = ids_of(longest + "<|im_end|>"), []

    class Head(nn.Module):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            spoken.append(line[len(spoken)])
            return nn.functional.one_hot(torch.tensor([spoken[-1]]), made.VOCABULARY).float()

    monkeypatch.setattr(model.mllm.internvl, "lm_head", Head())
    (answer,) = model.mllm.write(torch.zeros(2, 3, 3, made.DT), ["a"])
    assert answer.text == longest and set(answer.states) == set(Role) and len(line) > 16
