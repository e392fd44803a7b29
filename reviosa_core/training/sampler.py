"""Which clips, frames and expressions training sees, and when: a function of seed, epoch and place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from reviosa_core.data.sampling import frame_indices, take
from reviosa_core.schema import Clip, Sample


def window(length: int, count: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Positions of `count` neighbouring frames anywhere in a clip; all of a clip that is shorter."""
    if length < 1 or count < 1:
        raise ValueError(f"cannot pick {count} of {length} frames")
    count = min(count, length)
    first = int(rng.integers(length - count + 1))
    return tuple(range(first, first + count))


def pick(clip: Clip, expressions: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Positions of up to `expressions` random expressions, one with a target among them where the clip has any (the
    paper's rule)."""
    order = rng.permutation(len(clip.expressions)).tolist()
    directed = [i for i in order if clip.expressions[i].is_interaction]
    chosen = order[:expressions]
    if directed and not any(i in directed for i in chosen):
        chosen[-1] = directed[0]
    return tuple(chosen)


class Draw(NamedTuple):
    """What a place in training is: which clip, which of its frames, which of its expressions (all positions)."""

    epoch: int
    clip: int
    frames: tuple[int, ...]
    expressions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sampler:
    """The samples of a training run by their place in it: a function of (seed, epoch, index), whoever asks and when.

    Every epoch visits every clip once, in an order drawn from (seed, epoch). `frames` of each are spread evenly as
    in evaluation ("uniform"), as neighbours somewhere ("contiguous"), or as a random subset ("random", the paper's).
    Torch's DataLoader takes it as it is, `sampler=range(first, last)`, and gives the same with any number of workers.
    """

    clips: Sequence[Clip]
    frames: int
    expressions: int
    how: Literal["uniform", "contiguous", "random"]
    seed: int

    def __len__(self) -> int:
        """Of an epoch; places go on beyond it."""
        return len(self.clips)

    def plan(self, place: int) -> Draw:
        """What will be drawn, without decoding anything: for a log, or to find a sample again."""
        epoch, index = divmod(place, len(self.clips))
        clip = int(np.random.default_rng((self.seed, epoch)).permutation(len(self.clips))[index])
        rng, length = np.random.default_rng((self.seed, epoch, index)), len(self.clips[clip])
        if self.how == "contiguous":
            shown = window(length, self.frames, rng)
        else:
            shown = frame_indices(length, self.frames, rng if self.how == "random" else None)
        return Draw(epoch, clip, shown, pick(self.clips[clip], self.expressions, rng))

    def __getitem__(self, place: int, /) -> Sample:
        drawn = self.plan(place)
        return take(self.clips[drawn.clip], drawn.frames, drawn.expressions)
