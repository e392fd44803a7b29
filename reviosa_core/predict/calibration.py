"""How often a role's object is in a frame when the model says so: learnt on a split that nothing was trained on.

A role's score in a frame is the probability of its token times SAM2's that the object is there; 0 where the token was
not written. A curve that only rises (isotonic regression) turns it into the share of such frames in which the truth has
a mask. It holds for one model, and lies beside its folder: <checkpoint>.calibration.json.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from jaxtyping import Float
from pydantic import Field, ValidationError, model_validator
from tqdm import tqdm

from reviosa_core import masks, outputs
from reviosa_core.bounds import Count, Share, Strict, Words, complaints, need
from reviosa_core.data.jsonfile import read_json, to_json
from reviosa_core.schema import Clip, Confidence, DataError, Role, Segments

BINS = 10  # of equal width
Knots = Annotated[tuple[Share, ...], Field(min_length=1, max_length=100_000)]


class Curve(Strict):
    """Straight lines from knot to knot: shares of true by score; both only rise. Flat beyond the ends."""

    scores: Knots
    shares: Knots

    @model_validator(mode="after")
    def _rules(self) -> Curve:
        need(len(self.scores) == len(self.shares), "shares", len(self.shares), f"{len(self.scores)} are needed")
        for name in ("scores", "shares"):
            need(bool((np.diff(getattr(self, name)) >= 0).all()), name, getattr(self, name), "must rise")
        return self

    def of(self, scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        return np.interp(scores, self.scores, self.shares)


class Calibration(Strict):
    """Curves by role; `model` is the hash of the weights that they were learnt of, `data` what they were learnt on."""

    model: Words
    data: Words
    expressions: Count
    roles: dict[Role, Curve]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def score(sure: Confidence) -> Float[np.ndarray, " t"]:
    """What is calibrated, by frame: nothing of SAM2's estimate of how well its mask fits."""
    return sure.token * sure.present


def measure(system: Segments, clips: Sequence[Clip], progress: bool = True) -> pd.DataFrame:
    """A row a frame, role and expression: video, expression, role, score, and whether the truth has a mask there.

    Of targets only where some sentence of the clips has one: otherwise they are not annotated. DataError where masks
    are not public, and where the system does not say how sure it is.
    """
    rows, annotated = [], {Role.ACTOR}
    for clip in clips:
        clip.check_public()
        if any(e.is_interaction for e in clip.expressions):
            annotated.add(Role.TARGET)
    for clip in tqdm(clips, desc="measure", unit="clip", disable=not progress):
        found = masks.segmented(system, clip, clip.expressions)
        for expression, prediction in zip(clip.expressions, found, strict=True):
            if prediction.confidence is None:
                raise DataError(f"clip {clip.id}: {type(system).__name__} does not say how sure it is")
            for role, sure in prediction.confidence.items():
                if role not in annotated:
                    continue
                keys = (expression.actor if role is Role.ACTOR else expression.target) or ()
                there = masks.union(clip, keys).any((1, 2))
                told = {"video": clip.id, "expression": expression.id, "role": str(role)}
                rows += [told | {"score": s, "there": y} for s, y in zip(score(sure), there, strict=True)]
    if not rows:
        raise DataError("nothing to calibrate on: no clip has an expression")
    return pd.DataFrame(rows)


def fit(rows: pd.DataFrame, model: str, data: str) -> Calibration:
    """The curves of `measure`'s rows."""
    from sklearn.isotonic import IsotonicRegression

    roles = {}
    for role, own in rows.groupby("role"):
        found = IsotonicRegression(y_min=0, y_max=1).fit(own.score.to_numpy(float), own.there.to_numpy(float))
        knots = (np.clip(k, 0, 1).tolist() for k in (found.X_thresholds_, found.y_thresholds_))
        roles[Role(role)] = Curve(**dict(zip(("scores", "shares"), map(tuple, knots), strict=True)))
    count = len(rows[["video", "expression"]].drop_duplicates())
    return Calibration(model=model, data=data, expressions=count, roles=roles)


def reliability(said: Float[np.ndarray, " n"], there: np.ndarray, bins: int = BINS) -> pd.DataFrame:
    """By bin of what was said: mean of that (`said`), share that was so (`there`), and `frames`. Empty bins have no
    row."""
    place = np.minimum((np.asarray(said) * bins).astype(int), bins - 1)
    table = pd.DataFrame({"bin": place, "said": said, "there": np.asarray(there, float)})
    return table.groupby("bin").agg(said=("said", "mean"), there=("there", "mean"), frames=("said", "size"))


def calibration_error(said: Float[np.ndarray, " n"], there: np.ndarray, bins: int = BINS) -> float:
    """ECE: what was said and what was so differ by that much, mean over frames (Guo et al. 2017, Eq. 3)."""
    table = reliability(said, there, bins)
    return float(((table.said - table.there).abs() * table.frames).sum() / table.frames.sum())


def beside(checkpoint: Path) -> Path:
    checkpoint = checkpoint.resolve()
    return checkpoint.with_name(f"{checkpoint.name}.calibration.json")


def write(checkpoint: Path, found: Calibration) -> Path:
    """Not in the checkpoint's folder: that is as its training left it."""
    path = beside(checkpoint)
    outputs.text(path, to_json(found.model_dump(mode="json")) + "\n")
    return path


def read(checkpoint: Path, model: str) -> Calibration | None:
    """What lies beside a checkpoint, None where nothing does. DataError where that is of other weights, or nothing that
    `write` wrote."""
    path = beside(checkpoint)
    if not path.exists():
        return None
    try:
        found = Calibration.model_validate(read_json(path))
    except ValidationError as error:
        raise DataError(f"{path}: {next(complaints(error))}") from None
    if found.model != model:
        raise DataError(
            f"{path}: is of weights {found.model[:12]}, {checkpoint} has {model[:12]}; remove it, or calibrate again"
        )
    return found
