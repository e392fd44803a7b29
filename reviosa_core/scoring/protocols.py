"""How other benchmarks count: MeViS, Ref-DAVIS17, A2D- and JHMDB-Sentences, ReVOS. Functions over rows of scores.

Rows are those of `metrics` unless a function names other columns; InterRVOS itself is `metrics.summarise`. Numbers come
out in percent, those that are means with `n` and a 95 % bootstrap interval over videos.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment

from reviosa_core.schema import DataError, Role
from reviosa_core.scoring import bitmasks, metrics

# --- MeViS, Ref-YouTube-VOS -------------------------------------------------------------------------------------------


def mevis(rows: pd.DataFrame, bootstrap: int, seed: int) -> dict[str, Any]:
    """J, F and J&F over all expressions; and, for expressions without any object, N-acc and T-acc of MeViS v2.

    N-acc: share of the expressions that refer to nothing which are answered with nothing. T-acc: share of the others
    that are answered with something. Read both: an always empty answer has N-acc 100. Each is None without such
    expressions. A video that was not predicted scores 0: evaluate with missing="zero".
    """
    own = rows[rows["role"] == Role.ACTOR]
    nothing = own["present"] == 0
    return {"J&F": metrics.summarise(own, bootstrap, seed)["RVOS"]} | {
        name: metrics.mean(part.assign(right=part["emitted"] == due), "right", bootstrap, seed) if len(part) else None
        for name, part, due in (("N-acc", own[nothing], False), ("T-acc", own[~nothing], True))
    }


# --- Ref-DAVIS17 ------------------------------------------------------------------------------------------------------

DAVIS_SETS = 4  # annotator 1 and 2, each on the first frame and on the full video: expression id modulo 4


def davis_each(rows: pd.DataFrame, bootstrap: int, seed: int) -> dict[str, Any]:
    """Every expression on its own (VISA, Sa2VA): {"J&F": all, "set 0" ...: by expression set}. Not `davis_merged`."""
    own = rows[rows["role"] == Role.ACTOR]
    parts = {"J&F": own} | {f"set {k}": part for k, part in own.groupby(own["expression"].astype(int) % DAVIS_SETS)}
    return {name: metrics.summarise(part, bootstrap, seed)["RVOS"] for name, part in parts.items()}


def davis_compose(soft: Float[np.ndarray, "n t h w"], background: float = 0.1) -> Int[np.ndarray, "t h w"]:
    """One label map from the soft masks of an expression set: 0, or object k + 1 where it is largest (ReferFormer).

    Soft masks below 0.5 count as 0; the background has a constant score.
    """
    scores = np.where(soft < 0.5, 0, soft)
    return np.where(scores.max(axis=0) > background, scores.argmax(axis=0) + 1, 0)


def davis_match(
    pred: Int[np.ndarray, "t h w"], true: Int[np.ndarray, "t h w"], void: Bool[np.ndarray, "t h w"] | None = None
) -> list[dict[str, int | float]]:
    """J and F of every true object, matched to predicted labels so that the mean J&F is highest (DAVIS unsupervised).

    Labels count from 1; 0 is background. Pixels of `void` count for nobody. A true object that no label is left for
    scores as an empty mask. A swapped pair of objects is not punished: that is the protocol's.
    """
    kept = np.ones(true.shape, dtype=bool) if void is None else ~void
    objects = [label for label in np.unique(true[kept]) if label > 0]
    guesses = [label for label in np.unique(pred[kept]) if label > 0]
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
    return [{"object": int(objects[r]), "J": float(j[r, c]), "F": float(f[r, c])} for r, c in pairs]


def davis_merged(rows: pd.DataFrame, bootstrap: int, seed: int) -> dict[str, Any]:
    """Mean of the four sets' J, F, J&F; rows have set, video, object, J, F (see `davis_match`).

    Raises DataError when the sets do not hold the same objects.
    """
    objects = {k: set(zip(part["video"], part["object"], strict=True)) for k, part in rows.groupby("set")}
    sizes = {k: len(own) for k, own in objects.items()}
    if len(objects) != DAVIS_SETS or len(set(map(frozenset, objects.values()))) != 1:
        raise DataError(f"{DAVIS_SETS} sets over the same objects are due, got {sizes}")
    table = rows.groupby(["video", "object"], as_index=False)[["J", "F"]].mean()  # equal sets: one mean of means
    both = metrics.mean(table.assign(score=table[["J", "F"]].mean(axis=1)), "score", bootstrap, seed)
    own = {name: 100 * float(table[name].mean()) for name in ("J", "F")}
    return own | {"J&F": both["value"], "n": both["n"], "interval": both["interval"]}


# --- A2D-Sentences, JHMDB-Sentences -----------------------------------------------------------------------------------


def sentences(rows: pd.DataFrame, bootstrap: int, seed: int) -> dict[str, Any]:
    """P@0.5-0.9 (IoU strictly above), overall IoU, mean IoU and mAP over 0.5:0.05:0.95.

    One row per annotated frame: video, expression, `intersection` and `union` in pixels, and `score`, the confidence of
    its only mask (without the column all are alike). mAP is COCO's, each sentence an image with one object. Raises
    DataError for a row without any pixel.
    """
    blank = rows.loc[rows["union"] <= 0]
    if len(blank):
        first = blank.iloc[0]
        raise DataError(f"{len(blank)} rows without pixels, first: {first['video']}/{first['expression']}")
    iou = (rows["intersection"] / rows["union"]).to_numpy()
    confidence = rows["score"].to_numpy() if "score" in rows else np.ones(len(rows))
    named = {f"P@{t}": iou > t for t in (0.5, 0.6, 0.7, 0.8, 0.9)} | {"mean IoU": iou}
    table = pd.DataFrame({"video": rows["video"].to_numpy(), **named})
    precisions = [_average_precision(iou >= t, confidence) for t in np.linspace(0.5, 0.95, 10)]
    return {name: metrics.mean(table, name, bootstrap, seed) for name in named} | {
        "overall IoU": 100 * float(rows["intersection"].sum() / rows["union"].sum()),
        "mAP": 100 * float(np.mean(precisions)),
    }


def _average_precision(hit: Bool[np.ndarray, " n"], confidence: Float[np.ndarray, " n"]) -> float:
    """COCO's: precision at 101 recalls, each the best at that recall or beyond; n images with one object each."""
    hits = np.cumsum(hit[np.argsort(-confidence, kind="mergesort")])
    recall, precision = hits / len(hit), hits / np.arange(1, len(hit) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
    return float(np.where(at < len(hit), precision[np.minimum(at, len(hit) - 1)], 0).mean())


# --- ReVOS ------------------------------------------------------------------------------------------------------------

REVOS_GROUPS = {0: "referring", 1: "reasoning"}


def robustness(pred: bitmasks.Masks, true: bitmasks.Masks, foreground: bitmasks.Masks) -> float:
    """R = max(1 - false-positive pixels / foreground pixels, 0), over all frames, in [0, 1].

    `foreground` is the union of all annotated objects. Masks are binary here; VISA's script takes PNG values as they
    are, so that with 0/255 files its A and R mean nothing. Raises ValueError without any foreground.
    """
    guess, truth, base = (bitmasks.pack(masks) for masks in (pred, true, foreground))
    false = sum(bitmasks.union([g, t]).area - t.area for g, t in zip(guess, truth, strict=True))
    total = sum(mask.area for mask in base)
    if total == 0:
        raise ValueError("no foreground pixel in any frame")
    return max(1 - false / total, 0.0)


def revos(rows: pd.DataFrame, bootstrap: int, seed: int) -> dict[str, Any]:
    """J, F, J&F of the groups by `type_id` (0 referring, 1 reasoning), and their mean as "overall"; R over all rows
    that have one (column `R`). Type 2 enters no J or F. Raises DataError when a group is empty."""
    own = rows[rows["role"] == Role.ACTOR]
    groups = {name: own[own["type_id"] == number] for number, name in REVOS_GROUPS.items()}
    empty = [name for name, part in groups.items() if part.empty]
    if empty:
        raise DataError(f"no expressions of type {empty}")
    scores = {name: metrics.summarise(part, bootstrap, seed)["RVOS"] for name, part in groups.items()}
    overall = {key: float(np.mean([s[key] for s in scores.values() if s])) for key in ("J", "F", "J&F")}
    with_r = own[own["R"].notna()] if "R" in own else own.iloc[:0]
    r = metrics.mean(with_r, "R", bootstrap, seed) if len(with_r) else None
    return {**scores, "overall": overall, "R": r}
