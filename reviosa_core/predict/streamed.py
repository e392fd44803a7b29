"""What a stream is asked for and what it gives, as values: nothing here needs a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from reviosa_core.bounds import Few, Share, Strict, need
from reviosa_core.schema import Prediction, Role

LONGEST = 10_000  # frames that SAM2 carries an answer on, at most

Why = Literal["first", "filling", "unsure", "jump", "due"]


class Stream(Strict):
    """When the language model is asked again, and about which frames.

    window  frames that its K are spread over, with the newest one
    unsure  SAM2's estimated IoU times the probability that the object is there: below that, of any mask
    jump    IoU of a mask with itself one frame before: below that
    gap     frames between two questions, at least
    every   frames between two questions, at most
    """

    window: Few = 32
    unsure: Share = 0.5
    jump: Share = 0.2
    gap: Few = 4
    every: Annotated[int, Field(ge=1, le=LONGEST)] = 16

    @model_validator(mode="after")
    def _rules(self) -> Stream:
        need(self.every >= self.gap, "every", self.every, f"must be at least gap {self.gap}")
        return self


@dataclass(frozen=True, slots=True)
class Question:
    """One of those that a stream asked about a sentence."""

    frame: int  # position
    why: Why
    answer: str
    token: Mapping[Role, float]


@dataclass(frozen=True, slots=True)
class Streamed(Prediction):
    """`answer` is the last one, `written` all roles of any answer, a role's `token` the mean over frames."""

    questions: Sequence[Question] = ()
