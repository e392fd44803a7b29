"""Some frames and expressions of a clip, as what a system sees: the one way, in training and in evaluation."""

from __future__ import annotations

import numpy as np

from reviosa_core import masks
from reviosa_core.schema import Clip, Role, Sample


def frame_indices(length: int, count: int, rng: np.random.Generator | None = None) -> tuple[int, ...]:
    """Positions of at most `count` of `length` frames, in order, each once.

    Without `rng`: uniform, `linspace(0, length - 1, count)` rounded down (evaluation). With it: a random subset
    (training). A clip shorter than `count` gives all its frames, never a repetition.
    """
    if length < 1 or count < 1:
        raise ValueError(f"cannot pick {count} of {length} frames")
    if count >= length:
        return tuple(range(length))
    if rng is None:
        return tuple(int(i) for i in np.linspace(0, length - 1, count))
    return tuple(int(i) for i in np.sort(rng.choice(length, size=count, replace=False)))


def take(clip: Clip, indices: tuple[int, ...], expressions: tuple[int, ...] | None = None) -> Sample:
    """The sample with just these frames and expressions (default: all expressions)."""
    picked = tuple(clip.expressions[i] for i in (range(len(clip.expressions)) if expressions is None else expressions))
    found = {role: np.zeros((len(picked), len(indices), *clip.size), dtype=bool) for role in Role}
    users: dict[str, list[np.ndarray]] = {}  # a mask that several expressions name is decoded once
    for row, expression in enumerate(picked):
        for role, keys in ((Role.ACTOR, expression.actor), (Role.TARGET, expression.target or ())):
            for key in keys:
                users.setdefault(key, []).append(found[role][row])
    for key, rows in users.items():
        mask = masks.union(clip, (key,), indices)
        for own in rows:
            own |= mask
    frames = np.stack([clip.frames[i] for i in indices])
    return Sample(clip.id, indices, frames, picked, found)
