"""Who takes part? Which two of a clip's objects interact, asked of predictors that see one frame and no sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from sklearn.ensemble import HistGradientBoostingClassifier


@dataclass(frozen=True)
class Pairs:
    """All pairs of a clip of more than two objects in which one pair interacts."""

    video: str
    pairs: Sequence[tuple[int, int]]
    interacts: Sequence[bool]
    centres: Float[np.ndarray, "object t 2"]
    radii: Sequence[float]

    def gaps(self, t: int) -> list[float]:
        """Between the edges of the two, in units of the frame's side."""
        places = self.centres[:, t]
        return [float(np.linalg.norm(places[i] - places[j])) - self.radii[i] - self.radii[j] for i, j in self.pairs]

    def seen(self, t: int) -> list[list[float]]:
        """Of each pair the gap, and how far the two, and the point between them, are from the middle of the frame."""
        away = self.centres[:, t] - 0.5
        far, features = np.linalg.norm(away, axis=1), []
        for (i, j), gap in zip(self.pairs, self.gaps(t), strict=True):
            features.append([gap, *sorted((far[i], far[j])), float(np.linalg.norm(away[i] + away[j])) / 2])
        return features


def read(side: Mapping[str, Mapping[str, Any]]) -> list[Pairs]:
    """From what `splits.read_side_file` knows of clips."""
    found = []
    for video, clip in side.items():
        if len(clip["interactions"]) == 1 and len(clip["shapes"]) > 2:
            (event,) = clip["interactions"]
            pairs = list(combinations(range(len(clip["shapes"])), 2))
            interacts = [{i, j} == {event["a"], event["b"]} for i, j in pairs]
            radii = [shape["radius"] for shape in clip["shapes"]]
            found.append(Pairs(video, pairs, interacts, np.array(clip["centres"]), radii))
    return found


def nearest(asked: Sequence[Pairs], t: int) -> list[int]:
    """Of each clip, the number of the pair that is nearest at frame t."""
    return [int(np.argmin(clip.gaps(t))) for clip in asked]


def likeliest(known: Sequence[Pairs], asked: Sequence[Pairs], seed: int) -> list[int]:
    """Of each clip, the number of the pair that boosted trees on the first frame think likeliest to interact; of any
    clip the first, where there is nothing to learn from."""
    if not known:
        return [0] * len(asked)
    trees = HistGradientBoostingClassifier(max_iter=100, random_state=seed, class_weight="balanced")
    trees.fit([pair for clip in known for pair in clip.seen(0)], [yes for clip in known for yes in clip.interacts])
    return [int(np.argmax(trees.predict_proba(clip.seen(0))[:, 1])) for clip in asked]


def picked(asked: Sequence[Pairs], picks: Sequence[int]) -> pd.DataFrame:
    """Columns: video, right (is the picked pair the interacting one?)."""
    rows = [(clip.video, clip.interacts[pick]) for clip, pick in zip(asked, picks, strict=True)]
    return pd.DataFrame(rows, columns=["video", "right"])


def chance(asked: Sequence[Pairs]) -> float:
    """What guessing would give, in percent."""
    return float(np.mean([100 / len(clip.pairs) for clip in asked])) if asked else float("nan")
