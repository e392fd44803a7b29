"""Predictions to one row of scores per video, expression and role: a system's own, or anybody's from files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from tqdm import tqdm

from reviosa_core.masks import each
from reviosa_core.schema import Clip, DataError, Each, Prediction, Role, Segments
from reviosa_core.scoring import bitmasks, kept, metrics, pairing, predictions
from reviosa_core.scoring.bitmasks import BitMask
from reviosa_core.scoring.source import Extra, Source
from reviosa_core.workers import cores, mapped

OTHER = {Role.ACTOR: Role.TARGET, Role.TARGET: Role.ACTOR}
Missing = Literal["error", "zero"]
Pairs = Mapping[str, Any]  # video -> [[expression, its inverse], ...], as people write it: `pairing.named` checks it


def evaluate(
    system: Segments | Each,
    clips: Iterable[Clip],
    progress: bool = True,
    save: str | Path | None = None,
    inverses: Mapping[str, Mapping[str, str]] | None = None,
    made_by: str | None = None,
) -> pd.DataFrame:
    """Segment and score every expression of `clips`; columns as in `metrics`. Holds one clip's masks at a time.

    With `save`, also writes the predictions there in the released layout (see `predictions`). With `made_by` too, which
    says what the rows depend on (system, truth, code), an interrupted call goes on where it was (`kept`). `inverses`,
    by clip, as in `score_clip`.
    """
    rows: list[dict[str, Any]] = []
    clips = list(clips)
    with kept.writer(Path(save), made_by) if save else nullcontext((None, None)) as (write, done):
        there = {clip.id for clip in clips if done is not None and clip in done}
        coming = each(system, [clip for clip in clips if clip.id not in there])
        for clip in tqdm(clips, desc="evaluate", unit="clip", disable=not progress):
            if done is not None and clip.id in there:
                text, entry = done.of(clip)
                own, found = json.loads(text), predictions.of_entry(done.path, clip.id, entry)
            else:
                found = next(coming)
                own = score_clip(clip, found, inverse=inverses and inverses[clip.id])
                if done is not None:  # rows as a text: JSON proper has no NaN
                    done.add(clip, f"[{json.dumps(json.dumps(own))}, {predictions.entry(found)}]")
            rows += own
            if write is not None:
                write(found)
    if not rows:
        raise DataError("nothing to evaluate: no clip has an expression")
    return pd.DataFrame(rows)


def annotates_targets(clips: Iterable[Clip]) -> bool:
    """Whether the data say who is acted upon: some sentence has a target, or a caption type that says that none is due.
    Where they do not, nothing can be said of predicted targets."""
    return any(e.is_interaction or e.caption_type != "undefined" for clip in clips for e in clip.expressions)


@dataclass(frozen=True)
class Scores:
    """What a system scores on some clips. `rows`: one per (video, expression, role), as `metrics` says; the rest are
    `metrics.summarise`, `metrics.direction` and `metrics.detection_by_caption_type` of them, in percent."""

    rows: pd.DataFrame
    summary: dict[str, Any]
    direction: dict[str, Any]
    detection: dict[str, Any] | None

    def table(self) -> pd.DataFrame:
        """A line a setting, then a line a metric of direction, in percent, with 95 % intervals over videos and the
        number of expressions; what the system does not support is left out."""
        lines = {name: s | {"value": s["J&F"]} for name, s in self.summary.items() if s}
        lines |= {name: s for name, s in self.direction.items() if s}
        return pd.DataFrame.from_dict(
            {
                name: {key: s.get(key) for key in ("J", "F", "value")}
                | dict(zip(("low", "high"), s["interval"] or (None, None), strict=True))
                | {"n": s["n"]}
                for name, s in lines.items()
            },
            orient="index",
        )

    def __str__(self) -> str:
        return self.table().to_string(float_format="%.1f", na_rep="")


def score(
    predictions: str | Path | Sequence[Prediction] | Segments,
    clips: Sequence[Clip],
    *,
    targets: str | Path | None = None,
    missing: Missing = "error",
    extra: Extra = "error",
    pairs: Pairs | None = None,
    workers: int | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> Scores:
    """How good are these predictions? Actors, targets, all expressions, and whether the roles are the right way round.

    predictions  a file in the released layout, or a tree <video>/<expression>/<frame>.png of actors (with `targets`, a
                 second tree); or `Prediction`s in memory, with masks bool [t h w] or run lengths; or a system, which
                 segments the clips first
    clips        with their masks, as `read` gives them
    missing      "zero": an expression without a prediction scores 0; by default it is an error
    extra        "ignore": what a file has beyond the data is left out; by default it is an error
    pairs        by video, [expression, its inverse] ...; by default found by their objects
    workers      processes, for files; by default one a core

    Everything is in percent; intervals are 95 %, over `bootstrap` draws of whole videos. Targets are not scored where
    the data annotate none. Raises DataError naming file, video and expression for what is missing, unknown, or of
    another size.
    """
    if isinstance(predictions, str | Path):
        path = Path(predictions)
        source = Source.at(path, Path(targets) if targets else None, extra)
        rows, _ = evaluate_source(source, clips, missing=missing, pairs=pairs, workers=workers, progress=progress)
    elif targets is not None:
        raise ValueError(f"targets {targets}: goes with a tree of actors; these predictions hold both roles")
    elif isinstance(predictions, Segments):
        inverses = None if pairs is None else pairing.by_name(clips, pairs)
        rows = evaluate(predictions, clips, progress=progress, inverses=inverses)
    else:
        inverses = None if pairs is None else pairing.by_name(clips, pairs)
        unknown = sorted({p.clip_id for p in predictions} - {clip.id for clip in clips})
        if unknown:
            raise DataError(
                f"predictions for {len(unknown)} unknown videos {unknown[:5]}; {len(clips)} clips are given"
            )
        roles = tuple(role for role in Role if any(role in p.masks for p in predictions)) or (Role.ACTOR,)
        by_clip = {clip.id: [p for p in predictions if p.clip_id == clip.id] for clip in clips}
        scored = (score_clip(c, by_clip[c.id], roles, missing, inverses and inverses[c.id]) for c in clips)
        rows = pd.DataFrame([row for found in scored for row in found])
    if rows.empty:
        raise DataError("nothing to evaluate: no clip has an expression")
    if not annotates_targets(clips):
        rows = rows[rows["role"] == Role.ACTOR]
    return scores_of(rows, bootstrap, seed)


def scores_of(rows: pd.DataFrame, bootstrap: int, seed: int) -> Scores:
    """All that `metrics` says of some rows."""
    return Scores(
        rows,
        metrics.summarise(rows, bootstrap, seed),
        metrics.direction(rows, bootstrap, seed),
        metrics.detection_by_caption_type(rows, bootstrap, seed),
    )


def evaluate_source(
    source: Source,
    clips: Sequence[Clip],
    *,
    missing: Missing = "error",
    pairs: Pairs | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Score predictions from files: rows as in `metrics`, and the (video, expression) that had none.

    `pairs` names, by video, which expressions are each other's inverse; by default they are found (see `score_clip`).

    The source is read twice: first to see whether everything is there, then to score, with a few videos in memory.
    Raises DataError that lists what is missing (`missing` "zero": it scores 0 instead), for unknown videos or
    expressions, and as `score_clip` does.
    """
    by_id = {clip.id: clip for clip in clips}
    for clip in clips:
        clip.check_public()
    inverses = None if pairs is None else pairing.by_name(clips, pairs)
    size = source.file.stat().st_size if source.file and source.file.is_file() else None
    given: dict[str, set[str]] = {}
    roles: set[Role] = set()
    with tqdm(desc="check", total=size, unit="B", unit_scale=True, disable=not progress) as bar:
        for video, found in source.read(clips, bar):
            if video not in by_id:
                raise DataError(f"{source}: unknown video {video!r}; the data has {len(by_id)} others")
            unknown = sorted({p.expression_id for p in found} - {e.id for e in by_id[video].expressions})
            if unknown:
                raise DataError(f"{source}: video {video} has no expressions {unknown[:5]} ({len(unknown)} unknown)")
            given[video] = {p.expression_id for p in found}
            roles.update(role for p in found for role in p.masks)
    absent = [(c.id, e.id) for c in clips for e in c.expressions if e.id not in given.get(c.id, ())]
    if absent and missing == "error":
        first = ", ".join(f"{video}/{expression}" for video, expression in absent[:10])
        total = sum(len(c.expressions) for c in clips)
        raise DataError(
            f"{source}: no prediction for {len(absent)} of {total} expressions: {first}"
            f"{' ...' if len(absent) > 10 else ''}; --allow-missing zero scores them 0"
        )

    rows: list[dict[str, Any]] = []
    order = tuple(role for role in Role if role in roles) or (Role.ACTOR,)
    tasks = (
        (by_id[video], found, order, missing, inverses and inverses[video])
        for video, found in _with_absent(source.read(clips), by_id, given)
    )
    count, total = workers or cores(), sum(len(clip.expressions) for clip in clips)
    scored = mapped(count, score_clip, tasks) if count > 1 else (score_clip(*task) for task in tasks)
    with closing(scored), tqdm(desc="score", total=total, unit="expr", disable=not progress) as bar:
        for own in scored:
            rows += own
            bar.update(sum(row["role"] == Role.ACTOR for row in own))
    if not rows:
        raise DataError("nothing to evaluate: no clip has an expression")
    return pd.DataFrame(rows).sort_values(["video", "expression", "role"], ignore_index=True), absent


