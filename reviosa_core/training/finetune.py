"""Phase (b): the system that the paper trains, on clips."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor, nn

from reviosa_core import config
from reviosa_core.schema import Clip, DataError
from reviosa_core.training import processes
from reviosa_core.training.loop import Log, adamw, code, fit
from reviosa_core.training.sampler import Sampler

Made = TypeVar("Made")
WORDS = (0, 1)  # after seed and micro-batch: a stream of its own, beside the sampler's (which ends in zeros)
CODE = (  # what it runs
    "data/sampling.py",
    "masks.py",
    "model",
    "schedules.py",  # defaults
    "training",
    "weights/checkpoint.py",
    "weights/folders.py",
)


def fine_tune(
    system: nn.Module,
    clips: Sequence[Clip],
    settings: config.Train,
    *,
    frames: int,
    folder: Path,
    seed: int,
    fingerprint: str = "",
    log: Log | None = None,
    label: str = "fine-tuning",
) -> None:
    """Phase (b): `fit` a system on clips; it has `collate` (given samples and a generator for what it draws itself),
    `parameter_groups` and a forward that gives losses.

    What is seen when is `sampler.Sampler`'s, and which of `settings.processes` processes sees it changes nothing but
    the time. A machine with fewer GPUs uses those it has, and accumulates the rest.
    """
    count = processes.processes(settings.processes, settings.accumulate)
    fingerprint += f" {code(*CODE)}"
    rest: dict[str, Any] = {"folder": folder, "seed": seed, "fingerprint": fingerprint, "label": label, "apart": count}
    work = partial(on_clips, system, clips, settings, frames, **rest)
    with processes.group(count, work):
        work(log=log)


def on_clips(
    system: Any,
    clips: Sequence[Clip],
    settings: config.Clips,
    frames: int,
    *,
    seed: int,
    apart: int = 1,
    **rest: Any,
) -> None:
    """`fit` a system on clips in this process, one of `apart`; `rest` is what `fit` takes.

    Clips without a sentence are left out, with a warning. DataError where that is all of them, or masks are not public.
    """
    clips = _taught(clips)
    samples = Sampler(clips, frames, settings.expressions, settings.frames, seed)

    def batch(micro: int) -> Any:
        places = range(micro * settings.clips, (micro + 1) * settings.clips)
        rng = np.random.default_rng((seed, micro, *WORDS))
        return system.collate([samples[place] for place in places], rng)

    optimizers = adamw(system.parameter_groups(settings), settings)
    with ahead(batch, apart, settings.steps * settings.accumulate) as batches:

        def losses(module: nn.Module, micro: int) -> dict[str, Tensor]:
            return module(batches(micro))

        fit(system, losses, optimizers, settings, seed=seed, **rest)


def _taught(clips: Sequence[Clip]) -> Sequence[Clip]:
    for clip in clips:
        clip.check_public()
    silent = [clip.id for clip in clips if not clip.expressions]
    if len(silent) == len(clips):
        raise DataError(f"none of {len(clips)} clips has a sentence to train on")
    if silent:
        some = ", ".join(silent[:3])
        warnings.warn(f"{len(silent)} of {len(clips)} clips have no sentence to train on: {some} ...", stacklevel=2)
    return [clip for clip in clips if clip.expressions]


@contextmanager
def ahead(make: Callable[[int], Made], apart: int, end: int) -> Iterator[Callable[[int], Made]]:
    """`make`, to be asked for numbers that are `apart`: while one is used, the next, if it is below `end`, is made in a
    thread. Decoding videos and measuring masks take as long as a GPU's step. An error comes when its number is asked
    for."""
    coming: dict[int, Future[Made]] = {}
    pool = ThreadPoolExecutor(1, "batches")

    def get(number: int) -> Made:
        made = (coming.pop(number, None) or pool.submit(make, number)).result()
        coming.clear()
        if number + apart < end:
            coming[number + apart] = pool.submit(make, number + apart)
        return made

    try:
        yield get
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # an interruption need not wait for a batch that nobody wants
