"""A checkpoint's tokenizer says what transformers' reading of the same folder says, and nothing of it is run."""

from __future__ import annotations

import json
from pathlib import Path

import made
import pytest
import tiny
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer, RobertaTokenizer

from reviosa_core.schema import DataError
from reviosa_core.weights import layouts, parts
from reviosa_core.weights.tokenizer import load_roberta_tokenizer, load_tokenizer

TEXT = "the red circle pushing it. [SEG]<|im_end|> x  y\n日本"


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    tiny.reader().tokenizer.save_pretrained(tmp_path / "ours")
    return tmp_path / "ours"


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    return made.write_internvl(tmp_path / "qwen")


def test_it_reads_as_transformers_reads_the_folder(ours: Path, qwen: Path, tmp_path: Path):
    renamed, _ = layouts.our_tokens(load_tokenizer(qwen))
    renamed.save_pretrained(tmp_path / "renamed")
    load_tokenizer(qwen).save_pretrained(tmp_path / "whole")
    for folder, kind in (
        (ours, PreTrainedTokenizerFast),
        (qwen, Qwen2Tokenizer),
        (tmp_path / "renamed", PreTrainedTokenizerFast),
        (tmp_path / "whole", PreTrainedTokenizerFast),
    ):
        found, theirs = load_tokenizer(folder), kind.from_pretrained(folder, local_files_only=True)
        assert found.backend_tokenizer.to_str() == theirs.backend_tokenizer.to_str(), folder
        assert found.special_tokens_map == theirs.special_tokens_map and found.all_special_ids == theirs.all_special_ids
        assert (found.pad_token_id, len(found)) == (theirs.pad_token_id, len(theirs))
        ids = found(TEXT, add_special_tokens=False).input_ids
        assert ids == theirs(TEXT, add_special_tokens=False).input_ids and len(ids) > 5
        assert found.decode(ids) == theirs.decode(ids)


def test_nothing_of_it_is_run(ours: Path):
    (ours / "tokenizer_config.json").write_text(json.dumps({
        "chat_template": "{{ cycler.__init__.__globals__.os.mkdir('ran') }}", "gguf_file": "x.gguf",
        "tokenizer_file": "/dev/zero", "post_processor": "evil", "fast_tokenizer_files": ["../evil.json"],
        "pad_token": "[PAD]", "unk_token": {"content": "[UNK]", "__type": "AddedToken"},
    }))  # fmt: skip
    (ours / "evil.py").write_text("raise SystemExit")
    found = load_tokenizer(ours)
    assert found.chat_template is None and (found.pad_token, found.unk_token) == ("[PAD]", "[UNK]")
    (ours / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}))
    with pytest.raises(DataError, match=r"tokenizer_config\.json: auto_map names code"):
        load_tokenizer(ours)


def test_a_text_is_neither_filled_up_nor_cut(ours: Path):
    """A file may ask for a billion tokens of padding."""
    raw = json.loads((ours / "tokenizer.json").read_text())
    due = load_tokenizer(ours)("the red circle").input_ids
    raw["padding"] = {
        "strategy": {"Fixed": 50}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "[PAD]",
    }  # fmt: skip
    raw["truncation"] = {"max_length": 1, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    (ours / "tokenizer.json").write_text(json.dumps(raw))
    found = load_tokenizer(ours)
    assert found.backend_tokenizer.encode("the red circle").ids == due and len(due) == 3
    assert found("the red circle").input_ids == due


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("vocab.json", '{"a": "b"}', r"vocab\.json: no tokenizer: "),
        ("vocab.json", '{"a": 2147483648}', r"vocab\.json: token 'a' has id 2147483648; 0 to 2097152 can be loaded"),
        ("vocab.json", "[]", r"vocab\.json: a JSON object is needed"),
        ("merges.txt", "a b c\n", r"merges\.txt: a merge is two parts, not 3: 'a b c'"),
        ("merges.txt", "nothing there\n", r"vocab\.json: no tokenizer: "),
        ("tokenizer_config.json", '{"eos_token": 3}', r"tokenizer_config\.json: eos_token.*got 3"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"-1": {"content": "x"}}}', "added_tokens_decoder.-1"),
        ("tokenizer_config.json", '{"pad_token": "' + "x" * 999 + '"}', "pad_token.*256 characters"),
    ],
)
def test_a_broken_file_is_named(qwen: Path, file: str, content: str, message: str):
    (qwen / file).write_text(content)
    with pytest.raises(DataError, match=message):
        load_tokenizer(qwen)


def test_of_known_models_every_part_is_known(ours: Path, qwen: Path, tmp_path: Path):
    """Ours, Qwen2's and RoBERTa's; Phi-3's and Llama's parts by hand."""
    for tokenizer in (load_tokenizer(ours), load_tokenizer(qwen), RobertaTokenizer()):
        parts.check(json.loads(tokenizer.backend_tokenizer.to_str()), "x")
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    starts = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, spaces]}
    ends = [spaces | {"pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
    ends.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    model = {"type": "BPE", "vocab": {"<unk>": 0}, "merges": [], "unk_token": "<unk>", "byte_fallback": True}
    decoder = {"type": "Sequence", "decoders": ends}
    parts.check({"normalizer": starts, "pre_tokenizer": None, "decoder": decoder, "model": model}, "x")


def test_robertas_tables_in_either_form(tmp_path: Path):
    """As RoBERTa is released, and with tokenizer.json alone: the same ids as transformers' own reading."""
    words = ["<s>", "<pad>", "</s>", "<unk>", *made.BYTES, "th", "the", "<mask>"]
    theirs = RobertaTokenizer({word: id for id, word in enumerate(words)}, [("t", "h"), ("th", "e")])
    theirs.save_pretrained(tmp_path / "one")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "vocab.json").write_text(json.dumps(theirs.get_vocab()))
    (tmp_path / "two" / "merges.txt").write_text("#version: 0.2\nt h\nth e\n")
    due = theirs(["the other", "a"], padding=True)
    assert theirs.pad_token_id == 1 and len(due.input_ids[0]) > 5
    for folder in ("one", "two"):
        found = load_roberta_tokenizer(tmp_path / folder)
        assert found(["the other", "a"], padding=True).input_ids == due.input_ids
        assert found.pad_token_id == theirs.pad_token_id
