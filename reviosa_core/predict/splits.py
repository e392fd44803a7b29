"""A whole split of a data set to one file of predictions, by several processes where there are several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from reviosa_core.predict.several import Load, Several
from reviosa_core.schema import Clip, DataError
from reviosa_core.scoring import kept, predictions


def write(
    out: Path,
    clips: Sequence[Clip],
    load: Load,
    made_by: str,
    devices: Sequence[str | None] = (None,),
    progress: bool = True,
) -> int:
    """The released layout, in the data's order; a process a device, this one alone where there is only one. Gives the
    number of expressions. The file appears when all are there; an error of one process ends all.

    Until then each clip is kept in <out>.partial as soon as it is done. Where that is found, only clips are segmented
    that are not in it, of the same `made_by`: whatever decides the masks beside the clip.
    """
    due = [clip for clip in clips if clip.expressions]
    if not due:
        raise DataError(f"{out}: nothing to predict: no clip has an expression")
    with kept.writer(out, made_by) as (put, done):
        assert done is not None
        todo = [clip for clip in due if clip not in done]
        found = Several(load, devices).each(todo) if todo else ()
        bar = tqdm(found, "predict", len(due), unit="clip", initial=len(due) - len(todo), disable=not progress)
        for clip, own in zip(todo, bar, strict=True):
            done.add(clip, predictions.entry(own))
        for clip in due:
            put(predictions.of_entry(done.path, clip.id, done.of(clip)))
    return sum(len(clip.expressions) for clip in due)
