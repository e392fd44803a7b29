"""A system without weights, and videos for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from reviosa_core import masks
from reviosa_core.schema import Clip, Confidence, Expression, Prediction, Role

T, H, W = 5, 24, 36


class Standing:
    """Calls the left half the actor and a square that comes and goes the target; sure of every second frame. Refuses a
    sentence about a ghost."""

    roles = (Role.ACTOR, Role.TARGET)

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str]]] = []

    def run_lengths(self, clip: Clip, expressions: Sequence[Expression] | None = None) -> list[Prediction]:
        return [
            Prediction(p.clip_id, p.expression_id, {r: [masks.encode(m) for m in own] for r, own in p.masks.items()},
                       p.answer, p.written, confidence=p.confidence)
            for p in self.segment(clip, expressions)
        ]  # fmt: skip

    def segment(self, clip: Clip, expressions: Sequence[Expression] | None = None) -> list[Prediction]:
        expressions = clip.expressions if expressions is None else expressions
        self.asked.append((clip.id, [e.text for e in expressions]))
        if any("ghost" in e.text for e in expressions):
            raise RuntimeError("there are\nno ghosts")
        actor, target = np.zeros((2, len(clip), *clip.size), dtype=bool)
        actor[:, :, : clip.size[1] // 2] = True
        target[::2, 4:10, 12:24] = True
        sure = 0.9 - 0.6 * (np.arange(len(clip)) % 2)
        confidence = {
            role: Confidence(0.5 + 0.5 * i, np.full(len(clip), 0.8), sure) for i, role in enumerate(self.roles)
        }
        found = {Role.ACTOR: actor, Role.TARGET: target}
        return [
            Prediction(clip.id, e.id, found, "it is both", frozenset(self.roles), confidence=confidence)
            for e in expressions
        ]


def frames(folder: Path, count: int = T) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", (W, H), (60 + 9 * i, 60, 60)).save(folder / f"{i:03d}.png")
    return folder
