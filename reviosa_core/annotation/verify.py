"""A second look: does each text hold of the objects it is about, and would it hold with the roles exchanged?

Two questions for a dozen texts, on tracks with new numbers each time. A directed text is claimed in one of them and
swapped in the other, so that nobody can tell from its place which is which: subject and object change places in the
words and in the numbers, so that only the direction can be false. Any other is claimed in both, as is one whose words
cannot be turned round. A single track has one number and gets one question: the same one twice is no second look.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import create_model

from reviosa_core.annotation.questions import Question, Reply, check_ids
from reviosa_core.annotation.records import Abstained, Asked, Line, Text, Verdict
from reviosa_core.annotation.view import View, one_of, several
from reviosa_core.annotation.voices import exchanged, words

AT_ONCE = 12  # texts a question
LABELS = "ABCDEFGHIJKL"
SWAP = "words and numbers"  # what changes places: verdicts of another way of asking are out of date


class Claim(NamedTuple):
    """What is said of a text, with the objects that it is said to be about."""

    text: Text
    said: str
    subject: tuple[str, ...]
    object: tuple[str, ...]
    swapped: bool


def looks(tracks: int) -> int:
    """How many questions for each dozen."""
    return min(tracks, 2)


def claims(texts: Sequence[Text], turned: Mapping[str, str], order: int) -> list[Claim]:
    """Every other text that can be `turned` (by id, what is said then) swapped; the next time, the others."""
    found = []
    for place, text in enumerate(texts):
        roles = (text.actor, text.target or ())
        swapped = text.id in turned and (place + order) % 2 == 1
        said = turned[text.id] if swapped else text.text
        found.append(Claim(text, said, *(roles[::-1] if swapped else roles), swapped))
    return found


def question(view: View, made: Sequence[Claim], order: int) -> Question:
    numbers = view.renumbered(order)
    labels = list(LABELS[: len(made)])
    one = create_model(
        "One",
        __base__=Reply,
        label=(one_of(labels), ...),
        evidence=(str, ...),  # before the verdict: what is written first is what the verdict can rest on
        verdict=(Literal["supported", "contradicted", "uncertain"], ...),
    )
    reply = create_model("Verdicts", __base__=Reply, claims=(several(one), ...))

    def check(found: Any) -> None:
        check_ids([c.label for c in found.claims], labels, "claims")
        if bare := [c.label for c in found.claims if c.verdict == "contradicted" and not c.evidence.strip()]:
            raise ValueError(f"claims {bare} are contradicted without evidence; name what is seen, or say uncertain")

    said = [
        {
            "label": label,
            "text": claim.said,
            "subject": [str(numbers[id]) for id in claim.subject],
            "object": [str(numbers[id]) for id in claim.object],
        }
        for label, claim in zip(labels, made, strict=True)
    ]
    return Question("verify", view.prompts["verify"], {"claims": said}, reply, view.images(numbers), check)


def run(view: View, texts: Sequence[Text], made_from: str, ask: bool = True) -> Line[Verdict]:
    """A verdict for each text. Texts that mean several things at once are rejected unasked; `ask` False lets all
    others pass."""
    twice = ambiguous(texts)
    found = {id: _verdict(text, reason) for id, (text, reason) in twice.items()}
    rest = [text for text in texts if text.id not in twice]
    turned = {text.id: said for text in rest if (said := exchanged(text, texts))}
    silent: list[Abstained] = []
    for some in _batches(rest) if ask else ():
        verdicts, lost = _verify(view, some, turned)
        found |= {verdict.text.id: verdict for verdict in verdicts}
        silent += lost
    ordered = tuple(found.get(text.id) or _verdict(text, None) for text in texts)
    return Line[Verdict](clip=view.clip.id, made_from=made_from, items=ordered, abstained=tuple(silent))


def _batches(texts: Sequence[Text]) -> list[Sequence[Text]]:
    return [texts[i : i + AT_ONCE] for i in range(0, len(texts), AT_ONCE)]


def _verdict(text: Text, rejected: str | None) -> Verdict:
    return Verdict(text=text, claimed="not asked", swapped=None, evidence=(), rejected=rejected, asked=())


def ambiguous(texts: Sequence[Text]) -> dict[str, tuple[Text, str]]:
    """By id, texts of the same words that mean different objects or roles; and all but the first of those that say
    the same twice."""
    by_words: dict[str, list[Text]] = defaultdict(list)
    for text in texts:
        by_words[words(text.text)].append(text)
    found = {}
    for same in by_words.values():
        meant = {(tuple(sorted(t.actor)), tuple(sorted(t.target or ()))) for t in same}
        for text in same if len(meant) > 1 else same[1:]:
            reason = f"ambiguous: the same words mean {len(meant)} things" if len(meant) > 1 else f"as {same[0].id}"
            found[text.id] = (text, reason)
    return found


def _verify(view: View, texts: Sequence[Text], turned: Mapping[str, str]) -> tuple[list[Verdict], list[Abstained]]:
    """A verdict a text, and the questions that got no usable answer: all that they were about is not verified."""
    said: dict[str, dict[bool, list[tuple[str, str]]]] = {text.id: {False: [], True: []} for text in texts}
    asked: list[Asked] = []
    silent: list[Abstained] = []
    for order in range(1, 1 + looks(len(view.ids))):
        made = claims(texts, turned, order)
        answer = view.endpoint.ask(question(view, made, order))
        asked.append(answer.asked)
        if answer.value is None:
            silent.append(Abstained(of="", reason=answer.reason, question=answer.asked.question))
            continue
        by_label = {one.label: one for one in answer.value.claims}
        for label, claim in zip(LABELS, made, strict=False):
            one = by_label[label]
            said[claim.text.id][claim.swapped].append((one.verdict, one.evidence.strip()))
    reason = silent[-1].reason if silent else ""
    return [_judge(text, said[text.id], tuple(asked), reason) for text in texts], silent


def _judge(
    text: Text, said: Mapping[bool, Sequence[tuple[str, str]]], asked: tuple[Asked, ...], silent: str
) -> Verdict:
    """Uncertain is not contradicted; but a swap that is held for true, of a directed text, takes the text with it."""
    claimed, swapped = worst([v for v, _ in said[False]]), [v for v, _ in said[True]]
    of = {False: "", True: "of the swap: "}
    evidence = tuple(of[other] + e for other, pairs in said.items() for _, e in pairs if e)
    against = "; ".join(e for v, e in said[False] if v == "contradicted")
    reason = None
    if silent:
        reason = f"not verified: {silent}"
    elif claimed == "contradicted":
        reason = f"contradicted: {against}"
    elif "supported" in swapped:
        reason = "the roles: the swap is supported" + (", too" if claimed == "supported" else "")
    return Verdict(
        text=text,
        claimed=claimed,
        swapped=worst(swapped) if swapped else None,
        evidence=evidence,
        rejected=reason,
        asked=asked,
    )


def worst(verdicts: Sequence[str]) -> str:
    """Contradicted before uncertain before supported; "not answered" of none."""
    return next((v for v in ("contradicted", "uncertain", "supported") if v in verdicts), "not answered")
