from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny

from reviosa_core import masks
from reviosa_core.intershapes import scenes, splits, targets
from reviosa_core.intershapes.targets import turned_round, unnamed
from reviosa_core.schema import Clip, Prediction, Role
from reviosa_core.scoring import metrics
from reviosa_core.scoring.evaluate import evaluate


@pytest.mark.parametrize(
    ("text", "turned", "described"),
    [
        ("the red box pulling a star", None, None),
        ("the red box hitting the star", "the star being hit by the red box", "the object being hit by the red box"),
        ("the star being bumped into by the box", "the box bumping into the star", "the object bumping into the star"),
        ("the star leading another star", "the star being led by another star", "the object being led by the star"),
        ("the box being hit by the other box", "the box hitting the other box", "the object hitting the box"),
        ("the circle and the star meeting each other", None, None),
        ("the two circles circling each other", None, None),
        ("the objects moving left", None, None),
    ],
)  # fmt: skip
def test_rewrites(text: str, turned: str | None, described: str | None):
    assert (turned_round(text), unnamed(text)) == (turned, described)


def clips(count: int) -> list[Clip]:
    return [splits.to_clip(scenes.make_scene(tiny.data(32, 4), (0, 0, i)), str(i)) for i in range(count)]


def test_turning_round_is_what_the_inverse_sentence_says():
    """Where InterShapes says an event of two both ways, each turned round is the other."""
    found = 0
    for clip in clips(20):
        by_roles: dict[tuple, set[str]] = {}
        for e in clip.expressions:
            if e.target:
                by_roles.setdefault((e.actor, e.target), set()).add(e.text)
        for (actor, target), texts in by_roles.items():
            for text in texts:
                turned = turned_round(text)
                assert turned and turned_round(turned) == text
                found += turned in by_roles.get((target, actor), ())
    assert found > 20


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
