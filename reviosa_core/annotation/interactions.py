"""Stage 4: sentences about events: voice and level of naming are arguments, and who is who comes from the event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import create_model

from reviosa_core.annotation.questions import Question, Reply, check_ids, check_text
from reviosa_core.annotation.records import Abstained, Event, Level, Line, Object, Text, Voice, names
from reviosa_core.annotation.view import View, one_of, several

NAMING: tuple[Level, ...] = ("class", "appearance")


class Wanted(NamedTuple):
    """A sentence to write. The subject is the paper's actor: the agents in the active voice, the patients in the
    passive one, everybody when it is mutual."""

    key: str
    voice: Voice
    level: Level
    subject: tuple[str, ...]
    object: tuple[str, ...]


def wanted(event: Event) -> list[Wanted]:
    """Each voice at each level of naming."""
    voices: list[tuple[Voice, tuple[str, ...], tuple[str, ...]]] = [
        ("active", event.agents, event.patients),
        ("passive", event.patients, event.agents),
    ]
    if event.symmetric:
        voices = [("mutual", event.agents, ())]
    return [Wanted(f"{voice} {level}", voice, level, *roles) for voice, *roles in voices for level in NAMING]


def naming(one: Wanted, objects: Mapping[str, Object]) -> tuple[str, str]:
    """What subject and object are called. Who is called like somebody before is "another"."""
    said: list[str] = []

    def call(id: str) -> str:
        known = objects[id]
        name = known.category if one.level == "class" else known.look
        said.append(name)
        return f"the {name}" if said.count(name) == 1 else f"another {name}"

    subject = names([call(id) for id in one.subject])
    return subject, names([call(id) for id in one.object])


def question(view: View, event: Event, objects: Mapping[str, Object]) -> Question:
    """Text in, text out: no pictures."""
    due = wanted(event)
    sentence = create_model("Sentence", __base__=Reply, key=(one_of([one.key for one in due]), ...), text=(str, ...))
    reply = create_model("Interactions", __base__=Reply, texts=(several(sentence), ...))
    tools = names([f"the {objects[id].look}" for id in event.instruments if id in objects])
    facts: dict[str, Any] = {"predicate": event.predicate, "with": tools, "texts": []}
    for one in due:
        subject, object = naming(one, objects)
        facts["texts"].append({"key": one.key, "voice": one.voice, "subject": subject, "object": object})

    def check(found: Any) -> None:
        check_ids([one.key for one in found.texts], [one.key for one in due], "texts")
        for one in found.texts:
            check_text(one.text, view.settings.words, one.key)

    return Question("interactions", view.prompts["interactions"], facts, reply, check=check)


def run(view: View, objects: Sequence[Object], events: Sequence[Event], made_from: str) -> Line[Text]:
    """Texts of every event whose participants have names; the others abstain."""
    known = {o.id: o for o in objects}
    found, abstained = [], []
    for event in events:
        unnamed = [id for id in (*event.agents, *event.patients) if id not in known]
        if unnamed:
            lost = f"{names([f'object {id}' for id in unnamed])} has no name"
            abstained.append(Abstained(of=event.id, reason=lost, question=event.asked.question))
            continue
        answer = view.endpoint.ask(question(view, event, known))
        if answer.value is None:
            abstained.append(Abstained(of=event.id, reason=answer.reason, question=answer.asked.question))
            continue
        rests = (*(known[id].asked for id in (*event.agents, *event.patients)), event.asked, answer.asked)
        written = {one.key: one.text for one in answer.value.texts}
        found += [_text(event, one, written[one.key], rests) for one in wanted(event)]
    return Line[Text](clip=view.clip.id, made_from=made_from, items=tuple(found), abstained=tuple(abstained))


def _text(event: Event, one: Wanted, text: str, rests: tuple) -> Text:
    return Text(
        id=f"{event.id}.{one.key.replace(' ', '.')}",
        text=text.strip().rstrip("."),
        caption_type="bidirectional" if event.symmetric else "unidirectional",
        actor=one.subject,
        target=one.object or None,
        voice=one.voice,
        level=one.level,
        event=event.id,
        agents=event.agents,
        patients=event.patients,
        asked=rests,
    )
