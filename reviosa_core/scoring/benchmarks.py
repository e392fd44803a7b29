"""Each data set's own numbers, by its format: what its benchmark prints, over predictions that are scored already.

Rows of `metrics` come in; what a protocol needs beside J and F is measured here, in one more pass over the predictions,
a video at a time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reviosa_core import masks
from reviosa_core.data import formats, ref_sav, revos
from reviosa_core.data.ref_davis import NOBODY
from reviosa_core.schema import Clip, DataError, Expression, Prediction, Role
from reviosa_core.scoring import bitmasks, intervals, protocols
from reviosa_core.scoring.bitmasks import BitMask
from reviosa_core.scoring.protocols import intersection_and_union, robustness
from reviosa_core.scoring.source import Source

Lines = dict[str, dict[str, Any] | None]  # name -> {"value", "n", "interval"} in percent; None where it is not known
Masks = Sequence[BitMask]


@dataclass(frozen=True)
class Scored:
    """Predictions of a split with their rows. `missing` predictions score 0."""

    root: Path
    found: formats.Found  # with one split
    clips: Sequence[Clip]
    source: Source
    rows: pd.DataFrame
    bootstrap: int
    seed: int

    @property
    def actors(self) -> pd.DataFrame:
        return self.rows.loc[self.rows["role"] == Role.ACTOR]

    def each(self) -> Iterator[tuple[Clip, Expression, Prediction | None, Masks | None, Masks]]:
        """Every expression with its prediction, and the packed masks of both actors; None where that is missing."""
        clips, seen = {clip.id: clip for clip in self.clips}, set()
        for video, predictions in chain(self.source.read(self.clips), ((clip.id, []) for clip in self.clips)):
            if video in seen:
                continue
            seen.add(video)
            clip, given = clips[video], {p.expression_id: p for p in predictions}
            for e in clip.expressions:
                parts = [bitmasks.pack(clip.masks[key], clip.size) for key in e.actor]
                true = [bitmasks.union(frame) for frame in zip(*parts, strict=True)]
                own = given.get(e.id)
                yield clip, e, own, own and bitmasks.pack(own.masks[Role.ACTOR], clip.size), true

    def with_columns(self, columns: Mapping[str, Callable[[Masks, Masks], float]]) -> pd.DataFrame:
        """The actors' rows with more columns, of prediction and truth; 0 where a prediction is missing."""
        measured = [
            {"video": clip.id, "expression": e.id}
            | {name: 0.0 if pred is None else of(pred, true) for name, of in columns.items()}
            for clip, e, _, pred, true in self.each()
        ]
        return self.joined(measured)

    def joined(self, measured: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        """The actors' rows with what was measured of each."""
        return self.actors.merge(pd.DataFrame(measured), on=["video", "expression"], validate="one_to_one")


def summarise(scored: Scored, long: bool = False) -> Lines:
    """The benchmark's own numbers, in the order in which it prints them; with `long`, also tIoU and vIoU (Long-RVOS).

    Nothing for a format that has no protocol beside InterRVOS's own, unless `long`. DataError as the protocols say.
    """
    lines = OWN.get(scored.found.format, _none)(scored)
    if long:
        table = scored.with_columns(protocols.LONG)
        lines |= {name: intervals.mean(table, name, scored.bootstrap, scored.seed) for name in protocols.LONG}
    return lines


# --- one a format -----------------------------------------------------------------------------------------------------


def _mevis(scored: Scored) -> Lines:
    found = protocols.mevis(scored.rows, scored.bootstrap, scored.seed)
    return _flat({"": found.pop("J&F")}) | found


def _ref_davis(scored: Scored) -> Lines:
    """Both protocols, which papers give under one name."""
    each = protocols.davis_each(scored.rows, scored.bootstrap, scored.seed)
    merged = protocols.davis_merged(pd.DataFrame(_merged(scored)), scored.bootstrap, scored.seed)
    return _flat({"each expression": each.pop("J&F"), **{f"each expression, {k}": v for k, v in each.items()}}) | _flat(
        {"merged": merged}
    )


def _merged(scored: Scored) -> Iterator[dict[str, Any]]:
    """J and F of every object of the first frame in every expression set: of those without a sentence, too, as the
    DAVIS toolkit has it. Files hold binary masks: where two objects' overlap, the pixel is the first one's."""
    given = dict(scored.source.read(scored.clips))
    for clip in scored.clips:
        size, labels = (len(clip), *clip.size), {int(key): key for key in clip.masks if key != NOBODY}
        highest = max((label for label, key in labels.items() if clip.masks[key][0] is not None), default=0)
        truth = np.zeros(size, np.uint8)
        for label in range(1, highest + 1):
            truth[masks.union(clip, [labels[label]])] = label
        void = masks.union(clip, [NOBODY])
        drawn = {p.expression_id: p.masks[Role.ACTOR] for p in given.get(clip.id, ())}
        for number in range(protocols.DAVIS_SETS):
            answers = (
                None if found is None else masks.arrays(found, clip.size)
                for found in map(drawn.get, map(str, range(number, len(clip.expressions), protocols.DAVIS_SETS)))
            )
            for row in protocols.davis_match(protocols.davis_compose(answers, size), truth, void):
                yield {"set": number, "video": clip.id, **row}


SENTENCE = re.compile(r"v_(.+)_f_\d+")  # what A2D's and JHMDB's clips are called: a frame of a video


def _sentences(scored: Scored) -> Lines:
    """A frame an expression. mAP where predictions say how sure they are; one that is missing is the least sure."""
    measured = []
    for clip, e, given, pred, true in scored.each():
        both, either = (0, sum(mask.area for mask in true)) if pred is None else intersection_and_union(pred, true)
        row = {"video": SENTENCE.sub(r"\1", clip.id), "expression": f"{clip.id} {e.id}"}
        score = given.score if given else -math.inf
        measured.append(row | {"intersection": both, "union": either, "score": score})
    table = pd.DataFrame(measured).astype({"score": float})
    finite = sorted({score for score in table["score"] if math.isfinite(score)})
    # Where it is as sure of all of them, a missing one should not be what tells them apart.
    least = math.nextafter(finite[0], -math.inf) if len(finite) > 1 else finite[0] if finite else math.nan
    table["score"] = table["score"].replace(-np.inf, least)
    found = protocols.sentences(table, scored.bootstrap, scored.seed)
    return {name: _plain(value, len(table)) if isinstance(value, float) else value for name, value in found.items()}


def _revos(scored: Scored) -> Lines:
    groups = revos.groups(scored.root, scored.found.splits[0])
    file = scored.root / revos.FOREGROUND
    foregrounds = dict(revos.foregrounds(scored.root)) if file.is_file() else {}
    measured = []
    for clip, e, _, pred, true in scored.each():
        accuracy = 0.0 if pred is None else protocols.pixel_accuracy(pred, true)
        row = {"video": clip.id, "expression": e.id, "type_id": groups[clip.id, e.id], "A": accuracy, "R": np.nan}
        if clip.id in foregrounds:
            base = _foreground(foregrounds[clip.id], clip, file)
            row["R"] = 0.0 if pred is None else robustness(pred, true, base)
        measured.append(row)
    found = protocols.revos(scored.joined(measured), scored.bootstrap, scored.seed)
    accuracy, robust = found.pop("A"), found.pop("R")
    return _flat(found) | _named("A", accuracy) | _named("R", robust)


def _foreground(stored: Any, clip: Clip, file: Path) -> Masks:
    if len(stored) != len(clip):
        raise DataError(f"{file}: video {clip.id}: {len(stored)} masks for {len(clip)} frames")
    try:
        found = bitmasks.pack(stored, clip.size)
    except DataError as error:
        raise DataError(f"{file}: video {clip.id}: {error}") from None
    return found


def _ref_sav(scored: Scored) -> Lines:
    if scored.found.splits != ("valid",):  # training sentences are of no group
        return {}
    groups = ref_sav.groups(scored.root)
    table = scored.with_columns({"A": protocols.pixel_accuracy})
    table["type_id"] = [groups[key] for key in zip(table["video"], table["expression"], strict=True)]
    found = protocols.ref_sav(table, scored.bootstrap, scored.seed)
    accuracy = found.pop("A")
    return _flat(found) | _named("A", accuracy)


def _none(scored: Scored) -> Lines:
    return {}


OWN: dict[str, Callable[[Scored], Lines]] = {
    "mevis": _mevis,
    "ref-youtube-vos": _mevis,
    "ref-davis": _ref_davis,
    "revos": _revos,
    "ref-sav": _ref_sav,
    "a2d": _sentences,
    "jhmdb": _sentences,
}


def _flat(groups: Mapping[str, Mapping[str, Any] | None]) -> Lines:
    """{"J", "F", "J&F", "n", "interval"} of groups as a line each; the interval is that of J&F."""
    lines: Lines = {}
    for group, scores in groups.items():
        for name in ("J", "F", "J&F"):
            line = None
            if scores and scores["n"]:
                interval = scores["interval"] if name == "J&F" else None
                line = _plain(scores[name], scores["n"]) | {"interval": interval}
            lines[f"{name}, {group}" if group else name] = line
    return lines


def _named(name: str, groups: Mapping[str, dict[str, Any] | None]) -> Lines:
    return {f"{name}, {group}": line for group, line in groups.items()}


def _plain(value: float, n: int) -> dict[str, Any]:
    return {"value": value, "n": n, "interval": None}
