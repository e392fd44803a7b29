"""InterShapes: procedural clips in which only motion tells who acts on whom.

Shapes interact in pairs (push, chase, ...) among bystanders, some of whom move as if with a partner who is not there,
and every clip comes with InterRVOS-127K style expressions. Roles are at exact chance from the text and the looks of the
objects: shapes are drawn before roles, a place is kept only if the interaction fits into the frame *with either object
as the agent*, and then a coin decides. Some interactions share their first frame with the exchanged one, some their
last. `reviosa_core.intershapes.blind` measures what can be had without reading or watching.

Coordinates are (x, y) in units of the frame side, y down. Time runs from 0 to 1 over the clip, whatever its length.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from reviosa_core.config import Data, Difficulty
from reviosa_core.intershapes.language import utterances
from reviosa_core.intershapes.pixels import render
from reviosa_core.intershapes.verbs import DIRECTED, DIRECTED_WEIGHTS, VERBS, WEIGHTS, Verb, keyed
from reviosa_core.intershapes.world import (
    HELD_OUT,
    SEEN,
    Anchor,
    Interaction,
    Scene,
    Shape,
    Solo,
)


def _inside(path: Float[np.ndarray, "n t 2"], t: np.ndarray, loose: bool) -> Bool[np.ndarray, "n"]:
    """Which paths keep their centre in the frame; loose ones may leave it a little, late."""
    margin = np.where(loose & (t > 0.6), -0.06, 0.07)[:, None]
    return np.all((path > margin) & (path < 1 - margin), axis=(1, 2))


def _free(
    starts: Float[np.ndarray, "n 2"], radius: float, placed: Sequence[tuple[np.ndarray, float]]
) -> Bool[np.ndarray, "n"]:
    """Which starts lie clear of the frame's edge and of everything placed so far."""
    free = np.all((starts > radius + 0.01) & (starts < 0.99 - radius), axis=1)
    for centre, other in placed:
        free &= np.linalg.norm(starts - centre, axis=1) > 1.1 * (radius + other) + 0.02
    return free


def _place_pair(
    rng: np.random.Generator,
    verb: Verb,
    radii: Sequence[float],
    placed: Sequence[tuple[np.ndarray, float]],
    t: np.ndarray,
    pace: tuple[float, float],
    anchor: Anchor,
) -> Float[np.ndarray, "agent=2 object=2 t 2"] | None:
    """Paths of two objects when the first and when the second is the agent: both fit, and share their first frame
    (`anchor` "start") or their last one ("end").

    None when no candidate fits. Nothing here may depend on the roles: see the module's docstring.
    """
    # Where two ways lead to one end there is little room: more candidates, nearer the middle.
    n, margin = (96, 0.2) if anchor == "start" else (512, 0.35)
    contact, middle = 0.92 * sum(radii), rng.uniform(margin, 1 - margin, (n, 2))
    angle, u = rng.uniform(0, 2 * np.pi, n), _chances(rng, n, pace)
    loose = rng.random() < 0.2
    arm = _arms(rng, angle, sum(radii)) / 2
    one = np.stack(verb.path(middle - arm, middle + arm, contact, t, u))  # [2 n t 2], the first as agent
    if anchor == "end":
        one = one + middle[:, None] - (one[0] + one[1])[:, -1:] / 2
    other = (2 * middle[:, None] - one)[::-1]  # turned by half about the anchor, the objects change parts
    # Their contact depends on the sum of the radii alone, so either can have either part.
    fits = np.ones(n, dtype=bool)
    for option in (one, other):
        for path, radius in zip(option, radii, strict=True):
            fits &= _free(path[:, 0], radius, placed) & _inside(path, t, loose)
    if not fits.any():
        return None
    i = int(np.argmax(fits))
    return np.stack([one[:, i], other[:, i]])


