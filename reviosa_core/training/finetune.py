"""Phase (b): the system that the paper trains, on clips."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from reviosa_core import config
from reviosa_core.schema import Clip
from reviosa_core.training import processes
from reviosa_core.training.loop import Log, adamw, code, fit
from reviosa_core.training.sampler import Sampler

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
    rest: dict[str, Any] = {"folder": folder, "seed": seed, "fingerprint": fingerprint, "label": label}
    work = partial(_fine_tune, system, clips, settings, frames, **rest)
    with processes.group(count, work):
        work(log=log)


def _fine_tune(
    system: nn.Module, clips: Sequence[Clip], settings: config.Train, frames: int, *, seed: int, **rest: Any
) -> None:
    samples = Sampler(clips, frames, settings.expressions, settings.frames, seed)

    def losses(module: nn.Module, micro: int) -> dict[str, Tensor]:
        places = range(micro * settings.clips, (micro + 1) * settings.clips)
        rng = np.random.default_rng((seed, micro, *WORDS))
        return module(system.collate([samples[place] for place in places], rng))

    fit(system, losses, adamw(system.parameter_groups(settings), settings), settings, seed=seed, **rest)
