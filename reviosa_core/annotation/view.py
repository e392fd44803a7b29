"""A clip as the stages look at it: the tracks that are good enough, and pictures of some frames with them outlined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool

from reviosa_core import masks
from reviosa_core.annotation import pictures
from reviosa_core.annotation.endpoint import Asking
from reviosa_core.annotation.questions import Prompts
from reviosa_core.annotation.records import Track
from reviosa_core.config import Annotation
from reviosa_core.data.sampling import frame_indices
from reviosa_core.schema import Clip


class View:
    """`numbers`: the number that each track's id goes by in questions, from 1; the verifier is shown others."""

    def __init__(
        self, clip: Clip, tracks: Sequence[Track], settings: Annotation, prompts: Prompts, endpoint: Asking
    ) -> None:
        self.clip, self.settings, self.prompts, self.endpoint = clip, settings, prompts, endpoint
        self.ids = tuple(track.id for track in tracks if track.poor is None)
        self.numbers = {id: number for number, id in enumerate(self.ids, 1)}
        self.shown = frame_indices(len(clip), settings.frames)

    @cached_property
    def masks(self) -> dict[str, list[Bool[np.ndarray, "h w"]]]:
        """By track, where it is in each frame shown."""
        return {id: list(masks.union(self.clip, (id,), self.shown)) for id in self.ids}

    @cached_property
    def frames(self) -> list[np.ndarray]:
        return [self.clip.frames[i] for i in self.shown]

    def images(self, numbers: Mapping[str, int], plain: bool = False) -> tuple[tuple[str, bytes], ...]:
        """The frames shown, each with its label, these tracks outlined; without their numbers when `plain`."""
        found = []
        for k, position in enumerate(self.shown):
            there = {number: self.masks[id][k] for id, number in numbers.items()}
            picture = pictures.outlined(self.frames[k], there, self.settings.side, numbers=not plain)
            found.append((f"frame {position}", pictures.jpeg(picture)))
        return tuple(found)

    def renumbered(self, order: int) -> dict[str, int]:
        """Other numbers for the same tracks, the same each time: in two looks none keeps its own. Of three tracks or
        more neither look has the numbers of the other questions; two have two ways only."""
        count = len(self.ids)
        mixed = np.random.default_rng([self.settings.seed, *self.clip.id.encode()]).permutation(count)
        turns = [np.roll(mixed, k) for k in range(count)]
        new = [turn for turn in turns if count < 3 or (turn != np.arange(count)).any()]
        return {id: int(number) + 1 for id, number in zip(self.ids, new[order % len(new)], strict=True)}


def one_of(values: Sequence[Any]) -> Any:
    """A type that allows these values only: an enum in the schema."""
    return Literal[tuple(values)]


def several(kind: Any) -> Any:
    """A type for lists of it."""
    return list[kind]
