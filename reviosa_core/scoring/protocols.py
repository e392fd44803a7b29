"""How other benchmarks count: MeViS, Ref-DAVIS17, A2D- and JHMDB-Sentences, ReVOS, Ref-SAV. Functions over rows.

Rows are those of `metrics` unless a function names other columns; InterRVOS itself is `metrics.summarise`. Numbers come
out in percent, those that are means with `n` and a 95 % interval over videos (see `intervals`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Integer, UInt8
from scipy.optimize import linear_sum_assignment

from reviosa_core.data.images import VOID
from reviosa_core.schema import DataError, Role
from reviosa_core.scoring import bitmasks, existence, intervals, metrics

# --- MeViS, Ref-YouTube-VOS -------------------------------------------------------------------------------------------


def mevis(rows: pd.DataFrame, bootstrap: int, seed: int) -> dict[str, Any]:
    """All expressions alike, as "J&F"; "N-acc" and "T-acc" (see there), of the actor, where some expressions refer to
    nothing, and then "Final", by which version 2 ranks.

    Formula: mean of the actors' J, F and J&F over all expressions; Final is the mean of J&F, N-acc and T-acc.
    Range: 0 to 100, more is better.
    Empty: an expression that refers to nothing scores 1 where nothing is drawn. A video that was not predicted scores
    0: evaluate with missing="zero".
    Elsewhere: MeViS, and its server; Ref-YouTube-VOS, whose truth only its server has.
    """
    own = rows[rows["role"] == Role.ACTOR]
    found: dict[str, Any] = {"J&F": metrics.summarise(own, bootstrap, seed)["RVOS"]}
    found |= {name: existence.score(own, metric, bootstrap, seed) for name, metric in existence.METRICS.items()}
    if found["N-acc"] and found["T-acc"] and found["J&F"]:
        parts = [found["J&F"]["J&F"], found["N-acc"]["value"], found["T-acc"]["value"]]
        found["Final"] = {"value": float(np.mean(parts)), "n": found["J&F"]["n"], "interval": None}
    return found


# --- Ref-DAVIS17 ------------------------------------------------------------------------------------------------------

DAVIS_SETS = 4  # annotator 1 and 2, each on the first frame and on the full video: expression id modulo 4


def davis_each(rows: pd.DataFrame, bootstrap: int, seed: int) -> dict[str, Any]:
    """Every expression on its own: {"J&F": all, "set 0" ...: by expression set}. Not the number of `davis_merged`.

    Formula: mean of J, F and J&F over all expressions, each against its own object.
    Range: 0 to 100, more is better.
    Empty: as in J and F.
    Elsewhere: VISA, Sa2VA. Papers give this and the merged number under one name: say which.
    """
    own = rows[rows["role"] == Role.ACTOR]
    parts = {"J&F": own} | {f"set {k}": part for k, part in own.groupby(own["expression"].astype(int) % DAVIS_SETS)}
    return {name: metrics.summarise(part, bootstrap, seed)["RVOS"] for name, part in parts.items()}


def davis_compose(
    found: Iterable[Bool[np.ndarray, "t h w"] | None], size: tuple[int, int, int]
) -> UInt8[np.ndarray, "t h w"]:
    """One label map from the masks of an expression set: 0, or k + 1 where the k-th has a pixel and none before it has;
    None has none. What ReferFormer's arg-max gives for masks that are sure of every pixel."""
    labels = np.zeros(size, np.uint8)
    for k, mask in enumerate(found):
        if mask is not None:
            labels[mask & (labels == 0)] = k + 1
    return labels