def _with_absent(
    found: Iterator[tuple[str, list[Prediction]]], by_id: Mapping[str, Clip], given: Mapping[str, set[str]]
) -> Iterator[tuple[str, list[Prediction]]]:
    """What was found, then the videos without anything."""
    yield from found
    yield from ((video, []) for video in by_id if video not in given)


def score_clip(
    clip: Clip,
    found: Sequence[Prediction],
    roles: Sequence[Role] | None = None,
    missing: Missing = "error",
    inverse: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """One row per expression of the clip and role of the system (columns: see `metrics`).

    `inverse` gives the expression with swapped roles, where there is one; by default the one about the same objects.

    A target row is made for every expression once the system supports the role (`roles`; by default those of its
    predictions): without an interaction its truth is empty, and the row counts for interaction detection only. A
    missing prediction is an error, or scores 0 everywhere (`missing` "zero", as MeViS does). Raises DataError, naming
    ids and both numbers, when an expression has no prediction or two, a prediction fits no expression, roles differ
    between predictions, or masks differ from the clip in frames or size.
    """
    clip.check_public()
    by_id = _match(clip, found, roles, missing)
    roles = roles or tuple(found[0].masks if found else ())
    inverse = pairing.by_objects(clip.expressions) if inverse is None else inverse

    @cache
    def single(key: str) -> Sequence[BitMask]:
        return _pack(clip.masks[key], clip, f"mask {key}")

    @cache
    def true(keys: tuple[str, ...]) -> Sequence[BitMask]:
        if not keys:
            return [BitMask.of(None, clip.size)] * len(clip)
        return [bitmasks.union(parts) for parts in zip(*map(single, keys), strict=True)]

    @cache
    def pred(id: str, role: Role) -> Sequence[BitMask]:
        return _pack(by_id[id].masks[role], clip, f"expression {id}, {role}")

    rows = []
    for expression in clip.expressions:
        truth = {
            Role.ACTOR: true(tuple(sorted(expression.actor))),
            Role.TARGET: true(tuple(sorted(expression.target or ()))),
        }
        here = expression.id in by_id
        shared: dict[str, Any] = {
            "video": clip.id,
            "expression": expression.id,
            "caption_type": expression.caption_type,
            "is_interaction": expression.is_interaction,
            "inverse": inverse.get(expression.id),
            "missing": not here,
            "overlap": np.nan,
            "overlap_true": np.nan,
        }
        if expression.is_interaction and Role.TARGET in roles:
            shared["overlap_true"] = _mean(metrics.overlap(truth[Role.ACTOR], truth[Role.TARGET]))
            both = (pred(expression.id, role) for role in (Role.ACTOR, Role.TARGET))
            shared["overlap"] = _mean(metrics.overlap(*both)) if here else 0.0
        for role in roles:
            row = shared | {"role": str(role)}
            row |= _role_scores(pred(expression.id, role) if here else None, truth[role])
            written = by_id[expression.id].written if here else frozenset()
            row["answered"] = row["emitted"] if written is None else role in written
            row["by_token"] = written is not None
            row["J_cross"] = row["J_inverse"] = np.nan
            if expression.is_interaction:
                other = truth[OTHER[role]]
                row["J_cross"] = _mean(metrics.region_similarity(pred(expression.id, role), other)) if here else 0.0
            if expression.id in inverse and OTHER[role] in roles:
                opposite = inverse[expression.id]
                row["J_inverse"] = (
                    _mean(metrics.region_similarity(pred(expression.id, role), pred(opposite, OTHER[role])))
                    if here and opposite in by_id
                    else 0.0
                )
            rows.append(row)
    return rows


def _pack(masks: Any, clip: Clip, what: str) -> Sequence[BitMask]:
    try:
        return bitmasks.pack(masks, clip.size)
    except DataError as error:
        raise DataError(f"clip {clip.id}, {what}: {error}") from None


def _role_scores(pred: Sequence[BitMask] | None, true: Sequence[BitMask]) -> dict[str, Any]:
    """Without a prediction: 0 on every frame, also where there is nothing to find."""
    present = np.array([mask.any for mask in true])
    zero = np.zeros(len(true))
    j = zero if pred is None else metrics.region_similarity(pred, true)
    f = zero if pred is None else metrics.contour_accuracy(pred, true)
    return {
        "J": _mean(j),
        "F": _mean(f),
        "frames": len(j),
        "present": int(present.sum()),
        "J_present": _mean(j[present]),
        "F_present": _mean(f[present]),
        "emitted": pred is not None and any(mask.any for mask in pred),
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _match(
    clip: Clip, found: Sequence[Prediction], roles: Sequence[Role] | None, missing: Missing
) -> dict[str, Prediction]:
    """Predictions by expression id, checked against the clip."""
    expected, given = [e.id for e in clip.expressions], [p.expression_id for p in found]
    foreign = sorted({p.clip_id for p in found} - {clip.id})
    if foreign:
        raise DataError(f"clip {clip.id}: predictions for other clips {foreign}")
    absent, unknown = sorted(set(expected) - set(given)), sorted(set(given) - set(expected))
    doubled = sorted({i for i in given if given.count(i) > 1})
    if unknown or doubled or (absent and missing == "error"):
        raise DataError(
            f"clip {clip.id}: {len(given)} predictions for {len(expected)} expressions; missing {absent}, "
            f"unknown {unknown}, doubled {doubled}"
        )
    due = set(roles or (found[0].masks if found else ()))
    for prediction in found:
        where = f"clip {clip.id}, expression {prediction.expression_id}"
        if set(prediction.masks) != due or Role.ACTOR not in due:
            has, others = sorted(map(str, prediction.masks)), sorted(map(str, due))
            raise DataError(
                f"{where}: masks of {has}, other predictions have {others}; all need the same roles, an actor among "
                "them: empty masks where there is no target"
            )
        if unmasked := sorted(map(str, (prediction.written or set()) - due)):
            raise DataError(f"{where}: tokens of {unmasked} are written, masks are of {sorted(map(str, due))} only")
        for role, mask in prediction.masks.items():
            if isinstance(mask, np.ndarray):
                if mask.shape != (len(clip), *clip.size) or mask.dtype != bool:
                    raise DataError(
                        f"{where}: {role} mask {mask.dtype} {mask.shape}, clip has bool {(len(clip), *clip.size)}"
                    )
            elif len(mask) != len(clip):
                raise DataError(f"{where}: {len(mask)} {role} masks for {len(clip)} frames")
    return {prediction.expression_id: prediction for prediction in found}
