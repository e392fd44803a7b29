"""Targets out of systems that have one role: the target is asked for with another sentence.

By a summary of the paper it asks single-role systems for targets by prompts. Here the sentence is rewritten, in the
words that InterShapes uses; a sentence without an interaction of two gets no target.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from reviosa_core.intershapes.verbs import VERBS
from reviosa_core.schema import Clip, Expression, Prediction, Role, Sample, System

Rewrite = Callable[[str], str | None]

OPPOSITE = {  # of what is said of the subject: the same event, said of the other one
    words: next(w for f, w, first in verb.voices() if first != a_first and f != form)
    for verb in VERBS.values()
    for form, words, a_first in verb.voices()
}
SAID = re.compile(
    rf"the (?P<subject>.+?) (?P<said>{'|'.join(sorted(OPPOSITE, key=len, reverse=True))}) "
    r"(?P<which>the other|another|the) (?P<object>.+)"
)


def unnamed(text: str) -> str | None:
    """What happens to it is all that is said: "the object being pushed by the circle" for "the circle pushing the
    star", "the object pushing the star" for "the star being pushed by the circle". None for a sentence that names no
    event of two."""
    if not (found := SAID.fullmatch(text)):
        return None
    return f"the object {OPPOSITE[found['said']]} the {found['subject']}"


def interactions(clips: Sequence[Clip], rewrite: Rewrite) -> list[Clip]:
    """The clips' sentences that a target can be asked of: those of two roles that `rewrite` has something to say of, so
    few or none of other words than InterShapes'. How many of how many has to be said beside what comes of them."""
    kept = [
        replace(clip, expressions=tuple(e for e in clip.expressions if e.is_interaction and rewrite(e.text)))
        for clip in clips
    ]
    return [clip for clip in kept if clip.expressions]


# Not its name, with the voice turned round: InterShapes says every event both ways, so that is a sentence of the clip,
# and its score would be the actors' once more.
REWRITES: dict[str, Rewrite] = {"the object being ... by": unnamed}


class AskedTwice:
    """A system of one role that is asked once more, with `rewrite`, for the target. Where that is None, it is empty."""

    roles: tuple[Role, ...] = (Role.ACTOR, Role.TARGET)

    def __init__(self, system: System, rewrite: Rewrite) -> None:
        self.system, self.rewrite = system, rewrite

    def collate(self, samples: Sequence[Sample], rng: np.random.Generator | None = None) -> Any:
        """The system's own: it is trained as it is."""
        return self.system.collate(samples, rng)

    def training_losses(self, batch: Any) -> dict[str, Any]:
        """The system's own."""
        return self.system.training_losses(batch)

    def segment(self, clip: Clip, expressions: Sequence[Expression] | None = None) -> list[Prediction]:
        """One prediction an expression, in order; masks bool [t h w] of both roles."""
        expressions = clip.expressions if expressions is None else expressions
        texts = {e.id: text for e in expressions if (text := self.rewrite(e.text))}
        again = [replace(e, text=texts[e.id]) for e in expressions if e.id in texts]
        targets = {p.expression_id: p.masks[Role.ACTOR] for p in self.system.segment(clip, again)}
        nothing = np.zeros((len(clip), *clip.size), dtype=bool)
        return [
            replace(p, masks={Role.ACTOR: p.masks[Role.ACTOR], Role.TARGET: targets.get(p.expression_id, nothing)})
            for p in self.system.segment(clip, expressions)
        ]
