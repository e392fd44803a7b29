"""A whole split of a data set to one file of predictions, by several processes where there are several."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from tqdm import tqdm

from reviosa_core import masks
from reviosa_core.schema import Clip, DataError, Prediction, Segments
from reviosa_core.scoring import kept, predictions

Load = Callable[[str | None], Segments]  # of a device; with several processes it must be importable
_system: Segments | Exception | None = None  # of a process of the pool, or why it has none


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
        found = _segmented(todo, load, devices) if todo else ()
        bar = tqdm(found, "predict", len(due), unit="clip", initial=len(due) - len(todo), disable=not progress)
        for clip, own in zip(todo, bar, strict=True):
            done.add(clip, predictions.entry(own))
        for clip in due:
            put(predictions.of_entry(done.path, clip.id, done.of(clip)))
    return sum(len(clip.expressions) for clip in due)


def _segmented(clips: Sequence[Clip], load: Load, devices: Sequence[str | None]) -> Iterator[list[Prediction]]:
    if len(devices) == 1:
        system = load(devices[0])
        yield from (masks.segmented(system, clip, clip.expressions) for clip in clips)
        return
    spawn = multiprocessing.get_context("spawn")  # a GPU is not shared with a copy of this process
    free: Any = spawn.Queue()
    for device in devices:
        free.put(device)
    try:
        with ProcessPoolExecutor(len(devices), spawn, _begin, (load, free)) as pool:
            waiting: deque[Future] = deque()
            for clip in clips:
                waiting.append(pool.submit(_segment, clip))
                if len(waiting) > 2 * len(devices):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    except BrokenProcessPool:
        raise DataError(f"one of {len(devices)} processes ended too early; what it said is above") from None


def _begin(load: Load, free: Any) -> None:
    global _system
    import torch

    torch.set_num_threads(1)  # a core each
    try:
        _system = load(free.get())
    except Exception as error:  # said with the first clip: a pool only says that it is broken
        _system = error


def _segment(clip: Clip) -> list[Prediction]:
    if isinstance(_system, Exception):
        raise _system
    assert _system is not None
    return masks.segmented(_system, clip, clip.expressions)
