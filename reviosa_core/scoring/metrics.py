"""Scores: J and F per frame, the InterRVOS settings, and what `roles` says of actor and target. Pure functions.

The tables these functions read have one row per (video, expression, role), as `evaluate.score_clip` makes them:

    video, expression     ids
    caption_type          schema.CaptionType
    is_interaction        the expression has a target
    role                  "actor" | "target"; a system without the target role has no target rows at all
    J, F                  mean over all frames, in [0, 1]
    frames, present       frames of the clip; those where this role's ground truth is not empty
    J_present, F_present  mean over the present frames; NaN without any
    emitted               the predicted mask has a pixel in some frame
    answered              the system says that it wrote the role's token; where it does not say, the same as emitted
    by_token              it does say (JSON and PNGs do not). A prediction that is missing has written nothing
    missing               there was no prediction, and the row scores 0 (optional)
    J_cross               J of this role's prediction with the *other* role's ground truth; NaN without a target
    overlap               mean IoU of the predicted actor with the predicted target, 0 on frames where both are empty
    overlap_true          the same for the ground truth; both are NaN without a target, or without the target role
    inverse               id of the expression it is paired with (same objects, roles swapped), or None
    J_inverse             J of this role's prediction with the other role's of the inverse expression; NaN without one

Rates and scores come out in percent, each with its number of observations `n` and a 95 % `interval` over videos (see
`intervals`). None as a whole: the system does not support the role, or the data do not annotate it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from reviosa_core.schema import DataError, Role
from reviosa_core.scoring import intervals, roles
from reviosa_core.scoring.bitmasks import BitMask, Masks, f_measure, iou, pack

Values = Float[np.ndarray, " t"]


# --- of a frame -------------------------------------------------------------------------------------------------------


def region_similarity(pred: Masks, true: Masks) -> Values:
    """How much of the two masks is common?

    Formula: `|pred and true| / |pred or true|`, pixels of a frame; mean over all frames of the clip.
    Range: 0 to 1 a frame, in percent in tables; more is better.
    Empty: 1 where both masks are empty, 0 where one is. Silence where the object is absent is so worth as much as
    finding it: J&F present leaves such frames out.
    Elsewhere: DAVIS (`db_eval_iou`), and all benchmarks of referring video segmentation after it.

    Masks of t frames come as an array [t h w], as COCO run lengths, or packed. Raises ValueError when numbers of frames
    or sizes differ; DataError when a run length cannot be read.
    """
    return _by_frame(lambda p, t: iou(p, t, both_empty=1.0), pred, true)


def contour_accuracy(pred: Masks, true: Masks) -> Values:
    """How well does the outline of one mask follow that of the other?

    Formula: `2 P R / (P + R)`, where P is the share of the predicted outline's pixels that have the true outline within
    `ceil(0.008 * diagonal of the frame)` pixels, and R the same the other way round; mean over all frames of the clip.
    Range: 0 to 1 a frame, in percent in tables; more is better.
    Empty: 1 where neither mask has an outline, 0 where one has none. A mask that fills the frame has no outline in this
    definition: against an empty mask it scores F = 1 (and J = 0).
    Elsewhere: DAVIS (`db_eval_boundary`), whose numbers these are bit for bit.

    Input as for J.
    """
    return _by_frame(f_measure, pred, true)


def overlap(a: Masks, b: Masks) -> Values:
    """How much do two objects cover each other? Role leakage is made of it, and nothing else is.

    Formula: `|a and b| / |a or b|`, pixels of a frame; mean over all frames of the clip.
    Range: 0 to 1 a frame.
    Empty: 0 where both masks are empty: two absent objects do not overlap.
    Elsewhere: the usual intersection over union; J differs from it where both are empty.

    Input as for J.
    """
    return _by_frame(lambda p, t: iou(p, t, both_empty=0.0), a, b)


def _by_frame(score: Callable[[BitMask, BitMask], float], a: Masks, b: Masks) -> Values:
    if len(a) != len(b):
        raise ValueError(f"masks of {len(a)} and {len(b)} frames")
    return np.array([score(p, t) for p, t in zip(pack(a), pack(b), strict=True)])


FRAMES = {"J": region_similarity, "F": contour_accuracy, "overlap": overlap}

# --- of an expression -------------------------------------------------------------------------------------------------


def j_and_f(rows: pd.DataFrame) -> pd.Series:
    """The headline number.

    Formula: `(J + F) / 2`; mean over the expressions of a setting.
    Range: 0 to 100, more is better.
    Empty: as in J and F. A prediction that is missing as a whole scores 0 on every frame, where it is not an error.
    Elsewhere: DAVIS, Ref-YouTube-VOS, MeViS, InterRVOS.
    """
    return (rows.loc[:, "J"] + rows.loc[:, "F"]) / 2


def j_and_f_present(rows: pd.DataFrame) -> pd.Series:
    """J&F on the frames where there is something to find: silence, which scores 1 on the others, gets 0 here.

    Formula: `(J + F) / 2`, each the mean over the frames where this role's truth is not empty; mean over expressions.
    Range: 0 to 100, more is better. What is drawn where the object is absent costs nothing here: read it beside J&F.
    Empty: an expression whose truth is empty in every frame is left out; None where no expression is left.
    Elsewhere: nowhere by this name; new here.
    """
    there = rows.loc[rows["present"] > 0]
    return (there["J_present"] + there["F_present"]) / 2


SCORES = {"J&F": j_and_f, "J&F present": j_and_f_present}

# --- of a setting: the rows it scores ---------------------------------------------------------------------------------


def interrvos_actor(rows: pd.DataFrame) -> pd.DataFrame:
    """Are the actors of interactions found?

    Formula: mean of the actors' J, F and J&F over the expressions that have a target.
    Range: 0 to 100, more is better.
    Empty: as in J and F; None without interactions.
    Elsewhere: InterRVOS-127K.
    """
    return rows.loc[(rows["role"] == Role.ACTOR) & rows["is_interaction"]]


def interrvos_target(rows: pd.DataFrame) -> pd.DataFrame | None:
    """Are the targets of interactions found?

    Formula: mean of the targets' J, F and J&F over the expressions that have a target.
    Range: 0 to 100, more is better.
    Empty: a target whose token is not written is an empty mask. None without interactions; the whole setting is None
    for a system that has no target role.
    Elsewhere: InterRVOS-127K. Its released script loses a worker process at an expression without a target and takes
    the mean over what was scored by then; here the expressions are chosen by whether they have one.
    """
    own = rows.loc[rows["role"] == Role.TARGET]
    return None if own.empty else own.loc[own["is_interaction"]]


def rvos(rows: pd.DataFrame) -> pd.DataFrame:
    """Are the objects that sentences are about found, interaction or not?

    Formula: mean of the actors' J, F and J&F over all expressions; without an interaction, the actor is what the
    sentence refers to.
    Range: 0 to 100, more is better.
    Empty: as in J and F.
    Elsewhere: InterRVOS-127K; the protocol of Ref-YouTube-VOS and MeViS on its data.
    """
    return rows.loc[rows["role"] == Role.ACTOR]


SETTINGS: dict[str, Callable[[pd.DataFrame], pd.DataFrame | None]] = {
    "InterRVOS-Actor": interrvos_actor,
    "InterRVOS-Target": interrvos_target,
    "RVOS": rvos,
}
DIRECTION = (*roles.PER_EXPRESSION, *roles.PER_PAIR, *roles.DETECTION, *roles.BY_TOKEN)


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
    """One system's rows with J and F, and those of the present frames, averaged over its runs (seeds). DataError when
    they hold different expressions."""
    keys = ["video", "expression", "role"]
    first, *others = (rows.set_index(keys) for rows in tables)
    for rows in others:
        if len(apart := first.index.symmetric_difference(rows.index)):
            raise DataError(f"runs differ in {len(apart)} of {len(first)} rows, first {apart[0]}")
    scores = pd.concat([first, *others])[["J", "F", "J_present", "F_present"]].groupby(keys, sort=False).mean()
    return first.assign(**scores).reset_index()


def paired_difference(
    rows_a: pd.DataFrame, rows_b: pd.DataFrame, setting: str, bootstrap: int, seed: int
) -> dict[str, Any] | None:
    """J&F of a minus J&F of b on the same expressions, in points: {"value", "n", "interval"}.

    None if either system lacks the role. Raises DataError when the two tables do not hold the same expressions.
    """
    if (apart := _paired(rows_a, rows_b, setting)) is None:
        return None
    return intervals.mean(apart.reset_index(name="difference"), "difference", bootstrap, seed, least=-1.0)


def paired_over_runs(
    runs_a: Sequence[pd.DataFrame], runs_b: Sequence[pd.DataFrame], setting: str, bootstrap: int, seed: int
) -> dict[str, Any] | None:
    """J&F of a minus J&F of b, in points, in the mean of runs that are paired by seed: `intervals.over_runs`.

    None if either system lacks the role. Raises DataError when two tables do not hold the same expressions.
    """
    apart = [_paired(a, b, setting) for a, b in zip(runs_a, runs_b, strict=True)]
    if any(run is None for run in apart):
        return None
    table = pd.concat(apart, axis=1, keys=range(len(apart)))
    if table.isna().to_numpy().any():
        raise DataError(f"{setting}: runs differ in {table.isna().any(axis=1).sum()} of {len(table)} expressions")
    over = table.to_numpy().T
    return intervals.over_runs(
        table.index.get_level_values("video").to_numpy(), over, np.ones_like(over), bootstrap, seed
    )


def differences(
    runs: Mapping[str, Sequence[pd.DataFrame]], bootstrap: int, seed: int
) -> dict[str, dict[str, dict[str, dict[str, Any] | None]]]:
    """`paired_over_runs` of each system against each before it, in every setting: {system: {other: {setting: ...}}}."""
    return {
        name: {
            other: {s: paired_over_runs(own, runs[other], s, bootstrap, seed) for s in SETTINGS}
            for other in list(runs)[:place]
        }
        for place, (name, own) in enumerate(runs.items())
    }


def difference_by_subset(
    runs_a: Sequence[pd.DataFrame],
    runs_b: Sequence[pd.DataFrame],
    columns: Sequence[str],
    setting: str,
    bootstrap: int,
    seed: int,
) -> dict[str, dict[str, dict[str, Any] | None]]:
    """`paired_over_runs` on every value of some columns, which all tables have: {column: {value: difference}}."""

    def part(runs: Sequence[pd.DataFrame], column: str, value: Any) -> list[pd.DataFrame]:
        return [rows.loc[rows[column] == value] for rows in runs]

    return {
        column: {
            str(value): paired_over_runs(
                part(runs_a, column, value), part(runs_b, column, value), setting, bootstrap, seed
            )
            for value in sorted(runs_a[0][column].dropna().unique())
        }
        for column in columns
    }


def direction(rows: pd.DataFrame, bootstrap: int, seed: int) -> dict[str, Any]:
    """Does the system tell actor from target? {name in DIRECTION: {"value", "n", "interval"}} in percent; see `roles`.

    Every metric is None for a system without the target role, and those by token where some row does not know its
    tokens. For a subset pass part of the rows, e.g.
    `direction(rows[rows.video.isin(lookalikes)], ...)`; a pair counts when both its expressions are there.
    """
    _check(rows)
    if not _has_target(rows):
        return dict.fromkeys(DIRECTION)
    both, detected = roles.both_roles(rows), roles.detected(rows)
    forward, inverse = roles.pairs(both)
    found = {}
    for name, metric in roles.PER_EXPRESSION.items():
        least = roles.LEAST.get(name, 0.0)
        found[name] = intervals.mean(both.assign(**{name: metric(both)}), name, bootstrap, seed, least)
    for name, metric in roles.PER_PAIR.items():
        found[name] = intervals.mean(forward.assign(**{name: metric(forward, inverse)}), name, bootstrap, seed)
    for name, metric in roles.DETECTION.items():
        found[name] = _ratio(detected, *metric(detected["emitted"], detected["due"]), bootstrap, seed)
    for name, metric in roles.BY_TOKEN.items():
        by_token = _ratio(detected, *metric(detected["answered"], detected["due"]), bootstrap, seed)
        found[name] = by_token if _knows_tokens(detected) else None
    return found


def detection_by_caption_type(rows: pd.DataFrame, bootstrap: int, seed: int) -> dict[str, dict[str, Any]] | None:
    """Where a target is drawn, and where it is written: {caption type: {"emitted", "precision", "recall", "F1", "n",
    "interval", "by token"}}; "by token" has the same of the written ones ("answered" for "emitted"), or is None.

    In percent, None where undefined: a type without interactions has no recall, and its `emitted` (whose interval is
    given) is the false alarm rate. None as a whole for a system without the target role.
    """
    _check(rows)
    if not _has_target(rows):
        return None
    return {
        str(caption_type): _detection(part, "emitted", bootstrap, seed)
        | {"by token": _detection(part, "answered", bootstrap, seed) if _knows_tokens(part) else None}
        for caption_type, part in roles.detected(rows).groupby("caption_type")
    }


def _knows_tokens(rows: pd.DataFrame) -> bool:
    return bool(rows["by_token"].to_numpy().all())


def _detection(part: pd.DataFrame, column: str, bootstrap: int, seed: int) -> dict[str, Any]:
    due, rate = part["due"], intervals.mean(part, column, bootstrap, seed)
    precision, recall, f1 = (_ratio(part, *m(part[column], due), 0, seed)["value"] for m in roles.DETECTION.values())
    return {
        column: rate["value"],
        "precision": precision,
        "recall": recall,
        "F1": f1 if due.to_numpy().any() else None,
        "n": rate["n"],
        "interval": rate["interval"],
    }


def _ratio(table: pd.DataFrame, over: pd.Series, under: pd.Series, bootstrap: int, seed: int) -> dict[str, Any]:
    numbers = (part.to_numpy(dtype=float) for part in (over, under))
    return intervals.ratio(table["video"].to_numpy(), *numbers, bootstrap, seed)


def _paired(rows_a: pd.DataFrame, rows_b: pd.DataFrame, setting: str) -> pd.Series | None:
    """J&F of a minus J&F of b by (video, expression); None if either system lacks the role."""
    scores = []
    for rows in (rows_a, rows_b):
        _check(rows)
        chosen = _select(rows, setting)
        if chosen is None:
            return None
        scores.append(j_and_f(chosen.set_index(["video", "expression"])))
    a, b = scores
    only_a, only_b = a.index.difference(b.index), b.index.difference(a.index)
    if len(only_a) or len(only_b):
        raise DataError(f"{setting}: {len(only_a)} expressions only in a, {len(only_b)} only in b")
    return a - b


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


def _select(rows: pd.DataFrame, setting: str) -> pd.DataFrame | None:
    """The rows a setting scores; None when the system does not support its role."""
    if setting not in SETTINGS:
        raise ValueError(f"setting {setting!r}, not one of {tuple(SETTINGS)}")
    return SETTINGS[setting](rows)


def _score(rows: pd.DataFrame, setting: str, bootstrap: int, seed: int) -> dict[str, Any] | None:
    chosen = _select(rows, setting)
    if chosen is None:
        return None
    scores = {"J": chosen["J"], "F": chosen["F"]} | {name: score(chosen) for name, score in SCORES.items()}
    interval = intervals.mean(chosen.assign(score=scores["J&F"]), "score", bootstrap, seed)["interval"]
    return {name: 100 * float(score.mean()) if len(score) else None for name, score in scores.items()} | {
        "n": len(chosen),
        "interval": interval,
    }
