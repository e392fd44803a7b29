from __future__ import annotations

import json
from pathlib import Path

import pytest
import queries
import tiny
import torch
from transformers import RobertaTokenizer

from reviosa_core.baselines.referformer import ReferFormer
from reviosa_core.baselines.text import TextEncoder
from reviosa_core.intershapes import language, scenes
from reviosa_core.intershapes.world import SPLITS
from reviosa_core.model import prompts
from reviosa_core.model.mllm import word_tokenizer
from reviosa_core.schema import DataError
from reviosa_core.weights.tokenizer import load_roberta_tokenizer

SIZES = queries.SIZES[ReferFormer]
LONG = "the blue ball that moves to the right"


def encoder(**changes) -> TextEncoder:
    return TextEncoder(SIZES.text.model_copy(update=changes), queries.tokenizer(), 16, 0.0).eval()


def test_shorter_sentences_are_filled_up_and_not_changed_by_it():
    made = encoder()
    tokens = made.tokenize(["the red dog", LONG])
    assert tokens.ids.shape == (2, 8) and tokens.real.sum(1).tolist() == [3, 8]
    both, alone = made(tokens), made(made.tokenize(["the red dog"]))
    torch.testing.assert_close(both.features[:1, :3], alone.features)
    torch.testing.assert_close(both.sentence[:1], alone.sentence)
    torch.testing.assert_close(both.positions[:1, :3], alone.positions)


@pytest.mark.parametrize("typed", ["The red dog.", "THE RED DOG", " the red\ndog ", "the  red dog . "])
def test_a_sentence_is_read_as_reviosa_is_asked_it(typed: str):
    made = encoder()
    assert made.tokenize([typed]).ids.tolist() == made.tokenize(["the red dog"]).ids.tolist()
    assert prompts.clean(typed) in prompts.chat("tiny_chat").question(typed), "one rule for all systems"


def test_what_intershapes_says_is_read_as_it_stands():
    """Of every split: what was trained on it read the same words before there was the rule."""
    words = language.vocabulary()
    tokenizer = word_tokenizer(words)
    made = TextEncoder(SIZES.text.model_copy(update={"vocabulary": len(tokenizer)}), tokenizer, 16, 0.0)
    for split, number in SPLITS.items():
        made_up = [
            scenes.make_scene(tiny.data(32, 4), (0, number, index), shift=split == "shift") for index in range(100)
        ]
        texts = [*words, *(u.text for scene in made_up for u in scene.utterances)]
        assert made.tokenize(texts).ids.tolist() == tokenizer(texts, padding=True)["input_ids"]


def test_a_sentence_of_full_stops_is_refused():
    with pytest.raises(DataError, match=r"a sentence without a word: '\. \.'"):
        encoder().tokenize(["the red dog", ". ."])


def test_words_and_sentence_share_one_projection():
    made = encoder()
    tokens = made.tokenize([LONG])
    found, raw = made(tokens), made.roberta(tokens.ids, attention_mask=tokens.real.long())
    for ours, theirs in ((found.features, raw.last_hidden_state), (found.sentence, raw.pooler_output)):
        torch.testing.assert_close(ours, made.norm(theirs @ made.project.weight.T + made.project.bias))


def test_a_sentence_that_is_too_long_is_refused_not_cut():
    made = encoder(positions=8)  # RoBERTa's table starts after the padding's place: 7 are left
    made(made.tokenize(["the red dog moves to the right"]))
    with pytest.raises(DataError, match="a sentence of 8 tokens, the text encoder reads 7: 'the blue ball"):
        made.tokenize(["the dog", LONG])


def test_a_tokenizer_with_more_words_than_the_encoder_is_refused():
    with pytest.raises(DataError, match=r"the tokenizer has \d+ words, the text encoder 9"):
        encoder(vocabulary=9)


def test_frozen_means_roberta_only():
    made = encoder(frozen=True)
    assert not any(p.requires_grad for p in made.roberta.parameters()) and made.project.weight.requires_grad


@pytest.mark.parametrize("whole", [True, False])
def test_the_tokenizer_is_robertas(tmp_path: Path, whole: bool):
    """The same tokens as transformers' own class reads from the same files, from its tables and from tokenizer.json."""
    letters = sorted(set("thebluedogr \u0120"))
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters, "th", "the", "\u0120d", "\u0120do", "\u0120dog"]
    (tmp_path / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nt h\nth e\n\u0120 d\n\u0120d o\n\u0120do g\n")
    theirs = RobertaTokenizer.from_pretrained(tmp_path, local_files_only=True)
    if whole:
        theirs.save_pretrained(tmp_path)
        assert (tmp_path / "tokenizer.json").is_file()
    ours = load_roberta_tokenizer(tmp_path)
    texts = ["the dog", "the blue dog there"]
    given = [made(texts, padding=True)["input_ids"] for made in (ours, theirs)]
    assert given[0] == given[1] and given[0][0][:2] == [0, words.index("the")] and given[0][0][-1] == 1
    assert ours.pad_token == "<pad>"