def _chances(rng: np.random.Generator, n: int, pace: tuple[float, float]) -> Float[np.ndarray, "n 4"]:
    """A verb's uniform numbers; the second sets how far things go, in every verb."""
    u = rng.random((n, 4))
    u[:, 1] = pace[0] + (pace[1] - pace[0]) * u[:, 1]
    return u


def _arms(rng: np.random.Generator, angle: Float[np.ndarray, "n"], radii: float) -> Float[np.ndarray, "n 2"]:
    """From an object to its neighbour: partner or not, all neighbours start equally near."""
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) * (radii + rng.uniform(0.1, 0.3, (len(angle), 1)))


def _place_bystander(
    rng: np.random.Generator,
    radius: float,
    placed: Sequence[tuple[np.ndarray, float]],
    t: np.ndarray,
    mimics: float,
    pace: tuple[float, float],
) -> tuple[Float[np.ndarray, "t 2"], str | None, bool] | None:
    """Path of an object that rests, drifts for some of the time, or moves as in a verb, but alone: moving must not mean
    taking part. With the path, the verb and whether it is the agent's part; None when no candidate fits."""
    n = 64
    starts, angle = rng.uniform(0, 1, (n, 2)), rng.uniform(0, 2 * np.pi, n)
    if placed:
        centre, other = placed[rng.integers(len(placed))]
        near = centre + _arms(rng, rng.uniform(0, 2 * np.pi, n), radius + other)
        starts = np.where(np.arange(n)[:, None] < 48, near, starts)  # elsewhere only when it is crowded there
    verb, agent = None, bool(rng.integers(2))
    if rng.random() < 0.65:
        if rng.random() < mimics:
            verb = str(rng.choice(DIRECTED, p=DIRECTED_WEIGHTS))
            agent = agent or verb == "bump"  # who is bumped into rests
            partners, u = starts + _arms(rng, angle, 2 * radius), _chances(rng, n, pace)
            pair = (starts, partners) if agent else (partners, starts)
            paths = VERBS[verb].path(*pair, 0.92 * 2 * radius, t, u)[0 if agent else 1]
        else:
            if rng.random() < 0.4:
                angle = np.round(angle / (np.pi / 2)) * (np.pi / 2)  # headings that have a word
            far, begin, end = rng.uniform(0.18, 0.45), rng.uniform(0, 0.3), rng.uniform(0.6, 1)
            paths = keyed(t, (begin, end), (starts, starts + far * np.stack([np.cos(angle), np.sin(angle)], axis=1)))
    else:
        paths = np.repeat(starts[:, None], len(t), axis=1)
    fits = _free(starts, radius, placed) & _inside(paths, t, rng.random() < 0.2)
    return (paths[int(np.argmax(fits))], verb, agent) if fits.any() else None


def make_scene(config: Data, seed: tuple[int, ...], shift: bool = False) -> Scene:
    """A clip of `config.frames` frames, `config.size` pixels square, as a function of `seed` alone.

    `shift`: colours of kinds never seen elsewhere, other textures, slower or faster interactions. Raises ValueError
    when the difficulty asks for more pairs than objects.
    """
    rng, hard = np.random.default_rng(seed), config.difficulty
    count = int(rng.integers(hard.objects[0], hard.objects[1] + 1))
    chance = rng.random()
    pairs = 0 if chance < hard.no_interaction else 2 if chance < hard.no_interaction + hard.two_pairs else 1
    count = max(count, 2 * pairs)
    if count > hard.objects[1]:
        raise ValueError(f"{pairs} interacting pairs need {2 * pairs} objects, but objects is {hard.objects}")
    # Two ways to one end need room: one pair at most, placed first, and none in the shift, where things go too far.
    anchors: list[Anchor] = ["end" if not shift and rng.random() < 0.5 else "start", "start"]
    events = [(str(v), a) for v, a in zip(rng.choice(list(VERBS), size=pairs, p=WEIGHTS), anchors, strict=False)]
    # What happens is settled first: a crowded layout is drawn again, and must not make any of it rarer.
    while (layout := _layout(rng, config, count, events, shift)) is None:
        pass
    shapes, centres, interactions, solos = layout
    frames, labels, hidden = render(rng, config, shapes, centres, shift)
    said = utterances(rng, shapes, centres, interactions, solos)
    return Scene(frames, labels, shapes, centres.astype(np.float32), hidden, said, interactions, solos)


