"""Scores: J and F per frame, the InterRVOS settings, and whether the roles point the right way. Pure functions.

The tables these functions read have one row per (video, expression, role), as `evaluate.score_clip` makes them:

    video, expression     ids
    caption_type          schema.CaptionType
    is_interaction        the expression has a target
    role                  "actor" | "target"; a system without the target role has no target rows at all
    J, F                  mean over all frames, in [0, 1]
    frames, present       frames of the clip; those where this role's ground truth is not empty
    J_present, F_present  mean over the present frames; NaN without any
    emitted               the predicted mask is not empty in some frame
    missing               there was no prediction, and the row scores 0 (optional)
    J_cross               J of this role's prediction with the *other* role's ground truth; NaN without a target
    overlap               mean IoU of the predicted actor with the predicted target, 0 on frames where both are empty
    overlap_true          the same for the ground truth; both are NaN without a target, or without the target role
    inverse               id of the expression it is paired with (same objects, roles swapped), or None
    J_inverse             J of this role's prediction with the other role's of the inverse expression; NaN without one

Rates and scores come out in percent, each with its number of observations `n` and a 95 % bootstrap `interval` over
videos (None for fewer than two videos or no resamples). None as a whole: the system does not support the role.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from reviosa_core.schema import DataError, Role
from reviosa_core.scoring.bitmasks import BitMask, Masks, f_measure, iou, pack

Values = Float[np.ndarray, " t"]


def region_similarity(pred: Masks, true: Masks) -> Values:
    """J per frame: intersection over union, 1 where both masks are empty (DAVIS `db_eval_iou`).

    Masks of t frames as an array [t h w], as COCO run lengths, or packed. Raises ValueError when numbers of frames or
    sizes differ; DataError when a run length cannot be read.
    """
    return _by_frame(lambda p, t: iou(p, t, both_empty=1.0), pred, true)


def contour_accuracy(pred: Masks, true: Masks) -> Values:
    """F per frame: the boundary F-measure of the DAVIS toolkit (`db_eval_boundary`), bit for bit; input as for J.

    A mask that fills the frame has no boundary in that definition: against an empty mask it scores F = 1 (and J = 0).
    """
    return _by_frame(f_measure, pred, true)


def overlap(a: Masks, b: Masks) -> Values:
    """IoU per frame, 0 where both masks are empty: two absent objects do not overlap. Input as for J."""
    return _by_frame(lambda p, t: iou(p, t, both_empty=0.0), a, b)


def _by_frame(score: Callable[[BitMask, BitMask], float], a: Masks, b: Masks) -> Values:
    if len(a) != len(b):
        raise ValueError(f"masks of {len(a)} and {len(b)} frames")
    return np.array([score(p, t) for p, t in zip(pack(a), pack(b), strict=True)])


SETTINGS = ("InterRVOS-Actor", "InterRVOS-Target", "RVOS")
_PER_EXPRESSION = ("joint J&F", "both above 0.5", "role confusion", "role leakage")
_PER_PAIR = ("strict pair accuracy", "swap consistency")
_DETECTION = {  # name: (what its denominator counts, statistic of the sums)
    "detection precision": ("emitted", lambda s: s["hit"] / s["emitted"]),
    "detection recall": ("due", lambda s: s["hit"] / s["due"]),
    "detection F1": ("either", lambda s: 2 * s["hit"] / (s["emitted"] + s["due"])),
}
DIRECTION = (*_PER_EXPRESSION, *_PER_PAIR, *_DETECTION)


def summarise(rows: pd.DataFrame, bootstrap: int, seed: int) -> dict[str, dict[str, Any] | None]:
    """The three settings: {setting: {"J", "F", "J&F", "J&F present", "n", "interval"}}.

    Mean over frames, then over expressions; `interval` is that of J&F. "J&F present" looks only at frames where the
    ground truth is not empty, since silence scores 1 on the others. InterRVOS-Target is None for a system without the
    target role; a setting without any expression has n = 0 and None for its scores. Raises DataError on rows that are
    doubled or without scores, or that have a target role for some expressions only.
    """
    _check(rows)
    return {setting: _score(rows, setting, bootstrap, seed) for setting in SETTINGS}


def mean_of_runs(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One system's rows with J and F averaged over its runs (seeds). DataError when they hold different expressions."""
    keys = ["video", "expression", "role"]
    first, *others = (rows.set_index(keys) for rows in tables)
    for rows in others:
        if len(apart := first.index.symmetric_difference(rows.index)):
            raise DataError(f"runs differ in {len(apart)} of {len(first)} rows, first {apart[0]}")
    scores = pd.concat([first, *others])[["J", "F"]].groupby(keys, sort=False).mean()
    return first.assign(J=scores["J"], F=scores["F"]).reset_index()


