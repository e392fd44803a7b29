"""What the stages hand on, and how it is kept: a line of JSON a clip, to read, to edit and to go on from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator

from reviosa_core import outputs
from reviosa_core.bounds import Strict
from reviosa_core.schema import CaptionType, DataError

Voice = Literal["active", "passive", "mutual", "none"]  # none: no interaction
Level = Literal["class", "appearance", "motion", "both"]  # how objects are named; motion, both: of no interaction
STAGES = ("tracks", "objects", "expressions", "events", "interactions", "verified", "negatives")


class Asked(Strict):
    """Where an answer comes from. `question` is the answer's name in the cache; hashes are 16 digits of SHA-256."""

    question: str
    model: str
    prompt: str
    images: str


class Abstained(Strict):
    """What was asked and got no usable answer: stored and counted."""

    of: str  # an object's or an event's id; "" for the clip
    reason: str
    question: str


class Track(Strict):
    """An object through the clip. `area`: mean share of the frame where it is seen; `presence`: share of the frames;
    `stability`: mean ratio of the areas of successive frames, 1 for none. `poor`: why it goes no further."""

    id: str
    source: Literal["given", "box", "grid"]
    area: float
    presence: float
    stability: float
    poor: str | None = None


class Object(Strict):
    """Stage 1: one object's class, look and motion, as phrases. Names are without the article that models put there."""

    id: str
    category: str
    look: str
    motion: str
    asked: Asked

    @field_validator("category", "look")
    @classmethod
    def _bare(cls, name: str) -> str:
        return re.sub(r"^(the|an|a) (?=\S)", "", name, flags=re.IGNORECASE)


class Event(Strict):
    """Stage 3: who does what to whom, and when. Directed: agents and patients; symmetric: agents only, from two on.

    Ids are tracks; frames are positions in the clip, the last one included.
    """

    id: str
    predicate: str
    agents: tuple[str, ...]
    patients: tuple[str, ...]
    instruments: tuple[str, ...]
    symmetric: bool
    first_frame: int
    last_frame: int
    confidence: float = Field(ge=0, le=1)
    asked: Asked


class Text(Strict):
    """An expression: of objects (stage 2) or of an event (stage 4). `actor` is the grammatical subject, the paper's
    convention; `agents` and `patients` are who acts and on whom, whatever the voice. No target but for a directed
    event."""

    id: str
    text: str
    caption_type: CaptionType
    actor: tuple[str, ...]
    target: tuple[str, ...] | None
    voice: Voice
    level: Level
    event: str | None
    agents: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()
    asked: tuple[Asked, ...]  # of every answer that it rests on

    @model_validator(mode="after")
    def _agrees(self) -> Text:
        if (self.caption_type == "unidirectional") != (self.target is not None):
            raise ValueError(f"caption type {self.caption_type} with target {self.target}")
        return self


class Verdict(Strict):
    """What the verifier said of a text. `claimed`: of the objects as annotated; `swapped`: with the roles exchanged,
    None where that was not asked."""

    text: Text
    claimed: str
    swapped: str | None
    evidence: tuple[str, ...]
    rejected: str | None  # why; None for what survives
    asked: tuple[Asked, ...]


class Negative(Strict):
    """A text that is false of its clip, by the verifier's word or as far as names tell. `actor` is who it is about, if
    anybody is there."""

    id: str
    text: str
    kind: Literal["partner absent", "object absent", "roles swapped"]
    actor: tuple[str, ...]
    of: str  # the text it was made from, as <clip>/<id>


Item = TypeVar("Item", Track, Object, Event, Text, Verdict, Negative)


class Line(Strict, Generic[Item]):
    """A clip's part of a stage. `made_from` is the hash of all that the stage read: while it holds, the line stays as
    it is, edited or not."""

    clip: str
    made_from: str
    items: tuple[Item, ...]
    abstained: tuple[Abstained, ...] = ()


def digest(*parts: Any) -> str:
    """16 hexadecimal digits of SHA-256: of bytes as they are, of anything else as sorted JSON."""
    found = hashlib.sha256()
    for part in parts:
        raw = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True, default=_plain).encode()
        found.update(len(raw).to_bytes(8, "big") + raw)
    return found.hexdigest()[:16]


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else str(value)


def read_lines(path: Path, kind: type[Line]) -> dict[str, Line]:
    """A stage's lines, by clip; the later of two wins. DataError naming file and line for one that cannot be read."""
    if not path.exists():
        return {}
    found: dict[str, Line] = {}
    for number, text in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not text.strip():
            continue
        try:
            line = kind.model_validate_json(text)
        except ValidationError as error:
            raise DataError(f"{path}: line {number}: {explain(error)}") from None
        found[line.clip] = line
    return found


def write_lines(path: Path, lines: Iterable[Any]) -> None:
    """All lines of a file, whole or not at all."""
    outputs.text(path, "".join(line.model_dump_json() + "\n" for line in lines))


def explain(error: ValidationError) -> str:
    """A validation error in one line: every place and what is wrong there, without the values."""
    found = []
    for entry in error.errors(include_url=False, include_input=False):
        place = ".".join(map(str, entry["loc"]))
        found.append(f"{place}: {entry['msg']}" if place else str(entry["msg"]))
    return "; ".join(found)


def names(items: Sequence[str]) -> str:
    """Several in words: "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(items[:-1]), items[-1]])) if items else ""
