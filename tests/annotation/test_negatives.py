"""Texts that are false of their clip: only where it is known that they are."""

from __future__ import annotations

import pytest
from running import SETTINGS, Ran

from reviosa_core.annotation import negatives
from reviosa_core.annotation.pipeline import stage_file
from reviosa_core.annotation.records import Asked, Object, Text, Track, Verdict, write_lines
from reviosa_core.bounds import changed

ASKED = Asked(question="q", model="m", prompt="p", images="i")


def thing(id: str, category: str) -> Object:
    return Object(id=id, category=category, look=f"small {category}", motion="running", asked=ASKED)


def track(id: str, source: str = "given", poor: str | None = None) -> Track:
    return Track(id=id, source=source, area=0.1, presence=1, stability=1, poor=poor)


def said(id: str, text: str, *roles: str, voice: str = "active") -> Text:
    kind, target = ("unidirectional", (roles[1],)) if roles[1:] else ("single", None)
    about = {"actor": (roles[0],), "target": target, "voice": voice, "level": "class", "event": "e0", "asked": (ASKED,)}
    return Text(id=id, text=text, caption_type=kind, **about)


HERE = [thing("a", "Man"), thing("b", "dog")]
TEXTS = [
    said("e0.active", "the man pulling the dog", "a", "b"),
    said("e0.passive", "the dog pulled by the man", "b", "a", voice="passive"),
]


@pytest.mark.parametrize(
    ("category", "look", "absent"),
    [
        ("cat", "small cat", True),
        ("man", "small man", False),
        ("DOG", "big DOG", False),
        ("person", "man in a red shirt", False),
        ("hot dog", "hot dog", False),
        ("cat", "small grey cat", True),  # other things may be small, too
    ],
)
def test_a_class_is_one_however_it_is_spelt(category: str, look: str, absent: bool):
    known = {"here": HERE, "there": [Object(id="c", category=category, look=look, motion="running", asked=ASKED)]}
    partner = negatives.partner_absent("here", TEXTS, HERE, known, 0)
    text = said("c.look", "something small", "c", voice="none")
    gone = negatives.object_absent("here", HERE, {"here": TEXTS, "there": [text]}, known, 0)
    assert (bool(partner), bool(gone)) == (absent, absent)
    if absent:
        assert gone[0].of == "there/c.look" and partner[0].text.endswith("the cat")
        assert [n.of for n in partner] == ["here/e0.active", "here/e0.passive"] and partner[0].actor == ("a",)


def test_a_class_is_one_by_either_ones_look():
    here = [Object(id="a", category="person", look="man in a red shirt", motion="walking", asked=ASKED)]
    text = said("c.look", "the small man", "c", voice="none")
    assert not negatives.object_absent("here", here, {"there": [text]}, {"there": [thing("c", "man")]}, 0)


def judged(text: Text, swapped: str | None, rejected: str | None = None) -> Verdict:
    return Verdict(text=text, claimed="supported", swapped=swapped, evidence=(), rejected=rejected, asked=())


@pytest.mark.parametrize(
    ("swapped", "rejected", "found"),
    [
        ("contradicted", None, ["the dog pulling the man"]),
        ("uncertain", None, []),  # hugging, say
        (None, None, []),  # not looked at a second time, or not as a swap
        ("contradicted", "contradicted: no", []),
    ],
)
def test_a_swap_is_false_where_the_verifier_said_so(swapped: str | None, rejected: str | None, found: list[str]):
    verdicts = [judged(TEXTS[0], swapped, rejected), judged(TEXTS[1], "uncertain")]
    false = negatives.roles_swapped("here", verdicts)
    assert [n.text for n in false] == found and all(n.of == "here/e0.active" for n in false)


@pytest.mark.parametrize(
    ("tracks", "known"),
    [
        ([track("a"), track("b", "box")], True),
        ([track("a"), track("b"), track("c")], False),  # c abstained
        ([track("a"), track("b"), track("c", poor="area 0, at least 1 is wanted")], False),
        ([track("a", "grid"), track("b", "grid")], False),
        ([], False),
    ],
)
def test_what_is_not_known_may_be_anything(tracks: list[Track], known: bool):
    assert negatives.all_known(tracks, HERE, complete=True) is known
    assert not negatives.all_known(tracks, HERE, complete=False), "masks may be of what was annotated only"


def test_nothing_is_absent_unless_somebody_says_that_the_masks_are_complete(annotate):
    assert not absent(annotate())


def absent(ran: Ran) -> set[str]:
    return {c for c, line in ran.lines("negatives").items() if any("absent" in n.kind for n in line.items)}


def test_nothing_is_absent_where_an_object_abstained(annotate):
    ran = annotate(refusal=0.2, complete=True)
    lacking = {c for c, line in ran.lines("objects").items() if line.abstained}
    assert lacking and absent(ran) == ran.lines("objects").keys() - lacking


def test_nothing_is_absent_where_a_track_is_poor_until_somebody_strikes_it_out(annotate):
    settings = changed(SETTINGS, objects=4)
    ran = annotate(settings=settings, complete=True)
    lines = ran.lines("tracks")
    poor = {c for c, line in lines.items() if any(track.poor for track in line.items)}
    assert poor and absent(ran) == lines.keys() - poor
    good = [
        line.model_copy(update={"items": tuple(track for track in line.items if not track.poor)})
        for line in lines.values()
    ]
    write_lines(stage_file(ran.out, "tracks"), good)
    assert absent(annotate(settings=settings, complete=True)) == lines.keys()
