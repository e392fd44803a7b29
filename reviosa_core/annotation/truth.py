"""What is known about clips, to answer from and to compare with: InterShapes' own notes, or a file written by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from reviosa_core.annotation.records import Event, explain
from reviosa_core.bounds import Strict
from reviosa_core.data.jsonfile import read_json
from reviosa_core.intershapes.language import moves
from reviosa_core.intershapes.splits import read_side_file
from reviosa_core.intershapes.verbs import VERBS
from reviosa_core.intershapes.world import HEADINGS
from reviosa_core.schema import DataError


class Known(Strict):
    category: str
    look: str
    motion: str


class Happening(Strict):
    """`agents` do `active` to `patients`, who are `passive` them; symmetric without `passive`, all being agents."""

    active: str
    passive: str | None
    agents: tuple[str, ...]
    patients: tuple[str, ...] = ()

    @property
    def participants(self) -> frozenset[str]:
        return frozenset((*self.agents, *self.patients))


class Truth(Strict):
    """Objects by mask key, and all that happens between them."""

    objects: dict[str, Known]
    events: tuple[Happening, ...]


def of_intershapes(folder: Path) -> dict[str, Truth]:
    """By clip, of a split that InterShapes wrote; DataError for any other folder."""
    notes = read_side_file(folder)
    if not notes:
        raise DataError(f"{folder}: has no notes of InterShapes")
    found, first = {}, 0
    for clip, note in notes.items():
        found[clip] = _intershapes(note, first)
        first += len(note["shapes"])  # mask keys count through the folder
    return found


def _intershapes(note: dict, first: int) -> Truth:
    verdicts = moves(np.array(note["centres"]))
    objects = {}
    for k, shape in enumerate(note["shapes"]):
        heading = next((HEADINGS[name] for name, states in verdicts.items() if states[k]), "moving about")
        look = f"{shape['color']} {shape['kind']}"
        objects[str(first + k)] = Known(category=shape["kind"], look=look, motion=heading)
    events = []
    for event in note["interactions"]:
        verb, a, b = VERBS[event["verb"]], str(first + event["a"]), str(first + event["b"])
        roles = {"agents": (a,), "patients": (b,)} if event["directed"] else {"agents": (a, b)}
        events.append(Happening(active=verb.active, passive=verb.passive, **roles))
    return Truth(objects=objects, events=tuple(events))


def read(path: Path) -> dict[str, Truth]:
    """A JSON object, {clip: {"objects": {key: {category, look, motion}}, "events": [...]}}. DataError."""
    found = {}
    for clip, raw in read_json(path).items():
        try:
            found[clip] = Truth.model_validate(raw)
        except ValidationError as error:
            raise DataError(f"{path}: clip {clip}: {explain(error)}") from None
    return found


class Score(Strict):
    """Events found against events there. One counts as found when predicate and participants agree; its roles are
    right when the agents do, too."""

    found: int
    there: int
    right: int
    directed: int  # of the right ones
    roles: int  # of those, with the right agents

    @property
    def precision(self) -> float:
        return self.right / self.found if self.found else float("nan")

    @property
    def recall(self) -> float:
        return self.right / self.there if self.there else float("nan")

    @property
    def role_accuracy(self) -> float:
        return self.roles / self.directed if self.directed else float("nan")


def compare(events: Mapping[str, Iterable[Event]], truths: Mapping[str, Truth]) -> Score:
    """Over all clips of `truths`: one that has no events here counts as one in which none was found."""
    total: Counter[str] = Counter()
    for clip, truth in truths.items():
        due = [(e.active, e.participants, frozenset(e.agents), e.passive is not None) for e in truth.events]
        total["there"] += len(due)
        for event in events.get(clip, ()):
            total["found"] += 1
            everybody = frozenset((*event.agents, *event.patients))
            match = next((d for d in due if d[:2] == (event.predicate, everybody)), None)
            if match is None:
                continue
            due.remove(match)
            total["right"] += 1
            if match[3]:
                total["directed"] += 1
                total["roles"] += frozenset(event.agents) == match[2] and bool(event.patients)
    return Score(**{name: total[name] for name in Score.model_fields})
