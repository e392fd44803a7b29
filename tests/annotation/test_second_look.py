"""The verifier's two looks at a text and at its swap, and what becomes of each pair of verdicts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from running import SETTINGS

from reviosa_core.annotation import sources, tracks, verify
from reviosa_core.annotation.endpoint import Answer
from reviosa_core.annotation.questions import Prompts, Question
from reviosa_core.annotation.records import Asked, Text, Verdict
from reviosa_core.annotation.view import View

ASKED = Asked(question="q", model="m", prompt="p", images="i")


class Judge:
    """Answers by what is claimed: `says(text, subject, object)`; None is an abstention."""

    def __init__(self, says: Callable[[str, list[str], list[str]], str | None]) -> None:
        self.says, self.questions = says, list[Question]()

    def ask(self, question: Question) -> Answer:
        self.questions.append(question)
        found = [
            (claim["label"], self.says(claim["text"], claim["subject"], claim["object"]))
            for claim in question.facts["claims"]
        ]
        if any(verdict is None for _, verdict in found):
            return Answer(None, "refused: no", ASKED)
        claims = [{"label": label, "evidence": "seen", "verdict": verdict} for label, verdict in found]
        value = question.reply.model_validate({"claims": claims})
        question.check(value)
        return Answer(value, "", ASKED)


def directed(id: str, actor: str, target: str | None) -> Text:
    kind = "single" if target is None else "unidirectional"
    rest = {"voice": "none" if target is None else "active", "level": "class", "event": None, "asked": (ASKED,)}
    return Text(
        id=id,
        text=f"text {id}",
        caption_type=kind,
        actor=(actor,),
        target=None if target is None else (target,),
        **rest,
    )


@pytest.fixture
def look(world: Path):
    clip = sources.read(world)[0].clip
    a, b = list(clip.masks)[:2]

    def run(says, *texts: tuple[str, bool]) -> tuple[list[Verdict], Judge, View]:
        judge = Judge(says)
        view = View(clip, tracks.run(clip, SETTINGS, "x").items, SETTINGS, Prompts(), judge)
        made = [directed(id, a, b if pair else None) for id, pair in texts]
        return list(verify.run(view, made, "x").items), judge, view

    return run


@pytest.mark.parametrize(
    ("claimed", "swapped", "rejected"),
    [
        ("supported", "contradicted", None),
        ("supported", "uncertain", None),
        ("uncertain", "contradicted", None),
        ("uncertain", "uncertain", None),
        ("contradicted", "contradicted", "contradicted: seen"),
        ("contradicted", "supported", "contradicted: seen"),
        ("uncertain", "supported", "the roles: the swap is supported"),
        ("supported", "supported", "the roles: the swap is supported, too"),
        (None, "contradicted", "not verified: refused: no"),
        ("supported", None, "not verified: refused: no"),
    ],
)
def test_both_looks_count(look, claimed: str | None, swapped: str | None, rejected: str | None):
    """The first look swaps the first text; the second look claims it."""
    order = iter([swapped, claimed])
    (verdict,), judge, _ = look(lambda *_: next(order), ("one", True))
    assert verdict.rejected == rejected and len(judge.questions) == 2
    if claimed and swapped:
        assert (verdict.claimed, verdict.swapped) == (claimed, swapped)
        assert verdict.evidence == ("seen", "of the swap: seen")


def test_a_text_without_a_target_is_claimed_twice_and_the_worse_counts(look):
    order = iter(["supported", "contradicted"])
    (verdict,), *_ = look(lambda *_: next(order), ("one", False))
    assert verdict.claimed == "contradicted" and verdict.swapped is None and verdict.rejected == "contradicted: seen"


def test_nobody_can_tell_from_its_place_which_is_the_swap(look):
    _, judge, view = look(lambda *_: "uncertain", ("one", True), ("two", True), ("three", True))
    first, second = ({c["text"]: (c["subject"], c["object"]) for c in q.facts["claims"]} for q in judge.questions)
    a, b = view.ids[:2]
    for question, order, swapped in ((first, 1, {"text one", "text three"}), (second, 2, {"text two"})):
        number = {id: str(n) for id, n in view.renumbered(order).items()}
        for text, (subject, object) in question.items():
            due = (b, a) if text in swapped else (a, b)
            assert (subject, object) == ([number[due[0]]], [number[due[1]]])
    assert view.renumbered(1) != view.renumbered(2), "new numbers each time"
