"""What can be said about a scene, each sentence true of it, and of one reading only as far as its words go. Chasing,
following and catching look alike: a sentence about one may seem to fit another pair that is at another
(`blind.alike` counts these)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float

from reviosa_core.intershapes.verbs import VERBS
from reviosa_core.intershapes.world import (
    COLORS,
    HEADINGS,
    KINDS,
    Cue,
    Interaction,
    Phrase,
    Scene,
    Shape,
    Solo,
    Utterance,
)


def _plural(kind: str) -> str:
    return kind + ("es" if kind.endswith("s") else "s")


def vocabulary() -> list[str]:
    """Every word that an utterance can use, sorted."""
    texts = [" ".join(filter(None, (verb.active, verb.passive, *(verb.converse or ())))) for verb in VERBS.values()]
    texts += [*COLORS, *KINDS, *map(_plural, KINDS), *HEADINGS.values(), "the two all other another and object objects"]
    return sorted({word for text in texts for word in text.split()})


def _compose(*pieces: str | tuple[str, tuple[int, ...]]) -> tuple[str, tuple[Phrase, ...]]:
    """Text of the pieces, and the word spans of those that name somebody: (words, objects)."""
    words: list[str] = []
    phrases = []
    for piece in pieces:
        text, objects = (piece, None) if isinstance(piece, str) else piece
        if objects is not None:
            phrases.append(Phrase(len(words), len(words) + len(text.split()), objects))
        words += text.split()
    return " ".join(words), tuple(phrases)


def moves(centres: Float[np.ndarray, "n t 2"]) -> dict[str, list[bool | None]]:
    """For each heading, whether each object moves that way: True, False, or None where people could disagree."""
    steps = np.diff(centres, axis=1)
    flow = {
        "left": np.maximum(-steps[..., 0], 0).sum(1),
        "right": np.maximum(steps[..., 0], 0).sum(1),
        "up": np.maximum(-steps[..., 1], 0).sum(1),
        "down": np.maximum(steps[..., 1], 0).sum(1),
    }
    found = {}
    for heading, amount in flow.items():
        rest = np.sum(list(flow.values()), axis=0) - amount
        found[heading] = _verdicts(amount > np.maximum(0.15, 2.5 * rest), amount < 0.05)
    total = np.sum(list(flow.values()), axis=0)
    return found | {"still": _verdicts(total < 0.01, total > 0.12)}


def _verdicts(yes: Bool[np.ndarray, "n"], no: Bool[np.ndarray, "n"]) -> list[bool | None]:
    return [True if y else False if n else None for y, n in zip(yes, no, strict=True)]


def utterances(
    rng: np.random.Generator,
    shapes: Sequence[Shape],
    centres: Float[np.ndarray, "n t 2"],
    interactions: Sequence[Interaction],
    solos: Sequence[Solo],
) -> tuple[Utterance, ...]:
    """About ten expressions, in random order: all clear interactions, and some about single and several objects."""
    names = {
        "class": [shape.kind for shape in shapes],
        "appearance": [f"{shape.color} {shape.kind}" for shape in shapes],
    }
    found = [u for level in names for u in _about_pairs(rng, interactions, level, names[level])]
    alone = [u for level in names for u in _about_solos(interactions, solos, level, names[level])]
    found += [alone[i] for i in rng.permutation(len(alone))[:3]]
    others = list(_about_objects(shapes, centres, names))
    # Filled up in turns, so that the commonest kind of expression does not crowd out the others.
    turns: dict[tuple, int] = {}
    queue = []
    for i in rng.permutation(len(others)):
        kind = (others[i].caption_type, others[i].form)
        turns[kind] = turns.get(kind, 0) + 1
        queue.append((turns[kind], len(queue), others[i]))
    found += [u for *_, u in sorted(queue)[: max(10 - len(found), 2)]]
    return tuple(found[i] for i in rng.permutation(len(found)))


def nameless(scene: Scene, rng: np.random.Generator) -> tuple[Utterance, ...]:
    """A scene's interactions with everything called "object": only the motion tells what is meant. In no split."""
    return tuple(_about_pairs(rng, scene.interactions, "object", ["object"] * len(scene.shapes)))


