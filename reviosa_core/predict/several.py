"""One system in several processes, one a device: clips are shared, and come back in order."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import torch

from reviosa_core import masks
from reviosa_core.schema import Clip, DataError, Prediction, Segments
from reviosa_core.workers import mapped

Load = Callable[[str | None], Segments]  # of a device; with several processes it must be importable
_system: Segments | Exception | None = None  # of a process of the pool, or why it has none


def gpus() -> list[str | None]:
    """All of them where there are several; else whatever is loaded by itself."""
    count = torch.cuda.device_count()
    return [f"cuda:{i}" for i in range(count)] if count > 1 else [None]


def wrapped(load: Load, wrap: Callable[[Segments], Segments], device: str | None) -> Segments:
    """What is loaded, in something that asks it otherwise."""
    return wrap(load(device))


@dataclass(frozen=True)
class Several:
    """A process a device; this one alone where there is only one. It is loaded when the first clip is asked for."""

    load: Load
    devices: Sequence[str | None]

    def each(self, clips: Sequence[Clip]) -> Iterator[list[Prediction]]:
        """`masks.segmented` of all clips, in order. An error of one process ends all."""
        if len(self.devices) == 1:
            yield from masks.each(self.load(self.devices[0]), clips)
            return
        spawn = multiprocessing.get_context("spawn")  # a GPU is not shared with a copy of this process
        free: Any = spawn.Queue()
        for device in self.devices:
            free.put(device)
        try:
            yield from mapped(len(self.devices), _segment, zip(clips), _begin, (self.load, free), spawn)
        except BrokenProcessPool:
            raise DataError(f"one of {len(self.devices)} processes ended too early; what it said is above") from None


def _begin(load: Load, free: Any) -> None:
    global _system
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
