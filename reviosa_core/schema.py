"""The typed values at each seam: clips in, samples to a system, predictions out. Nothing else lives here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt8

CaptionType = Literal["single", "multi", "unidirectional", "bidirectional", "undefined"]
RLE = dict[str, Any]  # COCO run lengths: {"size": [h, w], "counts": str}
UNKNOWN = "unknown"  # mask key of an actor whose masks nobody has drawn, or has published
TEXT = 4000  # characters of a sentence: attention's memory grows with their square. Ref-SAV's are a paragraph long
NOTHING = "nothing"  # mask key of the actor of an expression that refers to nothing in its video (MeViS v2)


class Role(StrEnum):
    """Who an object is in an interaction. Every expression has an actor; only directed interactions have a target."""

    ACTOR = "actor"
    TARGET = "target"


class DataError(ValueError):
    """Bad input data. The message names the file, the id and both numbers."""


@runtime_checkable
class Frames(Protocol):
    """Random access to RGB frames: a uint8 array (t h w 3), or anything that decodes frame i on demand."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> np.ndarray: ...


@runtime_checkable
class Track(Protocol):
    """One object through a clip, an RLE or None (absent) per frame: a list, or anything that reads frame i on demand.

    Not a Sequence: its items are not to be looked at before somebody needs them, not even by a type check.
    """

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> RLE | None: ...
    def __iter__(self) -> Iterator[RLE | None]: ...


@dataclass(frozen=True, slots=True)
class Expression:
    """One referring expression of a clip.

    `actor` and `target` are keys into `Clip.masks`; several keys mean their union. `target` is None unless the
    expression describes a directed interaction (InterRVOS-127K: caption type "unidirectional"). DataError for what is
    no expression: without words or with more than TEXT characters, without an actor, of no known type.
    """

    id: str
    text: str
    caption_type: CaptionType
    actor: tuple[str, ...]
    target: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise DataError(f"expression {self.id}: empty text")
        if len(self.text) > TEXT:
            raise DataError(f"expression {self.id}: a text of {len(self.text):,} characters, at most {TEXT:,} are read")
        if re.search("[\ud800-\udfff]", self.text):
            raise DataError(f"expression {self.id}: {self.text[:60]!r} is not text: half a character, or no UTF-8")
        if self.caption_type not in get_args(CaptionType):
            raise DataError(
                f"expression {self.id}: caption type {self.caption_type!r}, not one of {get_args(CaptionType)}"
            )
        if not self.actor:
            raise DataError(f"expression {self.id} ({self.text!r}): no actor")
        if self.target is not None and not self.target:
            raise DataError(f"expression {self.id} ({self.text!r}): target is an empty list; use null for 'no target'")
        if self.is_about_nothing and (len(self.actor) > 1 or self.target):
            raise DataError(
                f"expression {self.id} ({self.text!r}): refers to nothing, yet has actor {list(self.actor)} and target "
                f"{self.target and list(self.target)}"
            )

    @property
    def is_interaction(self) -> bool:
        """True when a target mask is due: the expressions InterRVOS-Actor and InterRVOS-Target score."""
        return self.target is not None

    @property
    def is_about_nothing(self) -> bool:
        """True when not even an actor is due: nothing in the clip is what the expression says."""
        return NOTHING in self.actor


@dataclass(frozen=True, slots=True)
class Clip:
    """A video with its expressions and masks, validated once, frames and masks read on demand.

    `masks` maps a mask key to one RLE (or None: object absent) per frame, by position in `frame_names`.
    """

    id: str
    frames: Frames
    frame_names: tuple[str, ...]
    size: tuple[int, int]  # height, width in pixels
    expressions: tuple[Expression, ...] = ()
    masks: Mapping[str, Track] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.frame_names):
            raise DataError(f"clip {self.id}: {len(self.frames)} frames, {len(self.frame_names)} frame names")
        if not self.frame_names:
            raise DataError(f"clip {self.id}: no frames")
        ids = [expression.id for expression in self.expressions]
        if len(ids) != len(set(ids)):
            raise DataError(f"clip {self.id}: duplicate expression ids in {ids}")
        for expression in self.expressions:
            for key in (*expression.actor, *(expression.target or ())):
                if key not in self.masks:
                    raise DataError(f"clip {self.id}, expression {expression.id}: no mask {key!r}")
                if len(self.masks[key]) != len(self.frame_names):
                    raise DataError(
                        f"clip {self.id}, mask {key}: {len(self.masks[key])} entries for {len(self.frame_names)} frames"
                    )

    def __len__(self) -> int:
        return len(self.frame_names)

    def check_public(self) -> None:
        """DataError where nobody knows the masks of an expression: there is nothing to score by, nor to learn."""
        for expression in self.expressions:
            if UNKNOWN in expression.actor:
                raise DataError(f"clip {self.id}, expression {expression.id}: its masks are not public")


