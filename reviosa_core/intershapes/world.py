"""What an InterShapes scene is made of: looks, things that happen, sentences about them. Values only.

Coordinates are (x, y) in units of the frame side, y down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8

from reviosa_core.schema import CaptionType

# A clip is a function of (seed, split number, index) alone, so splits never share a clip. "pretrain" is never written.
SPLITS = {"train": 0, "val": 1, "test": 2, "shift": 3, "pretrain": 4, "dev": 5}


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
