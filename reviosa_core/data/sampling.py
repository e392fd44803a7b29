"""Which frames and expressions of a clip a system sees: one explicit sampler for training and evaluation."""

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


def draw(clip: Clip, indices: tuple[int, ...], expressions: int, rng: np.random.Generator) -> Sample:
    """A training sample: these frames and up to `expressions` random expressions, one with a target among them where
    the clip has any (the paper's rule)."""
    order = rng.permutation(len(clip.expressions)).tolist()
    directed = [i for i in order if clip.expressions[i].is_interaction]
    chosen = order[:expressions]
    if directed and not any(i in directed for i in chosen):
        chosen[-1] = directed[0]
    return take(clip, indices, tuple(chosen))


def take(clip: Clip, indices: tuple[int, ...], expressions: tuple[int, ...] | None = None) -> Sample:
    """The sample with just these frames and expressions (default: all expressions)."""
    picked = tuple(clip.expressions[i] for i in (range(len(clip.expressions)) if expressions is None else expressions))
    actor = [masks.union(clip, e.actor, indices) for e in picked]
    target = [masks.union(clip, e.target, indices) for e in picked]
    shape = (len(picked), len(indices), *clip.size)
    return Sample(
        clip_id=clip.id,
        indices=indices,
        frames=np.stack([clip.frames[i] for i in indices]),
        expressions=picked,
        masks={
            Role.ACTOR: np.array(actor, dtype=bool).reshape(shape),
            Role.TARGET: np.array(target, dtype=bool).reshape(shape),
        },
    )