def _layout(
    rng: np.random.Generator, config: Data, count: int, events: Sequence[tuple[str, Anchor]], shift: bool
) -> tuple[tuple[Shape, ...], Float[np.ndarray, "n t 2"], tuple[Interaction, ...], tuple[Solo, ...]] | None:
    """Shapes, centres and what happens, or None when an object found no place."""
    t, pairs = np.linspace(0, 1, config.frames), len(events)
    shapes = _draw_shapes(rng, count, pairs, config.difficulty, shift)
    pace = ((-0.4, 0.0), (1.0, 1.3))[rng.integers(2)] if shift else (0.0, 1.0)
    placed, paths, interactions, solos = [], [], [], []
    for i, (name, anchor) in enumerate(events):
        radii = [shape.radius for shape in shapes[2 * i : 2 * i + 2]]
        options = _place_pair(rng, VERBS[name], radii, placed, t, pace, anchor)
        if options is None:
            return None
        coin = int(
            rng.integers(2)
        )  # who is the agent. Nothing before, and nothing in the anchored frame, depends on it
        paths += list(options[coin])
        # Others keep clear of where the pair would start with either agent: where they are must not tell.
        placed += [(start, r) for option in options for start, r in zip(option[:, 0], radii, strict=True)]
        interactions.append((name, 2 * i + coin, 2 * i + 1 - coin, VERBS[name].passive is not None, anchor))
    for k in range(2 * pairs, count):
        found = _place_bystander(rng, shapes[k].radius, placed, t, config.difficulty.mimics, pace)
        if found is None:
            return None
        path, verb, agent = found
        paths.append(path)
        placed.append((path[0], shapes[k].radius))
        if verb is not None:
            solos.append((verb, k, agent))

    order = rng.permutation(count)  # the object numbers, which are also the drawing order
    number = np.argsort(order)
    there = {(shape.color, shape.kind) for shape in shapes}
    absent = [look for look in (sorted(HELD_OUT) if shift else SEEN) if look not in there]
    if rng.random() < 0.6:  # a kind that is not there either
        absent = [look for look in absent if look[1] not in {kind for _, kind in there}] or absent
    return (
        tuple(shapes[i] for i in order),
        np.array(paths)[order],
        tuple(Interaction(verb, int(number[a]), int(number[b]), *rest) for verb, a, b, *rest in interactions),
        tuple(Solo(verb, int(number[k]), agent, absent[rng.integers(len(absent))]) for verb, k, agent in solos),
    )


def _draw_shapes(rng: np.random.Generator, count: int, pairs: int, hard: Difficulty, shift: bool) -> list[Shape]:
    """Shapes of the pairs' objects first, then the bystanders'. Names repeat on purpose: they must not suffice."""
    names = sorted(HELD_OUT) if shift else SEEN
    chosen = [names[i] for i in rng.integers(len(names), size=count)]
    for pair in range(pairs):
        if rng.random() < hard.lookalikes:
            chosen[2 * pair + 1] = chosen[2 * pair]
    if pairs == 2 and rng.random() < hard.twins:
        chosen[2:4] = [chosen[i] for i in rng.permutation(2)]  # only the verb tells the pairs apart
    for i in range(2 * pairs, count):
        if i and rng.random() < 0.35:
            chosen[i] = chosen[rng.integers(2 * pairs or i)]
    radii, angles = rng.uniform(0.08, 0.13, count), rng.uniform(-0.2, 0.2, count)
    radii *= min(1, np.sqrt(5 / count))  # a crowd is of smaller ones
    looks = zip(chosen, radii, angles, strict=True)
    return [Shape(color, kind, float(radius), float(angle)) for (color, kind), radius, angle in looks]
