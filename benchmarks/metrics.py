"""J and F from run lengths: ours beside a plain port of the definition, the DAVIS toolkit and vos-benchmark.

One process, one core, the same masks for all, taken in turns; numbers are medians over repeats, ratios are within the
run. Every other scorer is given decoded arrays as it wants them; decoding from RLE counts for all.

    python benchmarks/metrics.py
    python benchmarks/metrics.py --davis path/to/davis2017-evaluation --vos path/to/vos-benchmark --out metrics.md

The toolkits need opencv-python and scikit-image; without a path, or when they cannot be imported, they are left out,
and the table says so.
"""

from __future__ import annotations

import argparse
import importlib
import math
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from reviosa_core import masks
from reviosa_core.schema import RLE, Clip, Expression, Prediction, Role
from reviosa_core.scoring import metrics, predictions
from reviosa_core.scoring.evaluate import Source, evaluate_source

SIZES = {"480p": (480, 854), "720p": (720, 1280)}
Pair = tuple[list[RLE], list[RLE]]  # prediction and truth, a run length per frame
Scorer = Callable[[Pair, tuple[int, int]], tuple[np.ndarray, np.ndarray]]


def smooth_object(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A blob of a few per cent of the frame, its outline as wavy as that of annotated objects."""
    h, w = size
    coarse = ndimage.zoom(rng.normal(size=(9, 12)), (h / 9, w / 12), order=3)[:h, :w]
    y, x = np.mgrid[:h, :w]
    centre, radius = rng.uniform(0.3, 0.7, 2) * size, rng.uniform(0.1, 0.3) * h
    return np.hypot(y - centre[0], (x - centre[1]) / rng.uniform(0.6, 1.5)) + 0.15 * radius * coarse < radius


def make_pairs(size: tuple[int, int], objects: int, frames: int, seed: int) -> list[Pair]:
    """Objects that drift, and predictions that are some pixels off and wavier."""
    rng, pairs = np.random.default_rng(seed), []
    for _ in range(objects):
        shape, pred, true = smooth_object(rng, size), [], []
        wave = ndimage.zoom(rng.normal(size=(30, 40)), (size[0] / 30, size[1] / 40), order=1)[: size[0], : size[1]]
        distance = ndimage.distance_transform_edt(shape) - ndimage.distance_transform_edt(~shape)
        off = distance + 4 * wave > 0
        for t in range(frames):
            true.append(masks.encode(np.roll(shape, (t, 2 * t), (0, 1))))
            pred.append(masks.encode(np.roll(off, (t + 1, 2 * t - 2), (0, 1))))
        pairs.append((pred, true))
    return pairs


def ours(pair: Pair, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    pred, true = (metrics.pack(rles) for rles in pair)
    return metrics.region_similarity(pred, true), metrics.contour_accuracy(pred, true)


def plain(pair: Pair, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The definition on whole frames: neighbours differ; disk dilation by scipy."""
    radius = math.ceil(0.008 * np.linalg.norm(size))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk, scores = y**2 + x**2 <= radius**2, []

    def boundary(m: np.ndarray) -> np.ndarray:
        e, s, se = np.zeros((3, *m.shape), bool)
        e[:, :-1], s[:-1], se[:-1, :-1] = m[:, 1:], m[1:], m[1:, 1:]
        b = (m ^ e) | (m ^ s) | (m ^ se)
        b[-1], b[:, -1], b[-1, -1] = m[-1] ^ e[-1], m[:, -1] ^ s[:, -1], False
        return b

    for p, t in zip(*(masks.decode_all(rles, size) for rles in pair), strict=True):
        union = (p | t).sum()
        a, b = boundary(p), boundary(t)
        if a.any() and b.any():
            precision = (a & ndimage.binary_dilation(b, disk)).sum() / a.sum()
            recall = (b & ndimage.binary_dilation(a, disk)).sum() / b.sum()
        else:
            precision, recall = float(not a.any()), float(not b.any())
        f = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        scores.append(((p & t).sum() / union if union else 1.0, f))
    return np.array(scores)[:, 0], np.array(scores)[:, 1]


def davis(folder: Path) -> Scorer:
    sys.path.insert(0, str(folder))
    toolkit = importlib.import_module("davis2017.metrics")

    def score(pair: Pair, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        pred, true = (masks.decode_all(rles, size) for rles in pair)
        return toolkit.db_eval_iou(true, pred), toolkit.db_eval_boundary(true, pred)

    return score


def vos(folder: Path) -> Scorer:
    sys.path.insert(0, str(folder))
    evaluator = importlib.import_module("vos_benchmark.evaluator").Evaluator

    def score(pair: Pair, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        own = evaluator()
        for p, t in zip(*(masks.decode_all(rles, size) for rles in pair), strict=True):
            own.feed_frame(p.astype(np.uint8), t.astype(np.uint8))
        return np.array(own.object_iou[1]), np.array(own.boundary_f[1])

    return score


def compare(scorers: dict[str, Scorer], objects: int, frames: int, repeats: int) -> pd.DataFrame:
    rows = []
    for name, size in SIZES.items():
        pairs = make_pairs(size, objects, frames, seed=0)
        times: dict[str, list[float]] = {scorer: [] for scorer in scorers}
        found: dict[str, np.ndarray] = {}
        for _ in range(repeats):
            for scorer, score in scorers.items():  # in turns: a slow moment of the machine hits all
                start = time.perf_counter()
                found[scorer] = np.concatenate([np.concatenate(score(pair, size)) for pair in pairs])
                times[scorer].append(time.perf_counter() - start)
        for scorer in scorers:
            ratios = np.array(times[scorer]) / np.array(times["ours"])
            rows.append(
                {
                    "masks": name,
                    "scorer": scorer,
                    "ms per frame": f"{1e3 * np.median(times[scorer]) / (objects * frames):.2f}",
                    "times ours": f"{np.median(ratios):.1f}",
                    "largest difference": f"{np.abs(found[scorer] - found['ours']).max():g}",
                }
            )
    return pd.DataFrame(rows)


class Nothing:
    """Frames that nobody looks at."""

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> np.ndarray:
        raise IndexError(index)

    def __init__(self, count: int) -> None:
        self.count = count


def throughput(videos: int, frames: int, workers: int) -> str:
    """`evaluate_source` on a file at 480p, all direction metrics: rate, memory, and what the full set would take."""
    size, clips = SIZES["480p"], []
    text = [
        ("0", "a on b", ("0",), ("1",)),
        ("1", "b on a", ("1",), ("0",)),
        ("2", "a", ("0",), None),
        ("3", "b", ("1",), None),
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.json"
        with predictions.writer(path) as write:
            for v in range(videos):
                pairs = make_pairs(size, 2, frames, seed=v)
                expressions = tuple(
                    Expression(i, said, "unidirectional" if target else "single", actor, target)
                    for i, said, actor, target in text
                )
                stored = {str(k): pair[1] for k, pair in enumerate(pairs)}
                names = tuple(f"{t:05d}" for t in range(frames))
                clips.append(Clip(f"v{v}", Nothing(frames), names, size, expressions, stored))
                write(
                    [
                        Prediction(
                            f"v{v}",
                            e.id,
                            {Role.ACTOR: pairs[int(e.actor[0])][0], Role.TARGET: pairs[1 - int(e.actor[0])][0]},
                        )
                        for e in expressions
                    ]
                )
        size_mb = path.stat().st_size / 2**20
        start = time.perf_counter()
        rows, _ = evaluate_source(Source(file=path), clips, workers=workers, progress=False)
        seconds = time.perf_counter() - start
    count = videos * len(text)
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 2**20
    whole = 5048 / count * 100 / frames * seconds / 60
    return (
        f"`evaluate_source`, {workers} processes: {count} expressions of {frames} frames at 480p, both roles and all "
        f"direction metrics ({len(rows)} rows, file of {size_mb:.0f} MB) in {seconds:.1f} s: "
        f"{count * frames / seconds:.0f} expression-frames a second; peak memory of the largest process {peak:.2f} GB. "
        f"5,048 expressions of 100 frames would take {whole:.0f} minutes."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", type=Path, help="checkout of davis2017-evaluation")
    parser.add_argument("--vos", type=Path, help="checkout of vos-benchmark")
    parser.add_argument("--objects", type=int, default=8)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--videos", type=int, default=6, help="for the throughput of whole files")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write the result as Markdown")
    given = parser.parse_args()
    scorers: dict[str, Scorer] = {"ours": ours, "plain port": plain}
    lines = []
    for name, folder, load in (("DAVIS toolkit", given.davis, davis), ("vos-benchmark", given.vos, vos)):
        if folder is None:
            lines.append(f"{name}: not measured (no path given).")
            continue
        try:
            scorers[name] = load(folder)
        except ImportError as error:
            lines.append(f"{name}: not measured ({error}).")
    table = compare(scorers, given.objects, given.frames, given.repeats).to_markdown(index=False, disable_numparse=True)
    lines = [table, *lines, throughput(given.videos, 100, given.workers)]
    text = "\n\n".join(lines) + "\n"
    print(text)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(f"# Metrics\n\n`python {' '.join(map(str, sys.argv))}`\n\n{text}")


if __name__ == "__main__":
    main()
