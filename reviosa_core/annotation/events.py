"""Stage 3: who does what to whom, from frames with numbered outlines. Roles are asked for, never read off words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field, create_model

from reviosa_core.annotation.questions import Question, Reply, check_text
from reviosa_core.annotation.records import Abstained, Event, Line, Object
from reviosa_core.annotation.view import View, one_of, several


def question(view: View, objects: Sequence[Object]) -> Question:
    """Any number of agents and patients: one to many, and chains, are events like others."""
    known = {o.id: o for o in objects}
    id, frame = one_of([str(number) for number in view.numbers.values()]), one_of(view.shown)
    happens = create_model(
        "Happens",
        __base__=Reply,
        predicate=(str, ...),
        agents=(several(id), ...),
        patients=(several(id), ...),
        instruments=(several(id), ...),
        symmetric=(bool, ...),
        first_frame=(frame, ...),
        last_frame=(frame, ...),
        confidence=(float, Field(ge=0, le=1)),
    )
    reply = create_model("Events", __base__=Reply, events=(several(happens), ...))
    seen = [
        {"id": str(number), "class": o.category, "look": o.look} if (o := known.get(id)) else {"id": str(number)}
        for id, number in view.numbers.items()
    ]
    facts = {"objects": seen, "frames": list(view.shown)}

    def check(found: Any) -> None:
        for k, event in enumerate(found.events):
            check_event(event, f"event {k}", view.settings.words)
        same = [(e.predicate.lower(), sorted(e.agents), sorted(e.patients)) for e in found.events]
        if any(same.count(one) > 1 for one in same):
            raise ValueError("an event is there twice")

    return Question("events", view.prompts["events"], facts, reply, view.images(view.numbers), check)


def check_event(event: Any, where: str, words: int) -> None:
    """ValueError for an event that nothing could look like."""
    check_text(event.predicate, words, f"{where}, predicate")
    everybody = [*event.agents, *event.patients, *event.instruments]
    if len(everybody) != len(set(everybody)):
        raise ValueError(f"{where}: an object has two parts: {everybody}")
    if event.symmetric and (len(event.agents) < 2 or event.patients):
        raise ValueError(f"{where}: symmetric: all who take part are agents, two at least, and nobody is a patient")
    if not event.symmetric and not (event.agents and event.patients):
        raise ValueError(f"{where}: {len(event.agents)} agents and {len(event.patients)} patients; one of each is due")
    if event.first_frame > event.last_frame:
        raise ValueError(f"{where}: from frame {event.first_frame} to frame {event.last_frame}, which is before")


def run(view: View, objects: Sequence[Object], made_from: str) -> Line[Event]:
    """One question a clip; none where fewer than two objects are to be seen."""
    line = Line[Event](clip=view.clip.id, made_from=made_from, items=())
    if len(view.ids) < 2:
        return line
    answer = view.endpoint.ask(question(view, objects))
    if answer.value is None:
        lost = Abstained(of="", reason=answer.reason, question=answer.asked.question)
        return line.model_copy(update={"abstained": (lost,)})
    track = {str(number): id for id, number in view.numbers.items()}
    found = []
    for k, event in enumerate(answer.value.events):
        roles = {
            role: tuple(track[id] for id in getattr(event, role)) for role in ("agents", "patients", "instruments")
        }
        said = event.model_dump(include={"predicate", "symmetric", "first_frame", "last_frame", "confidence"})
        found.append(Event(id=f"e{k}", **said, **roles, asked=answer.asked))
    return line.model_copy(update={"items": tuple(found)})
