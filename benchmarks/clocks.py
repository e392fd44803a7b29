"""What the benchmarks measure by: seconds of each part, peak memory, and a made video."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import numpy as np

SIZES = {"240p": (240, 428), "480p": (480, 854), "720p": (720, 1280)}
TEXTS = [
    "the red square pushing the blue circle", "the blue circle being pushed by the red square",
    "the green triangle pulling the red square", "the red square chasing the green triangle",
    "the blue circle carrying the yellow square", "the yellow square being carried by the blue circle",
    "the green triangle pushing the yellow square",
]  # fmt: skip


class Squares:
    """A video: four coloured squares on their ways over a noisy ground, each frame drawn when it is asked for."""

    colours = ((200, 30, 30), (30, 60, 200), (30, 170, 60), (220, 200, 40))

    def __init__(self, size: tuple[int, int], count: int) -> None:
        rng = np.random.default_rng(0)
        self.ground, self.count = rng.integers(90, 130, (*size, 3), dtype=np.uint8), count
        self.starts, self.steps = rng.uniform(0, 1, (4, 2)), rng.uniform(0.002, 0.01, (4, 2))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> np.ndarray:
        t, frame = range(self.count)[index], self.ground.copy()
        side = frame.shape[0] // 5
        for start, step, colour in zip(self.starts, self.steps, self.colours, strict=True):
            y, x = (np.abs((start + t * step) % 2 - 1) * (np.array(frame.shape[:2]) - side)).astype(int)
            frame[y : y + side, x : x + side] = colour
        return frame


class Clock:
    """Seconds of each part, those of parts within it not counted. A GPU is waited for at each part's ends."""

    def __init__(self, device: str, parts: Sequence[str]) -> None:
        self.spent, self.open, self.cuda = dict.fromkeys(parts, 0.0), [], device.startswith("cuda")

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        self.wait()
        begun, inner = time.perf_counter(), len(self.open)
        self.open.append(0.0)
        try:
            yield
        finally:
            self.wait()
            whole = time.perf_counter() - begun
            self.spent[part] += whole - self.open.pop()
            if inner:
                self.open[-1] += whole

    def wait(self) -> None:
        if self.cuda:
            import torch

            torch.cuda.synchronize()

    def watch(self, owner: Any, name: str, part: str) -> None:
        inside: Callable[..., Any] = getattr(owner, name)

        @wraps(inside)
        def timed(*words: Any, **named: Any) -> Any:
            with self.of(part):
                return inside(*words, **named)

        setattr(owner, name, timed)


def peak() -> float:
    """MiB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