def davis_match(
    pred: Integer[np.ndarray, "t h w"],
    true: Integer[np.ndarray, "t h w"],
    void: Bool[np.ndarray, "t h w"] | None = None,
) -> list[dict[str, int | float]]:
    """J and F of every true object, matched to predicted labels so that the mean J&F is highest (DAVIS unsupervised).

    Labels count from 1; 0 is background. Pixels of `void` count for nobody. A true object that no label is left for
    scores as an empty mask. A swapped pair of objects is not punished: that is the protocol's. Raises DataError for
    labels below 0, and for 255, which marks void in DAVIS's files, on pixels that `void` does not name.
    """
    kept = np.ones(true.shape, dtype=bool) if void is None else ~void
    objects, guesses = _labels(true[kept], "true"), _labels(pred[kept], "predicted")
    guesses += [-1] * (len(objects) - len(guesses))  # no such label: empty
    truth = [bitmasks.pack((true == label) & kept) for label in objects]
    j, f = np.zeros((2, len(objects), len(guesses)))
    for column, guess in enumerate(guesses):
        masks = bitmasks.pack((pred == guess) & kept)
        for row, own in enumerate(truth):
            j[row, column] = metrics.region_similarity(masks, own).mean()
            f[row, column] = metrics.contour_accuracy(masks, own).mean()
    rows, columns = linear_sum_assignment(-(j + f))
    pairs = zip(rows, columns, strict=True)
    return [{"object": objects[r], "J": float(j[r, c]), "F": float(f[r, c])} for r, c in pairs]


def _labels(pixels: Integer[np.ndarray, " n"], whose: str) -> list[int]:
    """The objects among some pixels' labels."""
    if count := np.count_nonzero(pixels == VOID):
        raise DataError(
            f"{count} of {pixels.size} {whose} pixels have label {VOID}, which is void and no object: "
            "name them in `void`, or make them 0"
        )
    if count := np.count_nonzero(pixels < 0):
        raise DataError(f"{count} of {pixels.size} {whose} pixels have labels below 0, lowest {pixels.min()}")
    return [int(label) for label in np.unique(pixels) if label > 0]


def davis_merged(rows: pd.DataFrame, bootstrap: int, seed: int) -> dict[str, Any]:
    """An annotator's expressions of a video merged to one label map (`davis_compose`), and that compared with the true
    objects (`davis_match`), in four sets: two annotators, each on the first frame and on the full video. True objects
    are those up to the highest label of the first frame, whether or not a sentence is about them.

    Formula: mean of J, F and J&F over objects, then over the four sets.
    Range: 0 to 100, more is better. Two objects in each other's place cost nothing: labels are matched for the best
    J&F.
    Empty: a true object that no label is left for scores as an empty mask.
    Elsewhere: ReferFormer, with the evaluation of DAVIS 2017 unsupervised.

    Rows have set, video, object, J, F. Raises DataError when the sets do not hold the same objects.
    """
    objects = {k: set(zip(part["video"], part["object"], strict=True)) for k, part in rows.groupby("set")}
    sizes = {k: len(own) for k, own in objects.items()}
    if len(objects) != DAVIS_SETS or len(set(map(frozenset, objects.values()))) != 1:
        raise DataError(f"{DAVIS_SETS} sets over the same objects are due, got {sizes}")
    table = rows.groupby(["video", "object"], as_index=False)[["J", "F"]].mean()  # equal sets: one mean of means
    both = intervals.mean(table.assign(score=table[["J", "F"]].mean(axis=1)), "score", bootstrap, seed)
    own = {name: 100 * float(table[name].mean()) for name in ("J", "F")}
    return own | {"J&F": both["value"], "n": both["n"], "interval": both["interval"]}


# --- A2D-Sentences, JHMDB-Sentences -----------------------------------------------------------------------------------


def sentences(rows: pd.DataFrame, bootstrap: int, seed: int) -> dict[str, Any]:
    """P@0.5 to P@0.9, mean IoU, overall IoU and mAP (see there), of frames.

    One row per annotated frame: video, expression, `intersection` and `union` in pixels, and `score`, the confidence of
    its only mask, where the system gives one (without, mAP is None). Raises DataError for scores that some rows lack.
    """
    named = {f"P@{t}": precision_at(rows, t) for t in (0.5, 0.6, 0.7, 0.8, 0.9)} | {"mean IoU": mean_iou(rows)}
    table = rows[["video"]].assign(**named)
    precision = mean_average_precision(rows)
    return {name: intervals.mean(table, name, bootstrap, seed) for name in named} | {
        "overall IoU": 100 * overall_iou(rows),
        "mAP": None if precision is None else 100 * precision,
    }


