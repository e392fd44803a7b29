from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny

from reviosa_core import masks
from reviosa_core.intershapes import scenes, splits, targets
from reviosa_core.intershapes.targets import OPPOSITE, SAID, unnamed
from reviosa_core.schema import Clip, Prediction, Role
from reviosa_core.scoring import metrics
from reviosa_core.scoring.evaluate import evaluate


@pytest.mark.parametrize(
    ("text", "described"),
    [
        ("the red box pulling a star", None),
        ("the red box hitting the star", "the object being hit by the red box"),
        ("the star being bumped into by the box", "the object bumping into the star"),
        ("the star leading another star", "the object being led by the star"),
        ("the box being hit by the other box", "the object hitting the box"),
        ("the circle and the star meeting each other", None),
        ("the two circles circling each other", None),
        ("the objects moving left", None),
    ],
)  # fmt: skip
def test_rewrites(text: str, described: str | None):
    assert unnamed(text) == described


def turned_round(text: str) -> str | None:
    """The same event with the target as its subject: "the star being pushed by the circle" for "the circle pushing the
    star"."""
    found = SAID.fullmatch(text)
    return found and f"the {found['object']} {OPPOSITE[found['said']]} {found['which']} {found['subject']}"


def clips(count: int) -> list[Clip]:
    return [splits.to_clip(scenes.make_scene(tiny.data(32, 4), (0, 0, i)), str(i)) for i in range(count)]


def test_every_event_is_said_both_ways():
    """So a target that is asked for by its name is an actor of the clip. Each form is asked as often as the other."""
    asked = []
    for clip in clips(20):
        said = {(e.actor, e.target, e.text) for e in clip.expressions if e.target}
        assert {(actor, target, turned_round(text)) for target, actor, text in said} == said
        asked += [unnamed(text) for *_, text in said]
    assert len(asked) > 40 and sum(" being " in text for text in asked) == len(asked) / 2


class Oracle:
    """Segments the actor of the clip's expression that has this text."""

    roles = (Role.ACTOR,)

    def collate(self, samples, rng=None):
        raise AssertionError("not trained here")

    def training_losses(self, batch):
        raise AssertionError("not trained here")

    def segment(self, clip, expressions=None):
        by_text = {e.text: e.actor for e in clip.expressions}
        empty = np.zeros((len(clip), *clip.size), dtype=bool)
        drawn = {e.id: masks.union(clip, by_text[e.text]) if e.text in by_text else empty for e in expressions}
        return [Prediction(clip.id, id, {Role.ACTOR: mask}, score=0.5) for id, mask in drawn.items()]


def test_a_system_that_reads_finds_targets_when_asked_again():
    rows = evaluate(targets.AskedTwice(Oracle(), turned_round), clips(6), progress=False)
    found = metrics.summarise(rows, 0, 0)
    assert found["InterRVOS-Actor"]["J"] == 100 and found["InterRVOS-Target"]["J"] == 100
    alone = metrics.summarise(evaluate(targets.AskedTwice(Oracle(), lambda text: None), clips(6), progress=False), 0, 0)
    assert alone["InterRVOS-Target"]["J"] < 20, "not asked: empty"


def test_of_other_words_only_what_can_be_asked_is():
    """One sentence of somebody's data happens to be in our words: the others are no wrong answers."""
    ours = next(c for c in clips(6) if any(e.is_interaction for e in c.expressions))
    known = next(e for e in ours.expressions if e.is_interaction)
    other = replace(known, id="other", text="a dog runs after the ball")
    mixed = replace(ours, expressions=(known, other))
    assert [e.id for clip in targets.interactions([mixed], targets.unnamed) for e in clip.expressions] == [known.id]


def test_only_sentences_with_two_roles_are_asked_again_and_all_of_them():
    made = clips(4)
    kept = targets.interactions(made, turned_round)
    due = [(clip.id, e.id) for clip in made for e in clip.expressions if e.is_interaction]
    assert [(clip.id, e.id) for clip in kept for e in clip.expressions] == due and due
    assert any(turned_round(e.text) is None for clip in kept for e in clip.expressions) or len(due) > 3
    assert targets.interactions(made, lambda text: None) == []