def paired_difference(
    rows_a: pd.DataFrame, rows_b: pd.DataFrame, setting: str, bootstrap: int, seed: int
) -> dict[str, Any] | None:
    """J&F of a minus J&F of b on the same expressions, in points: {"value", "n", "interval"}.

    None if either system lacks the role. Raises DataError when the two tables do not hold the same expressions.
    """
    scores = []
    for rows in (rows_a, rows_b):
        _check(rows)
        chosen = _select(rows, setting)
        if chosen is None:
            return None
        scores.append(_j_and_f(chosen.set_index(["video", "expression"])))
    a, b = scores
    only_a, only_b = a.index.difference(b.index), b.index.difference(a.index)
    if len(only_a) or len(only_b):
        raise DataError(f"{setting}: {len(only_a)} expressions only in a, {len(only_b)} only in b")
    return mean((a - b).reset_index(name="difference"), "difference", bootstrap, seed)


def difference_by_subset(
    rows_a: pd.DataFrame, rows_b: pd.DataFrame, columns: Sequence[str], setting: str, bootstrap: int, seed: int
) -> dict[str, dict[str, dict[str, Any] | None]]:
    """`paired_difference` on every value of some columns, which both tables have: {column: {value: difference}}."""
    return {
        column: {
            str(value): paired_difference(part, rows_b[rows_b[column] == value], setting, bootstrap, seed)
            for value, part in rows_a.groupby(column)
        }
        for column in columns
    }


def direction(rows: pd.DataFrame, bootstrap: int, seed: int) -> dict[str, Any]:
    """Does the system tell actor from target? {name in DIRECTION: {"value", "n", "interval"}} in percent.

    joint J&F              min(J&F actor, J&F target) per interaction expression
    both above 0.5         share of interaction expressions with both J&F > 0.5
    role confusion         share with J(pred actor, target) + J(pred target, actor) > J(actor) + J(target)
    role leakage           IoU(pred actor, pred target) minus the ground truth's own overlap
    strict pair accuracy   share of forward/inverse pairs with both J&F > 0.5 in both directions
    swap consistency       over the same pairs, mean J of each predicted role with the other direction's other role:
                           read it beside the accuracy, since a constant answer is consistent too
    detection ...          precision, recall and F1 of emitting a target over all expressions; n counts the emitted,
                           the interactions, and those that are either

    Every metric is None for a system without the target role. For a subset pass part of the rows, e.g.
    `direction(rows[rows.video.isin(lookalikes)], ...)`; a pair counts when both its expressions are there.
    """
    _check(rows)
    if not _has_target(rows):
        return dict.fromkeys(DIRECTION)
    both, detected = _both_roles(rows), _detected(rows)
    pairs = _pairs(both)
    videos = detected["video"].to_numpy()
    counts = {name: detected[name].to_numpy(dtype=float) for name in ("due", "emitted", "hit", "either")}
    return (
        {name: mean(both, name, bootstrap, seed) for name in _PER_EXPRESSION}
        | {name: mean(pairs, name, bootstrap, seed) for name in _PER_PAIR}
        | {
            name: _statistic(videos, counts, statistic, int(counts[counted].sum()), bootstrap, seed)
            for name, (counted, statistic) in _DETECTION.items()
        }
    )


