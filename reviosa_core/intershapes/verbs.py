"""The verbs of InterShapes: what each looks like as two paths, and how it is said.

A path function maps starts a, b [n 2] of n pairs, the distance of contact, times t [t] and uniform numbers u [n 4] to
the paths of both [n t 2]. u[:, 1] sets how far things go, in every verb. Given the same u, it is the same event with
either object as a: that is what makes a coin toss over the roles fair.

Coordinates are (x, y) in units of the frame side, y down. Time runs from 0 to 1 over the clip, whatever its length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Paths = tuple[Float[np.ndarray, "n t 2"], Float[np.ndarray, "n t 2"]]


def keyed(
    t: Float[np.ndarray, "t"], times: Sequence, points: Sequence[Float[np.ndarray, "n 2"]]
) -> Float[np.ndarray, "n t 2"]:
    """Piecewise linear paths through points at times (each a number or [n]); at rest before and after."""
    path = np.repeat(points[0][:, None], len(t), axis=1)
    for i in range(len(times) - 1):
        start, stop = (np.reshape(x, (-1, 1)) for x in times[i : i + 2])
        path = path + np.clip((t - start) / (stop - start), 0, 1)[..., None] * (points[i + 1] - points[i])[:, None]
    return path


def _range(u: np.ndarray, low: float, high: float) -> np.ndarray:
    return low + (high - low) * u


def _toward(a: np.ndarray, b: np.ndarray, turn: np.ndarray | float = 0.0) -> np.ndarray:
    """Unit vectors [n 2] from a to b, turned by an angle."""
    angle = np.arctan2(b[:, 1] - a[:, 1], b[:, 0] - a[:, 0]) + turn
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _push(a, b, contact, t, u) -> Paths:
    """a runs into b and both move on, a behind."""
    meet, go = _range(u[:, 0], 0.3, 0.5), _toward(a, b)
    step = go * _range(u[:, 1], 0.16, 0.34)[:, None]
    touch = b - go * contact
    return keyed(t, (0, meet, 1), (a, touch, touch + step)), keyed(t, (meet, 1), (b, b + step))


def _pull(a, b, contact, t, u) -> Paths:
    """a comes to b and draws it back the way it came, a ahead."""
    meet, go = _range(u[:, 0], 0.3, 0.5), _toward(a, b)
    step = _toward(b, a, _range(u[:, 2], -0.3, 0.3)) * _range(u[:, 1], 0.2, 0.4)[:, None]
    touch = b - go * contact
    return keyed(t, (0, meet, 1), (a, touch, touch + step)), keyed(t, (meet, 1), (b, b + step))


def _hit(a, b, contact, t, u) -> Paths:
    """a runs into b and stops; b flies off."""
    meet, touch = _range(u[:, 0], 0.35, 0.5), b - _toward(a, b) * contact
    fly = _toward(a, b, _range(u[:, 2], -0.4, 0.4)) * _range(u[:, 1], 0.22, 0.42)[:, None]
    return keyed(t, (0, meet), (a, touch)), keyed(t, (meet, 1), (b, b + fly))


def _carry(a, b, contact, t, u) -> Paths:
    """a comes to b, overlaps it, and takes it along in another direction."""
    meet, hold = _range(u[:, 0], 0.3, 0.5), b - _toward(a, b) * contact * 0.6
    turn = np.where(u[:, 2] < 0.5, 1.0, -1.0) * _range(u[:, 3], 0.8, 2.6)
    step = _toward(a, b, turn) * _range(u[:, 1], 0.25, 0.45)[:, None]
    return keyed(t, (0, meet, 1), (a, hold, hold + step)), keyed(t, (meet, 1), (b, b + step))


def _chase(a, b, contact, t, u) -> Paths:
    """b makes off first; a goes after it, faster, and the gap closes."""
    away = _toward(a, b, _range(u[:, 2], -1.2, 1.2)) * _range(u[:, 1], 0.25, 0.5)[:, None]
    b_path = keyed(t, (0, 1), (b, b + away))
    start = _range(u[:, 0], 0.15, 0.3)[:, None]
    done = np.clip((t - start) / (1 - start), 0, 1)[..., None]
    ahead = b_path - a[:, None]
    distance = np.linalg.norm(ahead, axis=2, keepdims=True)
    # a always heads for where b is now; at the end it is just short of touching.
    return a[:, None] + done * (1 - (contact + 0.02) / distance) * ahead, b_path


def _follow(a, b, contact, t, u) -> Paths:
    """b sets out first on a bent way; a takes the same way at the same speed: the gap stays."""
    speed = _range(u[:, 1], 0.3, 0.5)
    half = speed[:, None] / 2
    corner = b + _toward(a, b, _range(u[:, 2], -0.9, 0.9)) * half
    end = corner + _toward(b, corner, _range(u[:, 3], -0.9, 0.9)) * half
    start = _range(u[:, 0], 0.15, 0.3)
    at_b = start + np.linalg.norm(b - a, axis=1) / speed
    a_path = keyed(t, (start, at_b, at_b + 0.5, at_b + 1), (a, b, corner, end))
    return a_path, keyed(t, (0, 0.5, 1), (b, corner, end))


def _catch(a, b, contact, t, u) -> Paths:
    """b makes off first; a cuts its way, and both stay where they touch."""
    away = _toward(a, b, _range(u[:, 2], -1.2, 1.2)) * _range(u[:, 1], 0.2, 0.4)[:, None]
    start, stop, end = _range(u[:, 0], 0.15, 0.3), _range(u[:, 3], 0.7, 0.85), b + away
    return keyed(t, (start, stop), (a, end - _toward(a, end) * contact)), keyed(t, (0, stop), (b, end))


def _bump(a, b, contact, t, u) -> Paths:
    """a runs into b and is thrown back; b does not move."""
    meet, touch = _range(u[:, 0], 0.35, 0.5), b - _toward(a, b) * contact
    back = _toward(b, a, _range(u[:, 2], -0.8, 0.8)) * _range(u[:, 1], 0.15, 0.35)[:, None]
    return keyed(t, (0, meet, 1), (a, touch, touch + back)), keyed(t, (0, 1), (b, b))


def _meet(a, b, contact, t, u) -> Paths:
    """Both approach, one of them later, touch and stay."""
    stop, late = _range(u[:, 0], 0.6, 0.9), _range(u[:, 1], 0.0, 0.35)
    middle, half = (a + b) / 2, _toward(a, b) * contact / 2
    return keyed(t, (0, stop), (a, middle - half)), keyed(t, (late, stop), (b, middle + half))


def _bounce(a, b, contact, t, u) -> Paths:
    """Both approach, one of them later, touch, and fly apart again."""
    touch, late = _range(u[:, 0], 0.35, 0.5), _range(u[:, 3], 0.0, 0.2)
    middle, half = (a + b) / 2, _toward(a, b) * contact / 2
    apart = _toward(a, b, _range(u[:, 2], -1.0, 1.0)) * _range(u[:, 1], 0.15, 0.3)[:, None]
    a_path = keyed(t, (0, touch, 1), (a, middle - half, middle - half - apart))
    return a_path, keyed(t, (late, touch, 1), (b, middle + half, middle + half + apart))


def _circle(a, b, contact, t, u) -> Paths:
    """Both go round their common centre."""
    turn = (np.where(u[:, 0] < 0.5, 1.0, -1.0) * _range(u[:, 1], 3.0, 5.5))[:, None] * t
    x, y = ((b - a)[:, i, None] / 2 for i in (0, 1))
    arm = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=2)
    middle = ((a + b) / 2)[:, None]
    return middle - arm, middle + arm


@dataclass(frozen=True)
class Verb:
    """What the words say is what `path` draws: a does it to b, or both to each other where `passive` is None.

    `converse` says the same event with b as the one who acts, in both voices: to follow is to be led.
    """

    path: Callable[..., Paths]
    active: str
    passive: str | None
    weight: int = 2
    converse: tuple[str, str] | None = None

    def voices(self) -> Iterator[tuple[str, str, bool]]:
        """(form, words, whether a is the grammatical subject) of every way to say it of a directed event."""
        if self.passive is not None:
            yield from (("active", self.active, True), ("passive", self.passive, False))
        if self.converse is not None:
            yield from (("active", self.converse[0], False), ("passive", self.converse[1], True))

    def deeds(self) -> tuple[list[str], list[str]]:
        """The words for what a and what b does, in every voice: ["pushing"] and ["pushed"]."""
        if self.passive is None:
            return [self.active.split()[0]], [self.active.split()[0]]
        parts: tuple[list[str], list[str]] = [], []
        for _, words, a_is_subject in self.voices():
            parts[0 if a_is_subject else 1].append(words.removeprefix("being ").split()[0])
        return parts


# Who moves first acts in push to bump and when leading; the other one does in chase, catch and when following. Both
# weigh alike: "the first mover acts" is right half the time.
VERBS = {
    "push": Verb(_push, "pushing", "being pushed by"),
    "pull": Verb(_pull, "pulling", "being pulled by"),
    "hit": Verb(_hit, "hitting", "being hit by"),
    "carry": Verb(_carry, "carrying", "being carried by"),
    "bump": Verb(_bump, "bumping into", "being bumped into by"),
    "chase": Verb(_chase, "chasing", "being chased by", weight=5),
    "follow": Verb(_follow, "following", "being followed by", weight=4, converse=("leading", "being led by")),
    "catch": Verb(_catch, "catching", "being caught by", weight=5),
    "meet": Verb(_meet, "meeting each other", None),
    "bounce": Verb(_bounce, "bouncing off each other", None),
    "circle": Verb(_circle, "circling each other", None),
}
WEIGHTS = np.array([verb.weight for verb in VERBS.values()]) / sum(verb.weight for verb in VERBS.values())
DIRECTED = tuple(name for name, verb in VERBS.items() if verb.passive is not None)
DIRECTED_WEIGHTS = np.array([VERBS[name].weight for name in DIRECTED]) / sum(VERBS[name].weight for name in DIRECTED)
