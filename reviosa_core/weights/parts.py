"""What a tokenizer.json may ask for: parts that known tokenizers have, with bounds.

Some parts are programs: a regular expression that takes for ever, replacements that each make a text a hundred times as
long, a model that draws lots. Of those only what cannot grow, or what released models use word for word, is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from reviosa_core.model.described import cut, short
from reviosa_core.schema import DataError

KNOWN = {
    "normalizer": ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip", "Prepend", "Replace"),
    "pre_tokenizer": ("WhitespaceSplit", "Whitespace", "Punctuation", "Digits", "Metaspace", "ByteLevel", "Split"),
    "post_processor": ("TemplateProcessing", "ByteLevel", "RobertaProcessing"),
    "decoder": ("ByteLevel", "ByteFallback", "Fuse", "Strip", "Metaspace", "Replace"),
}
MODELS = ("BPE", "WordLevel")
REGEXES = (PRETOKENIZE_REGEX,)  # Qwen2's
INSIDE = ("normalizers", "pretokenizers", "processors", "decoders")  # what a Sequence holds
PARTS, ENTRIES, LETTERS, NUMBER = 16, 64, 256, 2**21
TOKEN = 1024  # bytes as letters; Qwen2's longest has 128


def check(raw: Any, where: str) -> None:
    """DataError, beginning with `where`, for a tokenizer.json with another part, or one beyond its bounds."""
    if not isinstance(raw, dict) or not isinstance(raw.get("model"), dict):
        raise DataError(f"{where}: no tokenizer: no 'model'")
    for section, known in KNOWN.items():
        at = f"{where}: {section}"
        found = [] if raw.get(section) is None else list(_flat(raw[section], known, at))
        if len(found) > PARTS:
            raise DataError(f"{at} has {len(found)} parts, more than {PARTS}")
        for part in found:
            _check_part(part, f"{at}: {part['type']}")
    _check_model(raw["model"], f"{where}: model")


def _flat(part: Any, known: tuple[str, ...], where: str, depth: int = 0) -> Iterator[dict[str, Any]]:
    """The parts of a section, those in Sequences too."""
    kind = part.get("type") if isinstance(part, dict) else part
    if kind == "Sequence" and depth < PARTS:
        inner = next((part[name] for name in INSIDE if name in part), None)
        if not isinstance(inner, list) or len(part) != 2:
            raise DataError(f"{where}: a Sequence needs one list of parts, got {short(part)}")
        for each in inner:
            yield from _flat(each, known, where, depth + 1)
    elif kind not in known:
        raise DataError(f"{where} is {short(kind)}; only {', '.join(known)} and Sequence can be loaded")
    else:
        yield part


def _check_part(part: dict[str, Any], where: str) -> None:
    pattern = part.get("pattern")
    if part["type"] in ("Split", "Replace"):
        text = pattern.get("String") if isinstance(pattern, dict) and len(pattern) == 1 else None
        if not text and pattern not in [{"Regex": regex} for regex in REGEXES]:
            raise DataError(f"{where}: pattern {short(pattern)}; a text, or Qwen2's regular expression, can be loaded")
    for name in ("content", "prepend"):  # a text that grows with every part would not fit in memory
        if part["type"] in ("Replace", "Prepend") and len(str(part.get(name, ""))) > 1:
            raise DataError(f"{where}: {name} {short(part[name])} has more than one character")
    for name, value in part.items():
        if name != "pattern":
            _check_small(value, f"{where}: {cut(name)}")


def _check_model(model: dict[str, Any], where: str) -> None:
    if model.get("type") not in MODELS:
        raise DataError(f"{where} is {short(model.get('type'))}; only {' and '.join(MODELS)} can be loaded")
    if model.get("dropout"):
        raise DataError(f"{where}: dropout {short(model['dropout'])} draws lots; a text must always give the same ids")
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict):
        raise DataError(f"{where}: vocab is {type(vocabulary).__name__}, not an object of tokens and ids")
    check_vocabulary(vocabulary, where)
    unknown = model.get("unk_token")
    if (model["type"] == "WordLevel" or unknown is not None) and unknown not in list(vocabulary):
        raise DataError(f"{where}: unk_token {short(unknown)} is not in the vocabulary")
    for name, value in model.items():
        if name not in ("vocab", "merges"):
            _check_small(value, f"{where}: {cut(name)}")


def check_vocabulary(vocabulary: dict[str, Any], where: str) -> None:
    """DataError for tokens of any length, and for ids that would be places in a table of gigabytes."""
    for token, id in vocabulary.items():
        if len(token) > TOKEN:
            raise DataError(f"{where}: token {short(token)} has {len(token)} characters, more than {TOKEN}")
        if isinstance(id, int) and not 0 <= id <= NUMBER:
            raise DataError(f"{where}: token {short(token)} has id {id}; 0 to {NUMBER} can be loaded")


def _check_small(value: Any, where: str) -> None:
    if isinstance(value, dict | list):
        if len(value) > ENTRIES:
            raise DataError(f"{where} has {len(value)} entries, more than {ENTRIES}")
        for each in [*value, *(value.values() if isinstance(value, dict) else ())]:
            _check_small(each, where)
    elif isinstance(value, str) and len(value) > LETTERS:
        raise DataError(f"{where} has {len(value)} characters, more than {LETTERS}")
    elif isinstance(value, int) and not 0 <= value <= NUMBER:
        raise DataError(f"{where} is {value}; 0 to {NUMBER} can be loaded")
