"""How videos are annotated."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reviosa_core.bounds import Few, Seed, Share, Strict


class Annotation(Strict):
    """How videos are annotated: what a question shows, how it is asked, and which tracks are good enough."""

    frames: Few = 8  # of a clip, shown in one question
    side: Annotated[int, Field(ge=32, le=4096)] = 512  # pixels of the longer side of a picture shown
    objects: Annotated[int, Field(ge=2, le=12)] = 12  # of a clip, at most; each has a colour of its own
    words: Annotated[int, Field(ge=3, le=200)] = 30  # of a text, at most
    presence: Share = 0.3  # a track is seen in at least this share of the frames,
    area: Share = 0.0005  # covers at least this share of those,
    stability: Share = 0.5  # and keeps at least this share of its area from frame to frame
    grid: Few = 6  # points a side, where there are neither masks nor boxes
    at_once: Few = 8  # questions under way
    tokens: Annotated[int, Field(ge=16, le=100_000)] = 2000  # of an answer, at most
    seed: Seed = 0
