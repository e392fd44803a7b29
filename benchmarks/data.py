"""Samples a second from JPEGs and run lengths, beside what decoding those same JPEGs allows at all.

The limit is Pillow opening the same files in the same order to RGB and nothing more, in as many processes. Both are
measured in turns, on the same places of the same sampler, and every number is a median; ratios are within the run.

    python benchmarks/data.py
    python benchmarks/data.py --data data/tiny/train --out data.md

Without --data, clips are made: noise with some texture, and four objects a clip.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy import ndimage
from torch.utils.data import DataLoader, Dataset

from reviosa_core import masks
from reviosa_core.data import interrvos
from reviosa_core.schema import Clip, Expression, Sample
from reviosa_core.training.sampler import Sampler

SIZES = {"480p": (480, 854), "720p": (720, 1280)}


def made_clip(name: str, size: tuple[int, int], frames: int, seed: int) -> Clip:
    """A textured scene that drifts, with four wavy objects, and six expressions of one or two of them."""
    rng, (h, w) = np.random.default_rng(seed), size
    coarse = ndimage.zoom(rng.integers(0, 255, (h // 16 + 1, w // 16 + 1, 3)), (16, 16, 1), order=1)[:h, :w]
    scene = np.clip(coarse + rng.normal(0, 6, (h, w, 3)), 0, 255).astype(np.uint8)
    pictures = np.stack([np.roll(scene, (t, 3 * t), (0, 1)) for t in range(frames)])
    y, x = np.mgrid[:h, :w]
    rles = {}
    for k in range(4):
        wave = ndimage.zoom(rng.normal(size=(9, 12)), (h / 9, w / 12), order=3)[:h, :w]
        centre, radius = rng.uniform(0.3, 0.7, 2) * size, rng.uniform(0.1, 0.25) * h
        shape = np.hypot(y - centre[0], x - centre[1]) + 0.15 * radius * wave < radius
        rles[str(k)] = [masks.encode(np.roll(shape, (t, 3 * t), (0, 1))) for t in range(frames)]
    pairs = (("0", "1"), ("1", "0"), ("2", "3"), ("3", "2"), ("0", None), ("3", None))
    expressions = tuple(
        Expression(str(i), f"{a} with {b}", "unidirectional" if b else "single", (a,), (b,) if b else None)
        for i, (a, b) in enumerate(pairs)
    )
    return Clip(name, pictures, tuple(f"{t:05d}" for t in range(frames)), size, expressions, rles)


class Decoded(Dataset):
    """The limit: the files of a sampler's frames, opened and no more."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __getitem__(self, place: int) -> int:
        drawn = self.sampler.plan(place)
        total = 0
        for index in drawn.frames:
            with Image.open(self.sampler.clips[drawn.clip].frames.file(index)) as picture:
                total += np.asarray(picture.convert("RGB")).size
        return total


def seconds(dataset: Dataset | Sampler, places: range, workers: int) -> float:
    """Per sample, without the start of the workers: they are up when the first sample comes."""
    loader = DataLoader(dataset, batch_size=None, sampler=places, num_workers=workers, collate_fn=_tensors)
    walk = iter(loader)
    next(walk)
    start = time.perf_counter()
    count = sum(1 for _ in walk)
    return (time.perf_counter() - start) / count


def _tensors(item: Sample | int) -> object:
    """As tensors, which come from a worker through shared memory; arrays would be written to a pipe and read again."""
    if isinstance(item, int):
        return item
    return torch.from_numpy(item.frames), {role: torch.from_numpy(mask) for role, mask in item.masks.items()}


def compare(clips: list[Clip], name: str, frames: int, count: int, repeats: int, workers: list[int]) -> list[dict]:
    sampler = Sampler(clips, frames, 5, "random", 0)
    runs: dict[str, Callable[[], Dataset | Sampler]] = {
        "decode only": lambda: Decoded(sampler),
        "samples": lambda: sampler,
    }
    rows = []
    for number in workers:
        times: dict[str, list[float]] = {run: [] for run in runs}
        for _ in range(repeats):
            for run, dataset in runs.items():  # in turns: a slow moment of the machine hits both
                times[run].append(seconds(dataset(), range(count + 1), number))
        ratio = np.median(np.array(times["decode only"]) / np.array(times["samples"]))
        for run in runs:
            each = float(np.median(times[run]))
            rows.append(
                {
                    "clips": name,
                    "workers": "none" if number == 0 else str(number),
                    "": run,
                    "ms a sample": f"{1e3 * each:.1f}",
                    "frames a second": f"{frames / each:.0f}",
                    "of the limit": "100 %" if run == "decode only" else f"{100 * ratio:.0f} %",
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder in the InterRVOS-127K format")
    parser.add_argument("--frames", type=int, default=5, help="a sample")
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, help="write the result as Markdown")
    given = parser.parse_args()
    rows = []
    measured = (given.frames, given.samples, given.repeats, given.workers)
    if given.data:
        rows += compare(interrvos.read(given.data), given.data.name, *measured)
    for name, size in SIZES.items() if not given.data else ():
        with tempfile.TemporaryDirectory() as folder:
            interrvos.write(Path(folder) / "made", (made_clip(str(i), size, 12, seed=i) for i in range(4)))
            rows += compare(interrvos.read(Path(folder) / "made"), name, *measured)
    text = pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True) + "\n"
    print(text)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(f"# Loading\n\n`python {' '.join(map(str, sys.argv))}`\n\n{text}")


if __name__ == "__main__":
    main()
