"""A checkpoint's tokenizer, built from its tables. Of tokenizer_config.json the names of a few tokens are read; chat
templates are not, nor anything that could name code or another file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import ConfigDict, Field, model_validator
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

from reviosa_core.model.described import Described, cut, short
from reviosa_core.schema import DataError
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


def load_tokenizer(
    folder: Path, kind: type[PreTrainedTokenizerFast] = Qwen2Tokenizer, **specials: str
) -> PreTrainedTokenizerFast:
    """tokenizer.json, or vocab.json and merges.txt as released (of `kind`); never code from the folder. `specials` are
    tokens by their parts (pad_token="<pad>"), where the folder does not name them.

    Raises DataError naming the file: not there, too large, or not what it should be.
    """
    raw = described(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    arguments = specials | Settings.read(raw, str(folder / CONFIG)).arguments()
    if (whole := folder / TOKENIZER).is_file():
        return _made(whole, lambda: PreTrainedTokenizerFast(tokenizer_object=_backend(whole), **arguments))
    absent = [name for name in (VOCABULARY, MERGES) if not (folder / name).is_file()]
    if absent:
        raise DataError(f"{folder}: no {TOKENIZER}, and no {' and '.join(absent)}")
    vocabulary, merges = described(folder / VOCABULARY), _merges(folder / MERGES)
    return _made(folder / VOCABULARY, lambda: kind(vocabulary, merges, **arguments))  # type: ignore[arg-type]


def _backend(file: Path) -> Tokenizer:
    backend = Tokenizer.from_str(json.dumps(described(file)))
    backend.no_padding()  # a text is read as it is, never filled up to a length that a file names, nor cut at one
    backend.no_truncation()
    return backend


def _merges(file: Path) -> list[tuple[str, str]]:
    usable(file, JSON_BYTES)
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#version")]
    pairs = [tuple(line.split(" ")) for line in lines]
    if wrong := [pair for pair in pairs if len(pair) != 2]:
        raise DataError(f"{file}: a merge is two parts, not {len(wrong[0])}: {short(' '.join(wrong[0]))}")
    return cast(list[tuple[str, str]], pairs)


def _made(file: Path, make: Callable[[], PreTrainedTokenizerFast]) -> PreTrainedTokenizerFast:
    try:
        return make()
    except DataError:
        raise
    except Exception as error:  # tokenizers raises nothing more special
        raise DataError(f"{file}: no tokenizer: {cut(str(error), 200)}") from None