def precision_at(rows: pd.DataFrame, threshold: float) -> pd.Series:
    """How many answers are found, where found means an IoU above K?

    Formula: share of annotated frames with `intersection / union > K`; for K = 0.5, 0.6, 0.7, 0.8, 0.9.
    Range: 0 to 100, more is better.
    Empty: 1 in a frame whose truth and prediction are both empty, as in MTTR's script.
    Elsewhere: A2D-Sentences and JHMDB-Sentences (Gavrilyuk et al., 2018).
    """
    return mean_iou(rows) > threshold


def mean_iou(rows: pd.DataFrame) -> pd.Series:
    """How much of a frame's two masks is common, every frame alike?

    Formula: mean over annotated frames of `intersection / union`.
    Range: 0 to 100, more is better.
    Empty: as for P@K.
    Elsewhere: A2D-Sentences and JHMDB-Sentences (Gavrilyuk et al., 2018).
    """
    return (rows.loc[:, "intersection"] / rows.loc[:, "union"]).where(rows["union"] > 0, 1.0)


def overall_iou(rows: pd.DataFrame) -> float:
    """How much is common of all masks together? Large objects weigh more.

    Formula: sum of all frames' intersections / sum of their unions, in pixels.
    Range: 0 to 100, more is better.
    Empty: a frame that is empty in both has no pixel to add; 100 where all are.
    Elsewhere: A2D-Sentences and JHMDB-Sentences (Gavrilyuk et al., 2018); "cumulative IoU" in RefCOCO and LISA.
    """
    common, total = (float(rows[column].to_numpy(dtype=float).sum()) for column in ("intersection", "union"))
    return common / total if total else 1.0


def mean_average_precision(rows: pd.DataFrame) -> float | None:
    """Are the answers that a system is sure of the right ones?

    Formula: area under precision against recall when answers are taken from the surest down, at 101 recalls; a sentence
    is an image with one object and one answer, right when its IoU is at least K; mean over K = 0.5, 0.55 ... 0.95.
    Answers with the same score are taken together.
    Range: 0 to 100, more is better.
    Empty: as for P@K. None where a system gives no scores, or one and the same to all answers: it is sure of none, and
    what came out would be the order of the file. P@K and the IoUs stand without it.
    Elsewhere: COCO, whose numbers these are where no two scores are equal (those it takes in the order of the file).
    A2D-Sentences and JHMDB-Sentences: published numbers of systems with several queries (ReferFormer, SOC, IFIRVOS)
    take all queries of a sentence as its answers, so that a second may be right where the surest is not; not so here.
    """
    confidence = rows["score"].to_numpy(dtype=float) if "score" in rows else np.full(len(rows), np.nan)
    if np.isnan(confidence).all() or (confidence == confidence[0]).all():
        return None
    if (unsure := ~np.isfinite(confidence)).any():
        raise DataError(f"{unsure.sum()} of {len(rows)} rows have no finite score, first: {_first(rows[unsure])}")
    iou = mean_iou(rows).to_numpy()
    return float(np.mean([_average_precision(iou >= t, confidence) for t in np.linspace(0.5, 0.95, 10)]))


