"""Stage 2: referring expressions of objects by themselves: look, motion, both; objects alike in motion together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import create_model

from reviosa_core.annotation.questions import Question, Reply, check_ids, check_text
from reviosa_core.annotation.records import Abstained, Asked, Line, Object, Text
from reviosa_core.annotation.view import View, one_of, several

LEVELS = {"look": "appearance", "motion": "motion", "both": "both"}


def question(view: View, objects: Sequence[Object]) -> Question:
    """Text in, text out: no pictures."""
    numbers = {str(view.numbers[o.id]): o for o in objects}
    words = view.settings.words
    id = one_of(list(numbers))
    own = create_model("Own", __base__=Reply, id=(id, ...), look=(str, ...), motion=(str, ...), both=(str, ...))
    group = create_model("Group", __base__=Reply, ids=(several(id), ...), text=(str, ...))
    reply = create_model("Expressions", __base__=Reply, objects=(several(own), ...), groups=(several(group), ...))

    def check(found: Any) -> None:
        check_ids([o.id for o in found.objects], list(numbers), "objects")
        for o in found.objects:
            for kind in LEVELS:
                check_text(getattr(o, kind), words, f"object {o.id}, {kind}")
        members = [id for g in found.groups for id in g.ids]
        if len(members) != len(set(members)) or any(len(g.ids) < 2 for g in found.groups):
            raise ValueError(f"groups of {[g.ids for g in found.groups]}: two objects or more, each in one group only")
        for g in found.groups:
            check_text(g.text, words, f"group {g.ids}")

    facts = {
        "objects": [
            {"id": number, "class": o.category, "look": o.look, "motion": o.motion} for number, o in numbers.items()
        ]
    }
    return Question("expressions", view.prompts["expressions"], facts, reply, check=check)


def run(view: View, objects: Sequence[Object], made_from: str) -> Line[Text]:
    """Who is in a group has no text of motion alone: it would be true of the others as well."""
    line = Line[Text](clip=view.clip.id, made_from=made_from, items=())
    if not objects:
        return line
    answer = view.endpoint.ask(question(view, objects))
    if answer.value is None:
        lost = Abstained(of="", reason=answer.reason, question=answer.asked.question)
        return line.model_copy(update={"abstained": (lost,)})
    of_number = {str(view.numbers[o.id]): o for o in objects}
    grouped = {id for g in answer.value.groups for id in g.ids}
    found = []
    for own in answer.value.objects:
        known = of_number[own.id]
        for kind, level in LEVELS.items():
            if kind != "motion" or own.id not in grouped:
                rests = (known.asked, answer.asked)
                found.append(_text(f"{known.id}.{kind}", getattr(own, kind), level, (known.id,), rests))
    for g in answer.value.groups:
        members = [of_number[id] for id in g.ids]
        ids, rests = tuple(o.id for o in members), (*(o.asked for o in members), answer.asked)
        found.append(_text(f"{'+'.join(ids)}.motion", g.text, "both", ids, rests))
    return line.model_copy(update={"items": tuple(found)})


def _text(id: str, text: str, level: Any, actor: tuple[str, ...], asked: tuple[Asked, ...]) -> Text:
    kind = "single" if len(actor) == 1 else "multi"
    return Text(
        id=id,
        text=text.strip().rstrip("."),
        caption_type=kind,
        actor=actor,
        target=None,
        voice="none",
        level=level,
        event=None,
        asked=asked,
    )
