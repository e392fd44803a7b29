"""A checkpoint's tokenizer, built from its tables and from parts that are known (`parts`). Of tokenizer_config.json the
names of a few tokens are read; chat templates are not, nor anything that could name code or another file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import ConfigDict, Field, model_validator
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast, Qwen2Tokenizer, RobertaTokenizer

from reviosa_core.data.files import text
from reviosa_core.model.described import Described, cut, short
from reviosa_core.schema import DataError
from reviosa_core.weights import parts
from reviosa_core.weights.files import JSON_BYTES, described, usable

TOKENIZER, CONFIG, VOCABULARY, MERGES = "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"
Name = Annotated[str, Field(min_length=1, max_length=256)]


class Token(Described):
    """A token beside the vocabulary, as tokenizers know it."""

    model_config = ConfigDict(extra="ignore")

    content: Name
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool | None = None
    special: bool = False

    def added(self) -> AddedToken:
        given = self.model_dump(exclude_none=True)
        return AddedToken(given.pop("content"), **given)


class Settings(Described):
    """What is read of tokenizer_config.json. Chat templates are programs, and are not."""

    model_config = ConfigDict(extra="ignore")

    pad_token: Name | Token | None = None
    eos_token: Name | Token | None = None
    unk_token: Name | Token | None = None
    bos_token: Name | Token | None = None
    added_tokens_decoder: dict[Annotated[int, Field(ge=0, le=2**21)], Token] = {}
    clean_up_tokenization_spaces: bool = False

    @model_validator(mode="before")
    @classmethod
    def _no_code(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping) and "auto_map" in raw:
            raise ValueError("auto_map names code to run, and none of a checkpoint's is; take the key out")
        return raw

    def arguments(self) -> dict[str, Any]:
        """For a tokenizer's constructor: what the file says, no more."""
        found: dict[str, Any] = {name: getattr(self, name) for name in self.model_fields_set}
        found = {name: value.added() if isinstance(value, Token) else value for name, value in found.items()}
        return found | {"added_tokens_decoder": {i: token.added() for i, token in self.added_tokens_decoder.items()}}


class Listed(Token):
    """The same with its id, as tokenizer.json lists it."""

    id: Annotated[int, Field(ge=0, le=2**21)]


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """tokenizer.json, or vocab.json and merges.txt of Qwen2 as released; never code from the folder.

    Raises DataError naming the file: not there, too large, or not what it should be.
    """
    settings = _settings(folder)
    arguments, promised = settings.arguments(), {t.content: i for i, t in settings.added_tokens_decoder.items()}
    if (whole := folder / TOKENIZER).is_file():
        raw, listed = _checked(whole)
        return _made(
            whole, promised | listed, lambda: PreTrainedTokenizerFast(tokenizer_object=_backend(raw), **arguments)
        )
    vocabulary, merges = _tables(folder)
    made = cast(Callable[..., PreTrainedTokenizerFast], Qwen2Tokenizer)
    return _made(folder / VOCABULARY, promised, lambda: made(vocabulary, merges, **arguments))


def load_roberta_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """RoBERTa's, from vocab.json and merges.txt, or from the same tables in tokenizer.json. DataError as above."""
    arguments = _settings(folder).arguments()
    if (folder / VOCABULARY).is_file():
        file, (vocabulary, merges) = folder / VOCABULARY, _tables(folder)
    else:
        file = folder / TOKENIZER
        model = _checked(file)[0]["model"]
        vocabulary, merges = model["vocab"], [tuple(m.split(" ") if isinstance(m, str) else m) for m in model["merges"]]
    made = cast(Callable[..., PreTrainedTokenizerFast], RobertaTokenizer)
    return _made(file, {}, lambda: made(vocabulary, merges, **arguments))


def check_end(tokenizer: PreTrainedTokenizerBase, end: str, where: str) -> None:
    """DataError unless the tokenizer can write the words that end an answer."""
    found = tokenizer.decode(tokenizer(end, add_special_tokens=False).input_ids).strip()
    if found != end:
        raise DataError(f"{where}: the tokenizer cannot write {end!r}, the end of an answer; it writes {short(found)}")


def _settings(folder: Path) -> Settings:
    raw = described(folder / CONFIG) if (folder / CONFIG).exists() else {}
    return Settings.read(raw, str(folder / CONFIG))


def _checked(file: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """A tokenizer.json whose parts are known, and the ids of the tokens beside its vocabulary."""
    raw = described(file)
    parts.check(raw, str(file))
    added = raw.get("added_tokens") or []
    if not isinstance(added, list):
        raise DataError(f"{file}: added_tokens is {type(added).__name__}, not a list")
    listed = [Listed.read(token, f"{file}: added_tokens, entry {place}") for place, token in enumerate(added)]
    return raw, {token.content: token.id for token in listed}


def _backend(raw: dict[str, Any]) -> Tokenizer:
    backend = Tokenizer.from_str(json.dumps(raw))
    backend.no_padding()  # a text is read as it is, never filled up to a length that a file names, nor cut at one
    backend.no_truncation()
    return backend


def _tables(folder: Path) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    if absent := [name for name in (VOCABULARY, MERGES) if not (folder / name).is_file()]:
        raise DataError(f"{folder}: no {TOKENIZER}, and no {' and '.join(absent)}")
    parts.check_vocabulary(vocabulary := described(folder / VOCABULARY), str(folder / VOCABULARY))
    return vocabulary, _merges(folder / MERGES)


def _merges(file: Path) -> list[tuple[str, str]]:
    usable(file, JSON_BYTES)
    lines = [line for line in text(file).splitlines() if line and not line.startswith("#version")]
    pairs = [tuple(line.split(" ")) for line in lines]
    if wrong := [pair for pair in pairs if len(pair) != 2]:
        raise DataError(f"{file}: a merge is two parts, not {len(wrong[0])}: {short(' '.join(wrong[0]))}")
    return cast(list[tuple[str, str]], pairs)


def _made(file: Path, ids: Mapping[str, int], make: Callable[[], PreTrainedTokenizerFast]) -> PreTrainedTokenizerFast:
    """What `make` makes, with these ids, and with rows of the embeddings for ids, without a gap."""
    try:
        made = make()
    except DataError:
        raise
    except Exception as error:  # tokenizers raises nothing more special
        raise DataError(f"{file}: no tokenizer: {cut(str(error), 200)}") from None
    known = made.get_vocab()
    for token, id in ids.items():
        if known.get(token) != id:
            raise DataError(f"{file}: token {short(token)} is to have id {id}, and gets {known.get(token)}")
    if sorted(known.values()) != list(range(len(known))):
        raise DataError(
            f"{file}: {len(known)} tokens with ids up to {max(known.values())}: 0 and on, each once, is due"
        )
    return made
