"""How fast a trained system is, and how much memory it takes: each in a process of its own, on the same clips."""

from __future__ import annotations

import re
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch

from reviosa_core.baselines.folders import open_system
from reviosa_core.data import interrvos
from reviosa_core.workers import with_parent


class Speed(NamedTuple):
    """`fps`: frames a second of processor time, a clip and one sentence at a time, on one thread; `memory`: the most
    that the process held, in MiB, all libraries and the clips included."""

    parameters: int
    fps: float
    memory: float


def measure(system: Path, clips: Path, count: int) -> Speed:
    """A trained system's, over the first `count` clips of a split in the InterRVOS format. Reads Linux's own count of
    the memory; the first clip is segmented once before."""
    with ProcessPoolExecutor(1, get_context("spawn"), with_parent) as alone:
        return alone.submit(_measure, system, clips, count).result()


def _measure(path: Path, folder: Path, count: int) -> Speed:
    torch.set_num_threads(1)
    system = open_system(path, "cpu")
    clips = [clip for clip in interrvos.read(folder) if clip.expressions][:count]
    system.segment(clips[0], clips[0].expressions[:1])
    start = time.process_time()
    for clip in clips:
        system.segment(clip, clip.expressions[:1])
    seconds = time.process_time() - start
    held = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert held, "Linux says so of every process"
    module = system if isinstance(system, torch.nn.Module) else None
    parameters = sum(p.numel() for p in module.parameters()) if module else 0
    return Speed(parameters, sum(map(len, clips)) / seconds, int(held[1]) / 1024)
