"""What is asked of a model: an instruction from a file, facts, pictures, and the schema that the answer must have."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from reviosa_core.annotation import pictures
from reviosa_core.annotation.records import digest
from reviosa_core.schema import DataError

PROMPTS = Path(__file__).parent / "prompts"
NAMES = ("objects", "expressions", "events", "interactions", "verify")
# "number 2 pushing number 3", but not "the player wearing number 7" nor "the number 7 bus".
NUMBERED = re.compile(r"\b(object|id) [0-9]|^(the )?(number|track) [0-9]+( \w+ing\b|$)", re.IGNORECASE)
FACTS = "Facts:\n"  # what begins the part of a question that holds JSON


class Reply(BaseModel):
    """The answer's form. No key more, none fewer."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Prompts:
    """The instructions of the stages, by name: <name>.md in a folder, ours by default."""

    folder: Path = PROMPTS

    def __post_init__(self) -> None:
        for name in NAMES:
            if not self[name].strip():
                raise DataError(f"{self._file(name)}: an empty prompt")

    def __getitem__(self, name: str) -> str:
        try:
            return self._file(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{self._file(name)}: {error}") from None

    def _file(self, name: str) -> Path:
        return Path(self.folder) / f"{name}.md"


@dataclass(frozen=True)
class Question:
    """`name` is the prompt's; `images` are (label, JPEG). `check` raises ValueError for what the schema cannot say."""

    name: str
    instruction: str
    facts: Mapping[str, Any]
    reply: type[Reply]
    images: tuple[tuple[str, bytes], ...] = ()
    check: Callable[[Any], None] = field(default=lambda value: None, compare=False)

    @cached_property
    def prompt_hash(self) -> str:
        return digest(self.instruction)

    @cached_property
    def images_hash(self) -> str:
        return digest(*(raw for _, raw in self.images))

    def content(self) -> list[dict[str, Any]]:
        """The user's message, as parts: instruction, pictures each below its label, facts."""
        parts: list[dict[str, Any]] = [{"type": "text", "text": self.instruction}]
        for label, raw in self.images:
            parts.append({"type": "text", "text": label})
            parts.append({"type": "image_url", "image_url": {"url": pictures.data_url(raw)}})
        parts.append({"type": "text", "text": FACTS + dump(self.facts)})
        return parts

    def format(self) -> dict[str, Any]:
        """`response_format` of the request."""
        schema = plain_schema(self.reply)
        return {"type": "json_schema", "json_schema": {"name": self.name, "strict": True, "schema": schema}}

    def key(self, model: str, seed: int) -> str:
        """The question's name: equal for equal questions to the same model by the same seed, whenever and wherever
        they are asked."""
        labels = [label for label, _ in self.images]
        about = [self.name, model, seed, dict(self.facts), labels, plain_schema(self.reply)]
        return digest(about, self.prompt_hash, self.images_hash)


def dump(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, ensure_ascii=False, indent=1)


KEPT = ("type", "enum", "items", "properties", "required", "additionalProperties", "description")


def plain_schema(model: type[BaseModel]) -> dict[str, Any]:
    """A pydantic model's JSON schema with what every server understands, and nothing else: objects, arrays, enums,
    strings, numbers and booleans, every key required. Bounds are checked on arrival."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})

    def plain(node: Any) -> Any:
        node = definitions[node["$ref"].rpartition("/")[2]] if "$ref" in node else node
        found = {key: node[key] for key in KEPT if key in node}
        if "const" in node:
            found["enum"] = [node["const"]]
        if "items" in found:
            found["items"] = plain(found["items"])
        if "properties" in found:
            found["properties"] = {name: plain(value) for name, value in found["properties"].items()}
            found |= {"required": list(found["properties"]), "additionalProperties": False}
        found.pop("description", None) if found.get("type") == "object" else None  # docstrings of ours
        return found

    return plain(schema)


def check_text(text: str, words: int, where: str) -> None:
    """ValueError for a text that no person would write about a video: empty, over-long, of several lines, with an
    object's number in it."""
    count = len(text.split())
    if not any(map(str.isalnum, text)):
        raise ValueError(f"{where}: the text is empty")
    if count > words:
        raise ValueError(f"{where}: {count} words; at most {words} are wanted")
    if "\n" in text or any(mark in text for mark in "[]{}<>#_"):
        raise ValueError(f"{where}: one line of plain words is wanted, got {text[:80]!r}")
    if NUMBERED.search(text):
        raise ValueError(f"{where}: the text names an object by its number: {text[:80]!r}")


def check_ids(found: Sequence[str], due: Sequence[str], where: str) -> None:
    """ValueError unless each of `due` is there exactly once."""
    if sorted(found) != sorted(due):
        raise ValueError(f"{where}: ids {list(found)}, wanted is each of {list(due)} once")