@dataclass(frozen=True, slots=True)
class Sample:
    """What a system trains on: some frames of one clip and some of its expressions, with masks by role.

    Rows of `masks[Role.TARGET]` are all False for expressions without a target; `Expression.target` tells which.
    """

    clip_id: str
    indices: tuple[int, ...]  # positions of the frames in the clip
    frames: UInt8[np.ndarray, "t h w 3"]
    expressions: tuple[Expression, ...]
    masks: Mapping[Role, Bool[np.ndarray, "e t h w"]]


@dataclass(frozen=True, slots=True)
class Confidence:
    """How sure a system is of one role, from 0 to 1, as it says itself: nobody has calibrated these numbers."""

    token: float  # probability of the role's token where it was written; else the highest it had while it was not
    iou: Float[np.ndarray, " t"]  # SAM2's estimate of its mask's IoU, by frame; 0 where no mask was asked for
    present: Float[np.ndarray, " t"]  # SAM2's object score as a probability, by frame; 0 where no mask was asked for

    @property
    def frames(self) -> Float[np.ndarray, " t"]:
        """One number a frame: the product of the three."""
        return self.token * self.iou * self.present


@dataclass(frozen=True, slots=True)
class Prediction:
    """Masks for one expression over every frame of its clip, as an array or as run lengths.

    Three states, never mixed: a role the system does not support is not a key of `masks`; a role predicted empty is
    all False; a prediction that is missing altogether is an error for whoever scores it.
    """

    clip_id: str
    expression_id: str
    masks: Mapping[Role, Bool[np.ndarray, "t h w"] | Sequence[RLE]]
    answer: str = ""  # what the language model wrote, where there is one
    written: frozenset[Role] | None = (
        None  # the roles it wrote a token for; None where that is not known, as from files
    )
    score: float | None = None  # how sure the system is that it is right, where it says so: mAP orders answers by it
    confidence: Mapping[Role, Confidence] | None = None  # of each role, where the system says so


@runtime_checkable
class Segments(Protocol):
    """What using a system takes; training it takes more."""

    def segment(self, clip: Clip, expressions: Sequence[Expression]) -> list[Prediction]:
        """One prediction per expression, in order, over all frames of the clip."""
        ...


@runtime_checkable
class Compact(Protocol):
    """A system that need not hold every mask of a clip as an array."""

    def run_lengths(self, clip: Clip, expressions: Sequence[Expression] | None = None) -> list[Prediction]:
        """`segment`, with masks as run lengths: memory that does not grow with the clip."""
        ...


@runtime_checkable
class Each(Protocol):
    """A system that is asked about many clips, since it does some ahead."""

    def each(self, clips: Sequence[Clip]) -> Iterator[list[Prediction]]:
        """One prediction per expression of each clip, all in order."""
        ...


@runtime_checkable
class System(Protocol):
    """Anything that turns a clip and expressions into masks: ReVIOSa, or a baseline."""

    roles: tuple[Role, ...]

    def collate(self, samples: Sequence[Sample], rng: np.random.Generator | None = None) -> Any:
        """Samples to the system's own batch."""
        ...

    def training_losses(self, batch: Any) -> dict[str, Any]:
        """Named scalar loss tensors, already weighted: their sum is what is minimised."""
        ...

    def segment(self, clip: Clip, expressions: Sequence[Expression] | None = None) -> list[Prediction]:
        """One prediction per expression (by default all of the clip's), in order, over all frames of the clip."""
        ...
