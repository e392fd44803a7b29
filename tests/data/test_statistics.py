"""Counts by hand on three small clips, and those of the real videos where they are at hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reviosa_core.data import interrvos, statistics
from reviosa_core.report import tables
from reviosa_core.schema import Clip, Expression

H, W = 5, 7


def clip(name: str, frames: int, *expressions: tuple[str, str, str, str]) -> Clip:
    made = tuple(
        Expression(str(i), text, kind, tuple(actor), tuple(target) or None)  # type: ignore[arg-type]
        for i, (text, kind, actor, target) in enumerate(expressions)
    )
    keys = {key for e in made for key in (*e.actor, *(e.target or ()))}
    pictures = np.broadcast_to(np.uint8(0), (frames, H, W, 3))
    return Clip(
        name, pictures, tuple(f"{i:03d}" for i in range(frames)), (H, W), made, {k: [None] * frames for k in keys}
    )


def clips() -> Iterator[Clip]:
    yield clip("a", 6, ("The dog, and the dog's toy", "multi", "dt", ""), ("A dog on the left", "single", "d", ""))
    yield clip(
        "b", 3, ("a man feeding two birds", "unidirectional", "m", "bc"), ("men hugging", "bidirectional", "mn", "")
    )
    yield clip("c", 9, ("a bird fed by a man", "unidirectional", "b", "m"))


def test_golden():
    found = statistics.collect(clips(), fps=1.5)
    want = [("a", 6, 4.0, 2, 2, 0), ("b", 3, 2.0, 2, 4, 2), ("c", 9, 6.0, 1, 2, 1)]
    columns = ["video", "frames", "seconds", "expressions", "objects", "interactions"]
    pd.testing.assert_frame_equal(found.videos, pd.DataFrame(want, columns=columns))
    assert found.participants == {3: 1, 2: 2} and found.directed == 2
    assert found.caption_types == {"unidirectional": 2, "multi": 1, "single": 1, "bidirectional": 1}
    assert found.words["dog"] == 3 and found.words["left"] == 1 and "the" not in found.words
    assert found.table() == {
        "videos": 3,
        "objects": 8,
        "expressions": 5,
        "objects a video": 8 / 3,
        "expressions a video": 5 / 3,
        "actor-target expressions": 2,
        "videos with an interaction": 2 / 3,
    }


def test_no_frame_rate_no_seconds():
    assert "seconds" not in statistics.collect(clips()).videos
    with pytest.raises(ValueError, match="0.0 frames a second"):
        statistics.collect(clips(), fps=0.0)
    with pytest.raises(ValueError, match="no clips"):
        statistics.collect([])


def test_words_of_other_languages_count():
    found = statistics.collect([clip("a", 1, ("Größe der Bäume, 2 x", "single", "a", ""))])
    assert found.words == {"größe": 1, "der": 1, "bäume": 1, "x": 1}


def test_clips_are_let_go():
    """A stream of 10,000 clips must not stay in memory: at most the one at hand, and the one before."""
    alive: set[int] = set()

    class Frames:
        def __init__(self) -> None:
            alive.add(id(self))

        def __del__(self) -> None:
            alive.discard(id(self))

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int, /) -> np.ndarray:
            raise AssertionError("no frame is decoded")

    def stream() -> Iterator[Clip]:
        for i in range(20):
            yield Clip(str(i), Frames(), ("0",), (H, W), (), {})
            assert len(alive) <= 2

    assert len(statistics.collect(stream()).videos) == 20


def test_real_videos(shared: Path):
    found = statistics.collect(interrvos.read(shared / "data" / "davis_interactions"))
    assert found.table()["expressions"] == 89 and found.table()["objects"] == 17 and found.directed == 29
    assert found.caption_types == {"single": 53, "unidirectional": 29, "multi": 4, "bidirectional": 3}
    text = tables.dataset(found)
    assert "53 single, 29 unidirectional" in text and "30.8%" in text