def detection_by_caption_type(rows: pd.DataFrame, bootstrap: int, seed: int) -> dict[str, dict[str, Any]] | None:
    """Where a target is emitted: {caption type: {"emitted", "precision", "recall", "F1", "n", "interval"}}.

    In percent, None where undefined: a type without interactions has no recall, and its `emitted` (whose interval is
    given) is the false alarm rate. None as a whole for a system without the target role.
    """
    _check(rows)
    if not _has_target(rows):
        return None
    out = {}
    for caption_type, part in _detected(rows).groupby("caption_type"):
        hit, emitted, due = (np.count_nonzero(part[name]) for name in ("hit", "emitted", "due"))
        rate = mean(part, "emitted", bootstrap, seed)
        out[str(caption_type)] = {
            "emitted": rate["value"],
            "precision": 100 * hit / emitted if emitted else None,
            "recall": 100 * hit / due if due else None,
            "F1": 200 * hit / (emitted + due) if due else None,
            "n": rate["n"],
            "interval": rate["interval"],
        }
    return out


def by_subset(
    rows: pd.DataFrame, columns: Sequence[str], bootstrap: int, seed: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """`summarise` and `direction` of every value of some columns: {column: {value: {"scores", "direction"}}}.

    Rows where a column is missing belong to none of its values.
    """
    return {
        column: {
            str(value): {
                "scores": summarise(part, bootstrap, seed),
                "direction": direction(part, bootstrap, seed),
            }
            for value, part in rows.groupby(column)
        }
        for column in columns
    }


def _check(rows: pd.DataFrame) -> None:
    doubled = rows.duplicated(["video", "expression", "role"])
    if doubled.any():
        raise DataError(f"{doubled.sum()} of {len(rows)} rows are doubled, first: {_ids(rows.loc[doubled])}")
    unscored = rows[["J", "F"]].isna().to_numpy().any(axis=1)
    if unscored.any():
        raise DataError(f"{unscored.sum()} of {len(rows)} rows have no J or F, first: {_ids(rows.loc[unscored])}")
    actors, targets = ((rows["role"] == role).sum() for role in (Role.ACTOR, Role.TARGET))
    if targets not in (0, actors):
        raise DataError(f"{targets} target rows for {actors} actor rows: a system supports a role always or never")


def _has_target(rows: pd.DataFrame) -> bool:
    return Role.TARGET in set(rows["role"])


def _ids(rows: pd.DataFrame) -> dict[str, Any]:
    return rows.iloc[0][["video", "expression", "role"]].to_dict()


def _j_and_f(rows: pd.DataFrame, of: str = "") -> pd.Series:
    return (rows.loc[:, f"J{of}"] + rows.loc[:, f"F{of}"]) / 2


def _select(rows: pd.DataFrame, setting: str) -> pd.DataFrame | None:
    """The rows a setting scores; None when the system does not support its role."""
    if setting not in SETTINGS:
        raise ValueError(f"setting {setting!r}, not one of {SETTINGS}")
    of_role = rows.loc[rows["role"] == (Role.TARGET if setting == "InterRVOS-Target" else Role.ACTOR)]
    if setting == "InterRVOS-Target" and of_role.empty:
        return None
    return of_role if setting == "RVOS" else of_role.loc[of_role["is_interaction"]]


def _score(rows: pd.DataFrame, setting: str, bootstrap: int, seed: int) -> dict[str, Any] | None:
    chosen = _select(rows, setting)
    if chosen is None:
        return None
    present = chosen.loc[chosen["present"] > 0]
    scores = {"J": chosen["J"], "F": chosen["F"], "J&F": _j_and_f(chosen), "J&F present": _j_and_f(present, "_present")}
    interval = mean(chosen.assign(score=scores["J&F"]), "score", bootstrap, seed)["interval"]
    return {name: 100 * float(score.mean()) if len(score) else None for name, score in scores.items()} | {
        "n": len(chosen),
        "interval": interval,
    }


def _both_roles(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per interaction expression, with the per-expression direction metrics."""
    interactions = rows.loc[rows["is_interaction"]]
    actor, target = (
        interactions.loc[interactions["role"] == role].set_index(["video", "expression"]).sort_index()
        for role in (Role.ACTOR, Role.TARGET)
    )
    if not actor.index.equals(target.index):
        raise DataError(f"{len(actor.index.symmetric_difference(target.index))} interactions have one role's row only")
    jf_actor, jf_target = _j_and_f(actor), _j_and_f(target)
    return pd.DataFrame(
        {
            "joint J&F": np.minimum(jf_actor, jf_target),
            "both above 0.5": (jf_actor > 0.5) & (jf_target > 0.5),
            "role confusion": actor["J_cross"] + target["J_cross"] > actor["J"] + target["J"],
            "role leakage": actor["overlap"] - actor["overlap_true"],
            "swap consistency": (actor["J_inverse"] + target["J_inverse"]) / 2,
            "inverse": actor["inverse"],
        }
    ).reset_index()


def _pairs(both: pd.DataFrame) -> pd.DataFrame:
    """One row per forward/inverse pair of expressions that are both there."""
    paired = both.loc[both["inverse"].notna()]
    pairs = paired.merge(
        paired.loc[:, ["video", "expression", "both above 0.5"]],
        left_on=["video", "inverse"],
        right_on=["video", "expression"],
        suffixes=("", " of inverse"),
    )
    pairs = pairs.loc[pairs["expression"] < pairs["inverse"]]  # each pair is found from both its ends
    return pairs.assign(**{"strict pair accuracy": pairs["both above 0.5"] & pairs["both above 0.5 of inverse"]})


def _detected(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per expression: is a target due, is it emitted, both (a hit), either."""
    target = rows.loc[rows["role"] == Role.TARGET]
    due, emitted = target["is_interaction"], target["emitted"]
    return target.assign(due=due, hit=due & emitted, either=due | emitted)


def mean(table: pd.DataFrame, column: str, bootstrap: int, seed: int) -> dict[str, Any]:
    """Mean of a column in percent: {"value", "n", "interval"}. DataError when a value is undefined."""
    values = table[column].to_numpy(dtype=float)
    if np.isnan(values).any():
        raise DataError(f"{column}: {np.isnan(values).sum()} of {len(values)} values are undefined")
    terms = {"total": values, "count": np.ones(len(values))}
    return _statistic(table["video"].to_numpy(), terms, lambda s: s["total"] / s["count"], len(values), bootstrap, seed)


def _statistic(
    videos: np.ndarray,
    terms: Mapping[str, np.ndarray],
    statistic: Callable[[Mapping[str, np.ndarray]], np.ndarray],
    n: int,
    bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    """A statistic of the sums of `terms` [rows] in percent, and its 95 % interval when whole videos are drawn again.

    Expressions of one video share its objects and its difficulty, so they are not independent draws: videos are.
    """
    if n == 0:
        return {"value": None, "n": 0, "interval": None}
    codes, names = pd.factorize(videos, sort=True)  # sorted: the draws do not depend on the order of the rows
    sums = {name: np.bincount(codes, weights=term) for name, term in terms.items()}  # [videos]
    value = 100 * float(statistic({name: term.sum() for name, term in sums.items()}))
    interval = None
    if bootstrap and len(names) > 1:
        draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), bootstrap)
        with np.errstate(invalid="ignore"):  # a draw without any emitted target has no precision (0 / 0)
            values = statistic({name: draws @ term for name, term in sums.items()})
        if not np.isnan(values).all():
            interval = [100 * float(q) for q in np.nanpercentile(values, [2.5, 97.5])]
    return {"value": value, "n": n, "interval": interval}
