"""Sentences about nothing: a scene's own, with one thing exchanged for what is not there. Off by default.

Of a look or an event it is the look of the subject ("the red star pushing the ring" where there is no red star; the
ring is there or not, as it was), of a motion the heading ("the star moving up" where no star does). Each is false
beyond dispute: no shape has the look, or every shape that has it is clearly on no such way (`language.moves`). No
event is told with another verb, or the wrong way round: about verbs people could disagree.

Words alone must not tell. So the sentences are drawn from the scene's own, whatever their form, and new looks as scenes
draw theirs: colour or kind is often there, but not both in one shape. What could still tell: of headings, "staying
still" is half of the true ones and a quarter of these, as nobody may have it; of looks, a clip's sentences together, as
true ones name the same few again. `blind` measures what a sentence gives away; a model is asked one at a time.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from reviosa_core.intershapes import language
from reviosa_core.intershapes.world import COLORS, HEADINGS, HELD_OUT, KINDS, SEEN, Phrase, Scene, Shape, Utterance
from reviosa_core.schema import DataError

STREAM = 2  # after a scene's seed: numbers of their own, so that nothing else of the scene changes
STILL = 6  # times as likely as a way to go: half of the true headings are "staying still", and that is rarely free
PASSES = 20  # through a scene's sentences, before it is said that there is nothing that is not there
ONE = {language._plural(kind): kind for kind in KINDS}

Look = tuple[str | None, str | None]  # colour and kind, as far as words name them


def told(scene: Scene, seed: tuple[int, ...], count: int, shift: bool = False) -> Scene:
    """The scene with `count` more sentences, behind its own: caption type "undefined", no actor, no target. `seed` is
    the scene's. DataError where so many cannot be found, as in a crowd of every look."""
    rng, looks = np.random.default_rng((*seed, STREAM)), sorted(HELD_OUT) if shift else SEEN
    own, found = scene.utterances, []
    for _ in range(PASSES):
        for i in rng.permutation(len(own)):
            if len(found) == count:
                return replace(scene, utterances=(*own, *found))
            u = own[i]
            moves = u.verb is None and u.form != "appearance"
            new = _otherwise_moving(rng, scene, u) if moves else _otherwise_looking(rng, scene, u, looks)
            if new and new.text not in {known.text for known in (*own, *found)}:
                found.append(new)
    if len(found) < count:
        raise DataError(
            f"scene {seed}: {count} sentences about nothing are due, its {len(scene.shapes)} shapes leave {len(found)}"
        )
    return replace(scene, utterances=(*own, *found))


def _otherwise_looking(
    rng: np.random.Generator, scene: Scene, said: Utterance, looks: Collection[tuple[str, str]]
) -> Utterance | None:
    """With a look for each of the actor's names that no shape has; a target of the same name gets the same one."""
    words = said.text.split()
    named = [_look(words[p.start : p.stop]) for p in said.phrases]
    news: dict[Look, Look] = {}
    for phrase, look in zip(said.phrases, named, strict=True):
        if set(phrase.objects) <= set(said.actor) and phrase.objects and look not in news:
            there = {_as(look, (shape.color, shape.kind)) for shape in scene.shapes}
            taken = there | {*named, *news.values()}  # also by a partner who is not there
            free = [new for each in looks if (new := _as(look, each)) not in taken]
            if not free:
                return None
            news[look] = free[rng.integers(len(free))]
    phrases = []
    for phrase, look in zip(said.phrases, named, strict=True):
        if look in news:
            color, kind = news[look]
            span = range(phrase.start, phrase.stop)
            words[phrase.start : phrase.stop] = [_exchanged(words[i], color, kind) for i in span]
        phrases.append(Phrase(phrase.start, phrase.stop, () if look in news else phrase.objects))
    return replace(
        said,
        text=" ".join(words),
        caption_type="undefined",
        actor=(),
        target=None,
        phrases=tuple(phrases),
        cue="appearance",
    )


def _otherwise_moving(rng: np.random.Generator, scene: Scene, said: Utterance) -> Utterance | None:
    """With a heading that every shape of the name clearly does not have."""
    (phrase,), words = said.phrases, said.text.split()
    group = _having(scene, _look(words[phrase.start : phrase.stop]))
    free = [name for name, state in language.moves(scene.centres).items() if all(state[k] is False for k in group)]
    if not free:
        return None
    weights = np.array([STILL if name == "still" else 1 for name in free])
    heading = HEADINGS[str(rng.choice(free, p=weights / weights.sum()))]
    return replace(
        said,
        text=" ".join([*words[: phrase.stop], heading]),
        caption_type="undefined",
        actor=(),
        phrases=(replace(phrase, objects=group),),
        cue="motion" if said.level == "object" else "both",
    )


def _look(words: Collection[str]) -> Look:
    """What a name says of looks: "the two red stars" is red, star."""
    color = next((word for word in words if word in COLORS), None)
    return color, next((ONE.get(word, word) for word in words if ONE.get(word, word) in KINDS), None)


def _as(look: Look, full: tuple[str, str]) -> Look:
    """Of another look as much as this one says."""
    return full[0] if look[0] else None, full[1] if look[1] else None


def _having(scene: Scene, look: Look) -> tuple[int, ...]:
    """The shapes that a look fits."""

    def fits(shape: Shape) -> bool:
        return look[0] in (None, shape.color) and look[1] in (None, shape.kind)

    return tuple(k for k, shape in enumerate(scene.shapes) if fits(shape))


def _exchanged(word: str, color: str | None, kind: str | None) -> str:
    """A word of a name with another look, singular or plural as it was."""
    if word in COLORS:
        return str(color)
    if word in ONE:
        return language._plural(str(kind))
    return str(kind) if word in KINDS else word
