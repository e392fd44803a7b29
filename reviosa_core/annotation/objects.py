"""Stage 1: each object by itself: class, look and motion, from frames with that object outlined."""

from __future__ import annotations

from reviosa_core.annotation.questions import Question, Reply, check_text
from reviosa_core.annotation.records import Abstained, Line, Object
from reviosa_core.annotation.view import View


class Described(Reply):
    category: str
    look: str
    motion: str


def question(view: View, id: str) -> Question:
    def check(found: Described) -> None:
        for name in ("category", "look", "motion"):
            check_text(getattr(found, name), view.settings.words, name)

    facts = {"frames": list(view.shown)}
    return Question("objects", view.prompts["objects"], facts, Described, view.images({id: 1}, plain=True), check)


def run(view: View, made_from: str) -> Line[Object]:
    """A record an object; who got no usable answer abstains."""
    found, abstained = [], []
    for id in view.ids:
        answer = view.endpoint.ask(question(view, id))
        if answer.value is None:
            abstained.append(Abstained(of=id, reason=answer.reason, question=answer.asked.question))
        else:
            said = {name: text.strip().rstrip(".") for name, text in answer.value.model_dump().items()}
            found.append(Object(id=id, **said, asked=answer.asked))
    return Line[Object](clip=view.clip.id, made_from=made_from, items=tuple(found), abstained=tuple(abstained))