def _about_pairs(
    rng: np.random.Generator, interactions: Sequence[Interaction], level: str, names: list[str]
) -> Iterator[Utterance]:
    """Both voices of every interaction whose words, verb included, denote one pair and one direction only."""
    for event in interactions:
        verb = VERBS[event.verb]
        same_verb = [(e.a, e.b) for e in interactions if e.verb == event.verb]
        if verb.passive is None:
            pair = (event.a, event.b) if rng.random() < 0.5 else (event.b, event.a)
            words = {names[i] for i in pair}
            if sum({names[a], names[b]} == words for a, b in same_verb) > 1:
                continue
            if len(words) == 1:
                *color, kind = names[event.a].split()
                pieces = ((" ".join(["the two", *color, _plural(kind)]), pair),)
            else:
                pieces = ((f"the {names[pair[0]]}", pair[:1]), "and", (f"the {names[pair[1]]}", pair[1:]))
            cue = "appearance" if sum(name in words for name in names) == 2 else "both"
            text, phrases = _compose(*pieces, verb.active)
            yield Utterance(text, "bidirectional", pair, None, phrases, event.verb, "mutual", level, cue)
            continue
        agent, patient = names[event.a], names[event.b]
        if sum((names[a], names[b]) == (agent, patient) for a, b in same_verb) > 1:
            continue
        voices = list(verb.voices())
        if len(voices) > 2:
            start = 2 * int(rng.integers(2))
            voices = voices[start : start + 2]  # to follow, or to be led: one of the two is said
        for form, voice, a_first in voices:
            subject, obj = (event.a, event.b) if a_first else (event.b, event.a)
            if agent == patient:
                cue, second = "motion", "the other" if names.count(agent) == 2 else "another"
            else:
                cue, second = "appearance" if names.count(agent) == names.count(patient) == 1 else "both", "the"
            text, phrases = _compose(
                (f"the {names[subject]}", (subject,)),
                voice,
                (f"{second} {names[obj]}", (obj,)),
            )
            yield Utterance(text, "unidirectional", (subject,), (obj,), phrases, event.verb, form, level, cue)


def _about_solos(
    interactions: Sequence[Interaction], solos: Sequence[Solo], level: str, names: list[str]
) -> Iterator[Utterance]:
    """Sentences that name a partner who is not there: no target is due, and only looking tells."""
    for solo in solos:
        partner = " ".join(solo.partner) if level == "appearance" else solo.partner[1]
        parts = [(s.verb, s.agent, names[s.k]) for s in solos]
        parts += [part for e in interactions for part in ((e.verb, True, names[e.a]), (e.verb, False, names[e.b]))]
        if partner in names or parts.count((solo.verb, solo.agent, names[solo.k])) > 1:
            continue
        cue = "appearance" if names.count(names[solo.k]) == 1 else "both"
        for form, voice, a_first in VERBS[solo.verb].voices():
            if a_first == solo.agent:
                text, phrases = _compose((f"the {names[solo.k]}", (solo.k,)), voice, (f"the {partner}", ()))
                yield Utterance(text, "single", (solo.k,), None, phrases, solo.verb, form, level, cue)


def _about_objects(
    shapes: Sequence[Shape], centres: Float[np.ndarray, "n t 2"], names: dict[str, list[str]]
) -> Iterator[Utterance]:
    """Everything unambiguous that can be said of single and several objects without an interaction."""
    moving_so = moves(centres)

    def say(group: Sequence[int], words: str, heading: str | None, form: str, level: str, cue: Cue) -> Utterance:
        text, phrases = _compose((words, tuple(group)), HEADINGS[heading] if heading else "")
        count = "single" if len(group) == 1 else "multi"
        return Utterance(text, count, tuple(group), None, phrases, None, form, level, cue)

    everything = {"object": range(len(shapes))}
    by_class = {name: [i for i, n in enumerate(names["class"]) if n == name] for name in names["class"]}
    by_look = {name: [i for i, n in enumerate(names["appearance"]) if n == name] for name in names["appearance"]}
    for level, groups in (("object", everything), ("class", by_class), ("appearance", by_look)):
        for name, group in groups.items():
            *color, kind = name.split()
            several = " ".join(["the", *color, _plural(kind)])
            if level != "object":
                if len(group) == 1:
                    yield say(group, f"the {name}", None, "appearance", level, "appearance")
                else:
                    words = f"all {_plural(kind)}" if level == "class" else several
                    yield say(group, words, None, "appearance", level, "appearance")
            for heading, state in moving_so.items():
                if any(state[i] is None for i in group):
                    continue
                moving = [i for i in group if state[i]]
                if not moving:
                    continue
                form = "motion" if level == "object" else "both"
                cue: Cue = "appearance" if len(moving) == len(group) else "motion" if level == "object" else "both"
                yield say(moving, f"the {name}" if len(moving) == 1 else several, heading, form, level, cue)
    for color in {shape.color: None for shape in shapes}:
        group = [i for i, shape in enumerate(shapes) if shape.color == color]
        if len(group) > 1:
            yield say(group, f"the {color} objects", None, "appearance", "appearance", "appearance")