def _average_precision(hit: Bool[np.ndarray, " n"], confidence: Float[np.ndarray, " n"]) -> float:
    """COCO's: precision at 101 recalls, each the best at that recall or beyond; n images with one object each."""
    order = np.argsort(-confidence)
    last = np.flatnonzero(np.diff(confidence[order], append=-np.inf))  # of those with one score
    hits = np.cumsum(hit[order])[last]
    recall, precision = hits / len(hit), hits / (last + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
    return float(np.where(at < len(last), precision[np.minimum(at, len(last) - 1)], 0).mean())


def _first(rows: pd.DataFrame) -> str:
    return f"{rows.iloc[0]['video']}/{rows.iloc[0]['expression']}"


# --- ReVOS ------------------------------------------------------------------------------------------------------------

REVOS_GROUPS, ABOUT_NOTHING = {0: "referring", 1: "reasoning"}, 2


def robustness(pred: bitmasks.Masks, true: bitmasks.Masks, foreground: bitmasks.Masks) -> float:
    """How little is drawn beside the object, above all where a sentence describes what is not there?

    Formula: `max(1 - false-positive pixels / (foreground pixels + 1e-6), 0)` of a frame, mean over frames; the
    foreground is the union of all annotated objects. By group as J and F, overall the mean of the two groups; "about
    nothing" is that of type 2.
    Range: 0 to 1 an expression, in percent in tables; more is better.
    Empty: 1 in a frame where nothing is drawn beside; 0 in one without foreground where something is.
    Elsewhere: ReVOS (VISA), whose script leaves type 2 out. It takes PNG values as they are, so that with 0/255 files
    its R means nothing; masks are binary here.

    Masks as for J.
    """
    guess, truth, base = (bitmasks.pack(masks) for masks in (pred, true, foreground))
    beside = [bitmasks.union([g, t]).area - t.area for g, t in zip(guess, truth, strict=True)]
    kept = [max(1 - drawn / (mask.area + 1e-6), 0.0) for drawn, mask in zip(beside, base, strict=True)]
    return float(np.mean(kept))


def revos(rows: pd.DataFrame, bootstrap: int, seed: int) -> dict[str, Any]:
    """Expressions by what they ask for: "referring" (`type_id` 0), "reasoning" (1), and "overall"; and "A" and "R" (see
    there).

    Formula: mean of the actors' J, F, J&F and A over the expressions of a group; overall is the mean of the two groups.
    Range: 0 to 100, more is better.
    Empty: as in J and F. Expressions of type 2, about nothing, enter R only. None for a group without expressions, and
    overall where one has none.
    Elsewhere: ReVOS (VISA), whose overall is the mean of the groups, not of the expressions.

    Rows have `type_id` and `A` besides, and `R` where it is known.
    """
    own = rows[rows["role"] == Role.ACTOR]
    groups = {name: own[own["type_id"] == number] for number, name in REVOS_GROUPS.items()}
    nothing = _mean(own[own["type_id"] == ABOUT_NOTHING], "R", bootstrap, seed)
    return _of_groups(groups, bootstrap, seed) | {
        "A": _of_groups(groups, bootstrap, seed, "A"),
        "R": _of_groups(groups, bootstrap, seed, "R") | {"about nothing": nothing},
    }


def _mean(rows: pd.DataFrame, column: str, bootstrap: int, seed: int) -> dict[str, Any] | None:
    """Of the rows where it is known; None where there is none."""
    known = rows[rows[column].notna()] if column in rows else rows.iloc[:0]
    return intervals.mean(known, column, bootstrap, seed) if len(known) else None


def _of_groups(
    groups: Mapping[str, pd.DataFrame], bootstrap: int, seed: int, column: str | None = None
) -> dict[str, dict[str, Any] | None]:
    """Each group's J, F and J&F, or mean of a `column`, and as "overall" the mean of the groups, not of the
    expressions: what VISA's and Sa2VA's scripts do. None for a group without rows, and then overall."""
    scores: dict[str, dict[str, Any] | None] = {
        name: _mean(part, column, bootstrap, seed) if column else metrics.summarise(part, bootstrap, seed)["RVOS"]
        for name, part in groups.items()
    }
    known, keys = [own for own in scores.values() if own and own["n"]], ("value",) if column else ("J", "F", "J&F")
    if len(known) < len(groups):
        return scores | {"overall": None}
    overall: dict[str, Any] = {key: float(np.mean([own[key] for own in known])) for key in keys}
    overall |= {"n": sum(own["n"] for own in known), "interval": None}
    return scores | {"overall": overall}


# --- Ref-SAV ----------------------------------------------------------------------------------------------------------

REF_SAV_GROUPS = {0: "long", 1: "short"}


def ref_sav(rows: pd.DataFrame, bootstrap: int, seed: int) -> dict[str, Any]:
    """Expressions by their length: "long" (`type_id` 0), "short" (1) and "overall"; and "A" (see there) of each.

    Formula: mean of the actors' J, F, J&F and A over the expressions of a group; overall is the mean of the two groups.
    Range: 0 to 100, more is better.
    Empty: as in J and F. None for a group without expressions, and then overall.
    Elsewhere: Ref-SAV (Sa2VA).

    Rows have `type_id` and `A` besides. Raises DataError for rows of no group.
    """
    own = rows[rows["role"] == Role.ACTOR]
    other = own[~own["type_id"].isin(REF_SAV_GROUPS)]
    if len(other):
        raise DataError(f"{len(other)} rows of no group, first: {_first(other)} with type {other.iloc[0]['type_id']}")
    groups = {name: own[own["type_id"] == number] for number, name in REF_SAV_GROUPS.items()}
    return _of_groups(groups, bootstrap, seed) | {"A": _of_groups(groups, bootstrap, seed, "A")}


def pixel_accuracy(pred: bitmasks.Masks, true: bitmasks.Masks) -> float:
    """How many pixels are called what they are, object or not?

    Formula: pixels that are in both masks or in neither, over all pixels of all frames; by group as J and F.
    Range: 0 to 1 an expression, in percent in tables; more is better. An empty answer has nearly 1: objects are small.
    Empty: 1 where both are empty in all frames.
    Elsewhere: "A" of Ref-SAV and ReVOS.
    """
    guess, truth = bitmasks.pack(pred), bitmasks.pack(true)
    both, either = intersection_and_union(guess, truth)
    return 1 - (either - both) / sum(mask.size[0] * mask.size[1] for mask in truth)


def intersection_and_union(pred: bitmasks.Masks, true: bitmasks.Masks) -> tuple[int, int]:
    """Pixels of all frames. ValueError for other numbers of frames."""
    guess, truth = bitmasks.pack(pred), bitmasks.pack(true)
    either = sum(bitmasks.union([g, t]).area for g, t in zip(guess, truth, strict=True))
    return sum(mask.area for mask in (*guess, *truth)) - either, either


# --- Long-RVOS --------------------------------------------------------------------------------------------------------


def temporal_iou(pred: bitmasks.Masks, true: bitmasks.Masks) -> float:
    """Is something drawn when the object is there, and only then?

    Formula: IoU of two sets of frames: those where the answer has a pixel, and those where the truth has.
    Range: 0 to 1 an expression, in percent in tables; more is better. Where the mask lies does not count.
    Empty: 1 where both sets are empty.
    Elsewhere: Long-RVOS.
    """
    drawn, there = (np.array([mask.any for mask in bitmasks.pack(masks)]) for masks in (pred, true))
    return float((drawn & there).sum() / either) if (either := (drawn | there).sum()) else 1.0


def volume_iou(pred: bitmasks.Masks, true: bitmasks.Masks) -> float:
    """How good are the masks where they matter? Frames that are empty in both do not raise it, as they raise J.

    Formula: mean of the frames' IoU over the frames where the answer or the truth has a pixel.
    Range: 0 to 1 an expression, in percent in tables; more is better.
    Empty: 1 where there is no such frame.
    Elsewhere: Long-RVOS.
    """
    guess, truth = bitmasks.pack(pred), bitmasks.pack(true)
    found = metrics.region_similarity(guess, truth)
    counted = [j for j, g, t in zip(found, guess, truth, strict=True) if g.any or t.any]
    return float(np.mean(counted)) if counted else 1.0


LONG = {"tIoU": temporal_iou, "vIoU": volume_iou}


METRICS: dict[str, Callable] = {
    "MeViS": mevis,
    "Ref-DAVIS17, each expression": davis_each,
    "Ref-DAVIS17, merged": davis_merged,
    "P@K": precision_at,
    "mean IoU": mean_iou,
    "overall IoU": overall_iou,
    "mAP": mean_average_precision,
    "ReVOS": revos,
    "R": robustness,
    "Ref-SAV": ref_sav,
    "A": pixel_accuracy,
    **LONG,
}
