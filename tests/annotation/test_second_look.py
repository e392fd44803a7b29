"""The verifier's two looks at a text and at its swap, and what becomes of each pair of verdicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from running import SETTINGS

from reviosa_core.annotation import sources, tracks, verify
from reviosa_core.annotation.answers import holds
from reviosa_core.annotation.endpoint import Answer
from reviosa_core.annotation.questions import Prompts, Question
from reviosa_core.annotation.records import Asked, Line, Text, Verdict
from reviosa_core.annotation.truth import Happening, Known, Truth
from reviosa_core.annotation.view import View
from reviosa_core.annotation.voices import exchanged

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


def said(id: str, text: str, actor: str, target: str | None = None, voice: str = "none") -> Text:
    kind = "single" if target is None else "unidirectional"
    roles = {"actor": (actor,), "target": None if target is None else (target,), "voice": voice}
    return Text(id=id, text=text, caption_type=kind, level="class", event="e0", asked=(ASKED,), **roles)


def both(a: str, b: str, subject: str = "the man", object: str = "the dog") -> list[Text]:
    """An event in both voices."""
    return [
        said("active", f"{subject} pulling {object}", a, b, "active"),
        said("passive", f"{object} pulled by {subject}", b, a, "passive"),
    ]


@pytest.fixture
def look(world: Path):
    clip = sources.read(world)[0].clip
    ids = list(clip.masks)

    def run(says, make, count: int = 9) -> tuple[dict[str, Verdict], Judge, View, Line[Verdict]]:
        judge = Judge(says)
        found = tracks.run(clip, SETTINGS, "x").items[:count]
        view = View(clip, found, SETTINGS, Prompts(), judge)
        line = verify.run(view, make(*ids[:2]), "x")
        return {v.text.id: v for v in line.items}, judge, view, line

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
    answers = {"the man pulling the dog": claimed, "the dog pulling the man": swapped}
    found, judge, _, line = look(lambda text, *_: answers.get(text, "uncertain"), both)
    verdict = found["active"]
    assert verdict.rejected == rejected and len(judge.questions) == 2
    assert [lost.reason for lost in line.abstained] == ["refused: no"] * (not (claimed and swapped))
    if claimed and swapped:
        assert (verdict.claimed, verdict.swapped) == (claimed, swapped)
        assert verdict.evidence == ("seen", "of the swap: seen")


def claimed(judge: Judge, view: View) -> list[dict[str, tuple[str, str]]]:
    """In each question: text -> the tracks that are said to be its subject and object."""
    found = []
    for order, question in enumerate(judge.questions, 1):
        id = {str(n): id for id, n in view.renumbered(order).items()}
        found.append({c["text"]: tuple(id[n] for n in (*c["subject"], *c["object"])) for c in question.facts["claims"]})
    return found


def test_a_swap_exchanges_the_roles_in_the_words_and_in_the_numbers(look):
    _, judge, view, _ = look(lambda *_: "uncertain", both)
    a, b = view.ids[:2]
    assert claimed(judge, view) == [
        {"the dog pulling the man": (b, a), "the dog pulled by the man": (b, a)},
        {"the man pulling the dog": (a, b), "the man pulled by the dog": (a, b)},
    ]


def test_of_two_that_are_called_the_same_a_swap_exchanges_the_numbers(look):
    _, judge, view, _ = look(lambda *_: "uncertain", lambda a, b: both(a, b, "the dog", "another dog"))
    a, b = view.ids[:2]
    first, second = (found["the dog pulling another dog"] for found in claimed(judge, view)[:2])
    assert (first, second) == ((b, a), (a, b))


def test_a_text_that_is_the_wrong_way_round_is_false_as_claim_and_true_as_swap():
    """Whatever things are called: then a verifier must err twice."""
    for names in (("star", "ring"), ("star", "star")):
        objects = {k: Known(category=n, look=n, motion="still") for k, n in zip("ab", names, strict=True)}
        event = Happening(active="pulling", passive="pulled by", agents=("a",), patients=("b",))
        known = Truth(objects=objects, events=(event,))
        second = "another star" if names[0] == names[1] else f"the {names[0]}"
        texts = both("b", "a", f"the {names[1]}", second)
        for text in texts:
            swap = exchanged(text, texts)
            assert swap is not None and text.target is not None
            assert not holds(known, text.text, text.actor, text.target)
            assert holds(known, swap, text.target, text.actor)


def neither_voice(a: str, b: str) -> list[Text]:
    return [said("only", "the man pulling the dog", a, b, "active")]


def both_directions(a: str, b: str) -> list[Text]:
    other = [t.model_copy(update={"id": f"{t.id} too", "event": "e1"}) for t in both(b, a, "the dog", "the man")]
    return [*both(a, b), *other]


@pytest.mark.parametrize(
    "make", [lambda a, b: [said("one", "the man", a)], neither_voice, both_directions], ids=["one", "only", "mutual"]
)
def test_what_has_no_swap_is_claimed_twice_and_the_worse_counts(look, make):
    order = iter(range(2 * 4))

    def says(*_: object) -> str:
        return "supported" if next(order) % (2 * len(make("a", "b"))) < len(make("a", "b")) else "contradicted"

    found, judge, _, _ = look(says, make)
    assert len(judge.questions) == 2
    for verdict in found.values():
        assert verdict.claimed == "contradicted" and verdict.swapped is None
        assert verdict.rejected == "contradicted: seen"


def test_the_same_question_twice_is_one_look(look):
    found, judge, _, _ = look(lambda *_: "supported", lambda a, b: [said("one", "the man", a)], count=1)
    assert len(judge.questions) == len(found["one"].asked) == 1 and found["one"].rejected is None


@pytest.mark.parametrize("count", [2, 3, 4, 12])
def test_in_two_looks_no_track_keeps_its_number(world: Path, count: int):
    clip = sources.read(world)[0].clip
    for name in ("a", "b", "c", "d"):
        view = View(replace(clip, id=name), [], SETTINGS, Prompts(), Judge(lambda *_: None))
        view.ids = tuple(map(str, range(count)))
        first, second = view.renumbered(1), view.renumbered(2)
        assert sorted(first.values()) == sorted(second.values()) == list(range(1, count + 1))
        assert all(first[id] != second[id] for id in view.ids)
        plain = {id: number for number, id in enumerate(view.ids, 1)}
        assert count < 3 or plain not in (first, second)
