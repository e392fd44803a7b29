"""Predictions to one row of scores per video, expression and role; and the released file layout of predictions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool
from tqdm import tqdm

from reviosa_core import masks, metrics
from reviosa_core.schema import Clip, DataError, Expression, Prediction, Role, System

OTHER = {Role.ACTOR: Role.TARGET, Role.TARGET: Role.ACTOR}
RELEASED = {Role.ACTOR: "prediction_masks_act", Role.TARGET: "prediction_masks_tar"}  # keys of the InterRVOS release


def evaluate(
    system: System, clips: Iterable[Clip], progress: bool = True, save: str | Path | None = None
) -> pd.DataFrame:
    """Segment and score every expression of `clips`; columns as in `metrics`. Holds one clip's masks at a time.

    With `save`, also writes the predictions there in the released layout (see `write_predictions`).
    """
    rows: list[dict[str, Any]] = []
    with write_predictions(save) if save else nullcontext(lambda predictions: None) as write:
        for clip in tqdm(clips, desc="evaluate", unit="clip", disable=not progress):
            predictions = system.segment(clip, clip.expressions)
            rows += score(clip, predictions)
            write(predictions)
    if not rows:
        raise DataError("nothing to evaluate: no clip has an expression")
    return pd.DataFrame(rows)


def score(clip: Clip, predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """One row per expression of the clip and role of the system (columns: see `metrics`).

    A target row is made for every expression once the system supports the role: without an interaction its truth is
    empty, and the row counts for interaction detection only. Raises DataError, naming ids and both numbers, when an
    expression has no prediction or two, a prediction fits no expression, roles differ between predictions, or masks
    differ from the clip in frames or size.
    """
    by_id = _match(clip, predictions)
    inverse = _inverses(clip.expressions)
    rows = []
    for expression in clip.expressions:
        pred = by_id[expression.id].masks
        true = {Role.ACTOR: masks.union(clip, expression.actor), Role.TARGET: masks.union(clip, expression.target)}
        shared: dict[str, Any] = {
            "video": clip.id,
            "expression": expression.id,
            "caption_type": expression.caption_type,
            "is_interaction": expression.is_interaction,
            "inverse": inverse.get(expression.id),
            "overlap": np.nan,
            "overlap_true": np.nan,
        }
        if expression.is_interaction and Role.TARGET in pred:
            shared["overlap"] = _mean(metrics.overlap(pred[Role.ACTOR], pred[Role.TARGET]))
            shared["overlap_true"] = _mean(metrics.overlap(true[Role.ACTOR], true[Role.TARGET]))
        for role in pred:
            row = shared | {"role": str(role)} | _role_scores(pred[role], true[role])
            row["J_cross"] = row["J_inverse"] = np.nan
            if expression.is_interaction:
                row["J_cross"] = _mean(metrics.region_similarity(pred[role], true[OTHER[role]]))
            if expression.id in inverse and OTHER[role] in pred:
                opposite = by_id[inverse[expression.id]].masks[OTHER[role]]
                row["J_inverse"] = _mean(metrics.region_similarity(pred[role], opposite))
            rows.append(row)
    return rows


def _role_scores(pred: Bool[np.ndarray, "t h w"], true: Bool[np.ndarray, "t h w"]) -> dict[str, Any]:
    j, f = metrics.region_similarity(pred, true), metrics.contour_accuracy(pred, true)
    present = true.any(axis=(1, 2))
    return {
        "J": _mean(j),
        "F": _mean(f),
        "frames": len(j),
        "present": int(present.sum()),
        "J_present": _mean(j[present]),
        "F_present": _mean(f[present]),
        "emitted": bool(pred.any()),
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _match(clip: Clip, predictions: Sequence[Prediction]) -> dict[str, Prediction]:
    """Predictions by expression id, checked against the clip."""
    expected, given = [e.id for e in clip.expressions], [p.expression_id for p in predictions]
    foreign = sorted({p.clip_id for p in predictions} - {clip.id})
    if foreign:
        raise DataError(f"clip {clip.id}: predictions for other clips {foreign}")
    if sorted(given) != sorted(expected):
        missing, unknown = sorted(set(expected) - set(given)), sorted(set(given) - set(expected))
        raise DataError(
            f"clip {clip.id}: {len(given)} predictions for {len(expected)} expressions; missing {missing}, "
            f"unknown {unknown}, doubled {sorted({i for i in given if given.count(i) > 1})}"
        )
    roles = set(predictions[0].masks) if predictions else set()
    for prediction in predictions:
        where = f"clip {clip.id}, expression {prediction.expression_id}"
        if set(prediction.masks) != roles or Role.ACTOR not in roles:
            has, others = sorted(map(str, prediction.masks)), sorted(map(str, roles))
            raise DataError(f"{where}: roles {has}, other predictions of the clip {others}; the actor is always due")
        for role, mask in prediction.masks.items():
            if mask.shape != (len(clip), *clip.size) or mask.dtype != bool:
                raise DataError(
                    f"{where}: {role} mask {mask.dtype} {mask.shape}, clip has bool {(len(clip), *clip.size)}"
                )
    return {prediction.expression_id: prediction for prediction in predictions}


def _inverses(expressions: Sequence[Expression]) -> dict[str, str]:
    """Expression id -> id of its inverse: the same objects in swapped roles.

    The i-th expression for "A on B" is paired with the i-th for "B on A", so that each is in one pair at most and
    paraphrases of one interaction, stored in the same order, meet each other.
    """
    by_roles: dict[tuple[frozenset[str], frozenset[str]], list[str]] = {}
    for expression in expressions:
        if expression.target is not None and set(expression.actor) != set(expression.target):
            key = (frozenset(expression.actor), frozenset(expression.target))
            by_roles.setdefault(key, []).append(expression.id)
    return {
        forward: backward
        for (actor, target), ids in by_roles.items()
        for forward, backward in zip(ids, by_roles.get((target, actor), ()), strict=False)
    }


@contextmanager
def write_predictions(path: str | Path) -> Iterator[Callable[[Sequence[Prediction]], None]]:
    """Yields `write(predictions of one clip)`; the file appears at the end, whole or not at all.

    Layout of the InterRVOS release, streamed clip by clip: {video: {expression id: {"prediction_masks_act": [RLE per
    frame], "prediction_masks_tar": [...]}}}. An empty mask is an RLE, an unsupported role has no key.
    """
    path, seen = Path(path), set()
    partial = path.with_name(path.name + ".partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("w", encoding="utf-8") as file:

        def write(predictions: Sequence[Prediction]) -> None:
            if not predictions:
                return
            (clip_id,) = {prediction.clip_id for prediction in predictions}
            if clip_id in seen:
                raise DataError(f"{path}: clip {clip_id} written twice")
            entry = {
                p.expression_id: {RELEASED[r]: [masks.encode(m) for m in p.masks[r]] for r in p.masks}
                for p in predictions
            }
            file.write(f"{',' if seen else '{'}\n{json.dumps(clip_id)}: {json.dumps(entry)}")
            seen.add(clip_id)

        yield write
        file.write("\n}\n" if seen else "{}\n")
    partial.replace(path)


def read_predictions(path: str | Path, clips: Iterable[Clip]) -> Iterator[list[Prediction]]:
    """Predictions of each clip, in order, from a file in the released layout: what `score` takes.

    A clip or expression that is not in the file gives no prediction, which `score` reports as missing. Keys other than
    the two masks are left alone. Raises DataError when masks differ from the clip in frames or size.
    """
    stored = json.loads(Path(path).read_text(encoding="utf-8"))
    for clip in clips:
        predictions = []
        for expression_id, entry in stored.get(clip.id, {}).items():
            where = f"{path}: clip {clip.id}, expression {expression_id}"
            found = {}
            for role, key in RELEASED.items():
                if key in entry:
                    if len(entry[key]) != len(clip):
                        raise DataError(f"{where}: {len(entry[key])} {key} for {len(clip)} frames")
                    found[role] = np.stack([masks.decode(rle, clip.size) for rle in entry[key]])
            predictions.append(Prediction(clip.id, expression_id, found))
        yield predictions
