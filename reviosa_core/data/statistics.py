"""What is in a dataset (the paper's appendix D.4): one pass over clips, no frame or mask decoded."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reviosa_core.schema import NOTHING, UNKNOWN, Clip

# Words that say nothing of what is seen. Words of place stay: "left", "front", "behind" are what expressions live on.
STOP = frozenset(
    "a an the this that these those it its he his him she her they their them one ones who whom which whose what where "
    "is are was were be been being am has have had having do does did and or but as while when then than so not no "
    "of in on at by to from with for into onto over up down off out about each other another some".split()
)
INTERACTIONS = ("unidirectional", "bidirectional")  # the two kinds of the paper's appendix D.1


@dataclass(frozen=True, slots=True)
class Statistics:
    """Numbers of a dataset, a clip at a time: a row a clip, and counts over all expressions.

    `videos` has the columns video, frames, seconds (where the frame rate is known), expressions, objects and
    interactions (expressions of either kind). `participants` counts the interactions by how many objects they name.
    """

    videos: pd.DataFrame
    words: Counter[str]
    caption_types: Counter[str]
    participants: Counter[int]
    directed: int  # expressions with a target

    def table(self) -> dict[str, Any]:
        """The columns of the paper's Table A4, with the ratios that its authors' script prints."""
        count, objects = len(self.videos), int(self.videos["objects"].sum())
        expressions = int(self.videos["expressions"].sum())
        return {
            "videos": count,
            "objects": objects,
            "expressions": expressions,
            "objects a video": objects / count,
            "expressions a video": expressions / count,
            "actor-target expressions": self.directed,
            "videos with an interaction": float((self.videos["interactions"] > 0).mean()),
        }


def collect(clips: Iterable[Clip], fps: float | None = None) -> Statistics:
    """Statistics of clips, which may be a stream. `fps`: frames a second of the clips as they are stored.

    Objects are the masks that a clip has. Raises ValueError when there is no clip, or `fps` is not above 0.
    """
    if fps is not None and fps <= 0:
        raise ValueError(f"{fps} frames a second")
    rows: list[dict[str, Any]] = []
    words, types, participants = Counter[str](), Counter[str](), Counter[int]()
    directed = 0
    for clip in clips:
        interactions = [e for e in clip.expressions if e.caption_type in INTERACTIONS]
        row = {"video": clip.id, "frames": len(clip)} | ({"seconds": len(clip) / fps} if fps else {})
        rows.append(
            row
            | {
                "expressions": len(clip.expressions),
                "objects": len(clip.masks.keys() - {UNKNOWN, NOTHING}),
                "interactions": len(interactions),
            }
        )
        for expression in clip.expressions:
            words.update(w for w in re.findall(r"[^\W\d_]+", expression.text.lower()) if w not in STOP)
        types.update(e.caption_type for e in clip.expressions)
        participants.update(len({*e.actor, *(e.target or ())}) for e in interactions)
        directed += sum(e.is_interaction for e in clip.expressions)
    if not rows:
        raise ValueError("no clips: nothing to count")
    return Statistics(pd.DataFrame(rows), words, types, participants, directed)
