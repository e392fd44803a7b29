"""InterShapes: procedural clips in which only motion tells who acts on whom.

Shapes interact in pairs (push, chase, ...) among bystanders, some of whom move as if with a partner who is not there,
and every clip comes with InterRVOS-127K style expressions. Roles are at exact chance from the text and the looks of the
objects: shapes are drawn before roles, a place is kept only if the interaction fits into the frame *with either object
as the agent*, and then a coin decides. Some interactions share their first frame with the exchanged one, some their
last. `reviosa_core.probes` measures what can be had without reading or watching.

Coordinates are (x, y) in units of the frame side, y down. Time runs from 0 to 1 over the clip, whatever its length.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float32, UInt8
from tqdm import tqdm

from reviosa_core import masks
from reviosa_core.config import Data, Difficulty
from reviosa_core.data import interrvos
from reviosa_core.data.verbs import DIRECTED, DIRECTED_WEIGHTS, VERBS, WEIGHTS, Verb, keyed
from reviosa_core.schema import CaptionType, Clip, Expression

# A clip is a function of (seed, split number, index) alone, so splits never share a clip. "pretrain" is never written.
SPLITS = {"train": 0, "val": 1, "test": 2, "shift": 3, "pretrain": 4}
NOTES = "intershapes.json"  # the side file of a written split

COLORS = {
    "red": (222, 42, 42),
    "green": (52, 178, 62),
    "blue": (48, 84, 230),
    "yellow": (242, 222, 52),
    "orange": (246, 138, 28),
    "purple": (150, 56, 192),
    "cyan": (60, 214, 222),
    "white": (242, 242, 242),
}
KINDS = ("circle", "square", "triangle", "star", "cross", "ring", "diamond")
# Two colours of each kind exist in the split "shift" only.
HELD_OUT = {(tuple(COLORS)[(3 * k + d) % len(COLORS)], kind) for k, kind in enumerate(KINDS) for d in (0, 4)}
SEEN = [(color, kind) for color in COLORS for kind in KINDS if (color, kind) not in HELD_OUT]

HEADINGS = {
    "left": "moving to the left",
    "right": "moving to the right",
    "up": "moving up",
    "down": "moving down",
    "still": "staying still",
}

Cue = Literal["appearance", "motion", "both"]
Anchor = Literal["start", "end"]


@dataclass(frozen=True)
class Shape:
    """What an object looks like; `radius` in frame sides, `angle` (tilt) in radians."""

    color: str
    kind: str
    radius: float
    angle: float


@dataclass(frozen=True)
class Phrase:
    """Words [start, stop) of `text.split()` name these objects; none, where nobody like that is there."""

    start: int
    stop: int
    objects: tuple[int, ...]


@dataclass(frozen=True)
class Utterance:
    """An expression with what is needed to diagnose it.

    `actor` is the grammatical subject (the paper's convention: a passive swaps the roles). `form`: what the words tell
    ("appearance", "motion", "both") or the voice ("active", "passive", "mutual"). `level`: how objects are named
    ("object", "class", "appearance"). `cue`: what is *needed* to find the objects and roles; "appearance" where the
    names alone suffice in this clip, "motion" where names say nothing, "both" otherwise.
    """

    text: str
    caption_type: CaptionType
    actor: tuple[int, ...]
    target: tuple[int, ...] | None
    phrases: tuple[Phrase, ...]
    verb: str | None
    form: str
    level: str
    cue: Cue


@dataclass(frozen=True)
class Interaction:
    """Object `a` does `verb` to object `b` (or both to each other, when not directed).

    With the parts exchanged the same frame would have been the first (`anchor` "start") or the last ("end").
    """

    verb: str
    a: int
    b: int
    directed: bool
    anchor: Anchor


@dataclass(frozen=True)
class Solo:
    """Object `k` moves as if it did `verb` to a partner (`agent`), or the partner to it; nobody like that is there."""

    verb: str
    k: int
    agent: bool
    partner: tuple[str, str]  # colour and kind


@dataclass(frozen=True)
class Scene:
    """A clip with everything known about it. `labels`: 0 background, k + 1 where object k is *visible*; `hidden`: the
    share of an object's area in the frame that others cover."""

    frames: UInt8[np.ndarray, "t h w 3"]
    labels: UInt8[np.ndarray, "t h w"]
    shapes: tuple[Shape, ...]
    centres: Float32[np.ndarray, "n t 2"]
    hidden: Float32[np.ndarray, "n t"]
    utterances: tuple[Utterance, ...]
    interactions: tuple[Interaction, ...]
    solos: tuple[Solo, ...]


# --- places -----------------------------------------------------------------------------------------------------------


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


# --- the scene --------------------------------------------------------------------------------------------------------


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
    frames, labels, hidden = _render(rng, config, shapes, centres, shift)
    utterances = _utterances(rng, shapes, centres, interactions, solos)
    return Scene(frames, labels, shapes, centres.astype(np.float32), hidden, utterances, interactions, solos)


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


# --- pixels -----------------------------------------------------------------------------------------------------------


def _distance(kind: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance (negative inside) to a shape of about unit radius; points and result in radii."""
    if kind == "circle":
        return np.hypot(x, y) - 0.95
    if kind == "ring":
        return np.abs(np.hypot(x, y) - 0.75) - 0.25
    ax, ay = np.abs(x), np.abs(y)
    if kind == "square":
        return np.maximum(ax, ay) - 0.82
    if kind == "diamond":
        return (ax / 0.72 + ay / 1.1 - 1) * 0.6
    if kind == "cross":
        return np.minimum(np.maximum(ax - 0.34, ay - 1), np.maximum(ax - 1, ay - 0.34))
    if kind == "triangle":
        return np.maximum(0.866 * ax - 0.5 * y, y) - 0.55
    # star: fold the plane into one of ten sectors, then the distance to that sector's edge
    rho, sector = np.hypot(x, y), np.pi / 5
    angle = np.abs((np.arctan2(x, -y) + sector) % (2 * sector) - sector)
    tip, notch = 1.1, 0.5 * np.array([np.cos(sector), np.sin(sector)])
    normal = np.array([notch[1], tip - notch[0]]) / np.hypot(notch[1], tip - notch[0])
    return (rho * np.cos(angle) - tip) * normal[0] + rho * np.sin(angle) * normal[1]


def _background(rng: np.random.Generator, size: int, shift: bool) -> Float[np.ndarray, "h w 3"]:
    """Dull, low-frequency coloured noise with a little grain."""
    cells = 10 if shift else 5
    grid = rng.uniform(60, 150, (cells, cells, 1)) + rng.uniform(-30, 30, (cells, cells, 3))
    at = np.linspace(0, cells - 1, size)
    weights = np.clip(1 - np.abs(at[:, None] - np.arange(cells)), 0, 1)
    smooth = np.tensordot(weights, np.tensordot(weights, grid, axes=(1, 0)), axes=(1, 1))
    return smooth + rng.uniform(-5, 5, (size, size, 3))


def _render(
    rng: np.random.Generator, config: Data, shapes: Sequence[Shape], centres: Float[np.ndarray, "n t 2"], shift: bool
) -> tuple[UInt8[np.ndarray, "t h w 3"], UInt8[np.ndarray, "t h w"], Float32[np.ndarray, "n t"]]:
    """Frames, labels, and each object's hidden share; later objects are drawn over earlier ones."""
    size = config.size
    frames = np.repeat(_background(rng, size, shift).astype(np.uint8)[None], config.frames, axis=0)
    labels = np.zeros(frames.shape[:3], np.uint8)
    area = np.zeros((len(shapes), config.frames))
    for k, shape in enumerate(shapes):
        color = np.array(COLORS[shape.color]) + rng.uniform(-12, 12, 3)
        frequency, direction, phase = rng.uniform(3, 7), rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
        radius = shape.radius * size
        half = int(1.15 * radius) + 2
        centre = centres[k] * size
        corner = np.floor(centre).astype(int) - half
        # Crops [t y x] of every frame at once, in the object's own coordinates.
        offset = (corner[:, None] + np.arange(2 * half + 1)[:, None] + 0.5 - centre[:, None]) / radius
        dx, dy = offset[:, None, :, 0], offset[:, :, None, 1]
        cos, sin = np.cos(shape.angle), np.sin(shape.angle)
        x, y = cos * dx + sin * dy, cos * dy - sin * dx
        distance = _distance(shape.kind, x, y)
        wave = np.sin(frequency * (np.cos(direction) * x + np.sin(direction) * y) + phase)
        if shift:
            wave = 1.5 * wave * np.sin(frequency * (np.cos(direction) * y - np.sin(direction) * x))
        fill = np.clip((1 + 0.1 * wave - 0.08 * y)[..., None] * color, 0, 255)
        alpha = np.clip(0.5 - distance * radius, 0, 1)[..., None]
        for i, (left, top) in enumerate(corner):
            rows = slice(max(top, 0), max(top + 2 * half + 1, 0))
            cols = slice(max(left, 0), max(left + 2 * half + 1, 0))
            patch, label = frames[i, rows, cols], labels[i, rows, cols]
            here = (i, slice(rows.start - top, rows.start - top + patch.shape[0]))
            here = (*here, slice(cols.start - left, cols.start - left + patch.shape[1]))
            patch[:] = patch + alpha[here] * (fill[here] - patch) + 0.5
            inside = distance[here] < 0
            label[inside] = k + 1
            area[k, i] = inside.sum()
    visible = np.stack([(labels == k + 1).sum((1, 2)) for k in range(len(shapes))])
    return frames, labels, (1 - visible / np.maximum(area, 1)).astype(np.float32)


# --- language ---------------------------------------------------------------------------------------------------------


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


def _moves(centres: Float[np.ndarray, "n t 2"]) -> dict[str, list[bool | None]]:
    """For each heading, whether each object moves that way: True, False, or None where people could disagree."""
    steps = np.diff(centres, axis=1)
    flow = {
        "left": np.maximum(-steps[..., 0], 0).sum(1),
        "right": np.maximum(steps[..., 0], 0).sum(1),
        "up": np.maximum(-steps[..., 1], 0).sum(1),
        "down": np.maximum(steps[..., 1], 0).sum(1),
    }
    moves = {}
    for heading, amount in flow.items():
        rest = np.sum(list(flow.values()), axis=0) - amount
        moves[heading] = _verdicts(amount > np.maximum(0.15, 2.5 * rest), amount < 0.05)
    total = np.sum(list(flow.values()), axis=0)
    return moves | {"still": _verdicts(total < 0.01, total > 0.12)}


def _verdicts(yes: Bool[np.ndarray, "n"], no: Bool[np.ndarray, "n"]) -> list[bool | None]:
    return [True if y else False if n else None for y, n in zip(yes, no, strict=True)]


def _utterances(
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
    """Both voices of every interaction whose words denote one pair and one direction only."""
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
    moves = _moves(centres)

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
            for heading, state in moves.items():
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


# --- as clips and files -----------------------------------------------------------------------------------------------


def to_clip(scene: Scene, clip_id: str) -> Clip:
    """The scene as a clip in memory; mask keys and expression ids count from "0"."""
    name = [f"{i:05d}" for i in range(len(scene.frames))]
    rles = {}
    for k in range(len(scene.shapes)):
        rles[str(k)] = [masks.encode(m) if m.any() else None for m in scene.labels == k + 1]
    expressions = []
    for i, u in enumerate(scene.utterances):
        target = None if u.target is None else tuple(map(str, u.target))
        expressions.append(Expression(str(i), u.text, u.caption_type, tuple(map(str, u.actor)), target))
    height, width = scene.labels.shape[1:]
    return Clip(clip_id, scene.frames, tuple(name), (height, width), tuple(expressions), rles)


def write_splits(config: Data, root: Path, seed: int, progress: bool = True) -> bool:
    """`write_split` for every split of `config`; False when root has somebody's own data, which is left alone.

    FileNotFoundError when it has such data for some splits only.
    """
    splits = [Path(root) / name for name in config.splits.model_dump()]
    own = [folder for folder in splits if _foreign(folder)]
    if own and (missing := [folder.name for folder in splits if folder not in own]):
        raise FileNotFoundError(f"{own[0]} is not InterShapes, and {root} has no such data for {', '.join(missing)}")
    for folder in splits if not own else ():
        write_split(config, folder.name, root, seed, progress)
    return not own


def _foreign(folder: Path) -> bool:
    return folder.exists() and not (folder / NOTES).exists() and any(folder.iterdir())


def write_split(config: Data, split: str, root: Path, seed: int, progress: bool = True) -> None:
    """Write root/<split> in the InterRVOS-127K format, with a side file intershapes.json for diagnosis.

    The folder appears only when complete: a killed run leaves a ".partial" folder that the next run replaces.
    FileExistsError when root/<split> holds anything but an earlier run's result.
    """
    folder = Path(root) / split
    if _foreign(folder):
        raise FileExistsError(f"{folder} has no {NOTES}: it was not written by InterShapes, and is left alone")
    partial = folder.with_name(f".{split}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    notes = {}

    def clips() -> Iterator[Clip]:
        for index in tqdm(range(getattr(config.splits, split)), desc=split, unit="clip", disable=not progress):
            scene = make_scene(config, (seed, SPLITS[split], index), shift=split == "shift")
            name = f"intershapes_{split}_{index:05d}"
            notes[name] = {
                "shapes": [asdict(shape) for shape in scene.shapes],
                "centres": np.round(scene.centres.astype(float), 4).tolist(),
                "interactions": [asdict(event) for event in scene.interactions],
                "solos": [asdict(solo) for solo in scene.solos],
                "expressions": {str(i): _note(scene, utterance) for i, utterance in enumerate(scene.utterances)},
            }
            yield to_clip(scene, name)

    interrvos.write(partial, clips())
    (partial / NOTES).write_text(json.dumps(notes, indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _note(scene: Scene, utterance: Utterance) -> dict:
    """What the main format has no place for; `actor`, `target` and `objects` count the clip's shapes.

    `hidden`: share of the named objects' area that others cover, of the worst object, mean over frames. `area`: their
    mean visible share of the frame.
    """
    note = asdict(utterance)
    named = [*utterance.actor, *(utterance.target or ())]
    visible = [(scene.labels == k + 1).mean() for k in named]
    return {key: note[key] for key in ("verb", "form", "level", "cue", "actor", "target", "phrases")} | {
        "hidden": round(float(scene.hidden[named].mean(1).max()), 4),
        "area": round(float(np.mean(visible)), 5),
    }


def read_side_file(folder: Path) -> dict[str, dict]:
    """What InterShapes knows about a written split, by video: shapes, centres [n t 2], interactions, solos and
    expressions. Empty for a folder that it did not write."""
    path = Path(folder) / NOTES
    return json.loads(path.read_text()) if path.is_file() else {}


SUBSETS = ("cue", "verb", "pairs", "occlusion", "object size", "kind")


def read_notes(folder: Path) -> pd.DataFrame:
    """The diagnostic labels of a written split: one row per (video, expression), a column for each of SUBSETS and for
    `form` and `level`. Empty for a folder that InterShapes did not write."""
    rows = []
    for video, clip in read_side_file(folder).items():
        for expression, note in clip["expressions"].items():
            rows.append(
                {"video": video, "expression": expression}
                | {key: note[key] for key in ("cue", "verb", "form", "level")}
                | {
                    "pairs": str(len(clip["interactions"])),
                    "occlusion": "none" if note["hidden"] < 0.01 else "under 15 %" if note["hidden"] < 0.15 else "more",
                    "object size": "small" if note["area"] < 0.025 else "large",
                    "kind": _kind(note),
                }
            )
    return pd.DataFrame(rows, columns=["video", "expression", "form", "level", *SUBSETS])


def _kind(note: dict) -> str:
    """Type of an expression, finer than the caption type: what its words tell, or the voice; "partner absent"."""
    count = "several" if len(note["actor"]) > 1 else "one"
    if note["verb"] is None:
        return f"{count}, {note['form']}"
    if note["form"] == "mutual":
        return "mutual"
    return f"{note['form']}, partner absent" if note["target"] is None else note["form"]
