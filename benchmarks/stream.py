"""Two ways through a long video: the whole of it, then answers; and as a stream, which knows nothing of later frames.

J&F by role and frames a second of one core's own time, side by side, the same clips for all. A clip has four shapes of
one kind, and one event after the other, all of one verb, each of another pair: "the circle pushing another circle"
means another one in each event. Beside that, sentences whose object stays the same: "the red circle".

    python benchmarks/stream.py --checkpoint runs/tiny/best
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reviosa_core import config, masks
from reviosa_core.intershapes.pixels import render
from reviosa_core.intershapes.verbs import DIRECTED, VERBS
from reviosa_core.intershapes.world import SEEN, Shape
from reviosa_core.predict.stream import Streaming
from reviosa_core.predict.streamed import LONGEST, Stream
from reviosa_core.report import tables
from reviosa_core.schema import Clip, Expression, Prediction, Role, Segments
from reviosa_core.scoring import metrics
from reviosa_core.scoring.evaluate import score_clip
from reviosa_core.weights import checkpoint

EVENT, OBJECTS, SIZE = 16, 4, 128  # frames of an event, shapes, pixels
CHANGING, SAME = "changing", "same"
STANDARD = {"two_pairs": 0, "lookalikes": 0, "twins": 0, "no_interaction": 0, "mimics": 0}


def events(
    rng: np.random.Generator, verb: str, radii: np.ndarray, count: int
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Paths [n t 2] of all shapes, each event from where the last one ended, and who does it to whom."""
    t = np.linspace(0, 1, EVENT)
    while True:
        at = rng.uniform(0.2, 0.8, (OBJECTS, 2))
        paths, pairs = [], []
        for _ in range(200 * count):
            apart = np.linalg.norm(at[:, None] - at[None], axis=2)[np.triu_indices(OBJECTS, 1)]
            if not paths and apart.min() < 0.3:
                break
            a, b = (int(i) for i in rng.permutation(OBJECTS)[:2])
            if (a, b) in pairs[-1:]:
                continue
            contact = 0.92 * (radii[a] + radii[b])
            one, other = VERBS[verb].path(at[a : a + 1], at[b : b + 1], contact, t, rng.random((1, 4)))
            moved = np.repeat(at[:, None], EVENT, axis=1)
            moved[a], moved[b] = one[0], other[0]
            rest = [i for i in range(OBJECTS) if i not in (a, b)]
            near = np.linalg.norm(moved[[a, b]][:, None] - moved[rest][None], axis=3).min()
            inside = ((moved > 0.1) & (moved < 0.9)).all()
            if not inside or near < 0.1 or np.linalg.norm(at[a] - at[b]) < contact:
                continue
            paths.append(moved)
            pairs.append((a, b))
            at = moved[:, -1]
            if len(paths) == count:
                return np.concatenate(paths, axis=1), pairs


def make(seed: int, frames: int) -> Clip:
    """A clip of `frames` frames; its expressions are "changing/..." and "same/..."."""
    rng = np.random.default_rng((seed, frames))
    kind = str(rng.choice(["circle", "square", "triangle", "star", "ring"]))
    colours = rng.permutation([colour for colour, own in SEEN if own == kind])[:OBJECTS]
    radii, verb = rng.uniform(0.08, 0.11, OBJECTS), str(rng.choice(DIRECTED))
    paths, pairs = events(rng, verb, radii, frames // EVENT)
    shapes = [Shape(str(c), kind, float(r), 0.0) for c, r in zip(colours, radii, strict=True)]
    standard = config.Difficulty(objects=(OBJECTS, OBJECTS), **STANDARD)
    splits = config.Splits(train=1, val=1, dev=1, test=1, shift=1)
    data = config.Data(size=SIZE, frames=frames, difficulty=standard, splits=splits)
    pixels, labels, _ = render(rng, data, shapes, paths, False)
    tracks = {str(k): [masks.encode(m) if m.any() else None for m in labels == k + 1] for k in range(OBJECTS)}
    for part, name in enumerate(("agent", "patient")):
        tracks[name] = [tracks[str(pairs[t // EVENT][part])][t] for t in range(frames)]
    said = []
    for form, words, a_first in VERBS[verb].voices():
        roles = (("agent",), ("patient",)) if a_first else (("patient",), ("agent",))
        text = f"the {kind} {words} another {kind}"
        said.append(Expression(f"{CHANGING}/{form}{len(said)}", text, "unidirectional", *roles))
    for k in range(2):
        said.append(Expression(f"{SAME}/{k}", f"the {colours[k]} {kind}", "single", (str(k),)))
    names = tuple(f"{t:05d}" for t in range(frames))
    return Clip(f"{verb}-{seed}", pixels, names, (SIZE, SIZE), tuple(said), tracks)


def row(name: str, k: int, system: Segments, clips: Sequence[Clip]) -> dict[str, Any]:
    """One way over all clips."""
    begun, rows, questions = time.process_time(), [], 0
    made: list[tuple[Clip, list[Prediction]]] = []
    for clip in clips:
        made.append((clip, masks.segmented(system, clip, clip.expressions)))
    seconds = time.process_time() - begun
    for clip, found in made:
        rows += score_clip(clip, found)
        questions += sum(len(getattr(p, "questions", [None])) for p in found)
    table = metrics.pd.DataFrame(rows)
    table["J&F"] = 100 * metrics.j_and_f(table)
    changing = table.expression.str.startswith(CHANGING)
    frames = sum(len(clip) * len(clip.expressions) for clip in clips)
    parts = {
        "changing, actor": changing & (table.role == Role.ACTOR),
        "changing, target": changing & (table.role == Role.TARGET),
        "same, actor": ~changing & (table.role == Role.ACTOR),
    }
    line: dict[str, Any] = {"frames": len(clips[0]), "K": k, "way": name}
    line |= {title: f"{table[own]['J&F'].mean():.1f}" for title, own in parts.items()}
    line |= {"questions in 100 frames": f"{100 * questions / frames:.1f}"}
    return line | {"frames/s": f"{sum(map(len, clips)) / seconds:.1f}"}


def ways(model: Any, given: argparse.Namespace) -> list[tuple[str, Segments]]:
    still = Stream(unsure=0, jump=0, every=LONGEST)
    return [
        ("whole", model),
        ("stream", Streaming(model, Stream())),
        ("stream, window 16, every 8", Streaming(model, Stream(window=16, every=8))),
        ("stream, while the window fills and in doubt", Streaming(model, Stream(every=LONGEST))),
        ("stream, while the window fills", Streaming(model, still)),
    ][: given.ways]


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--frames", type=int, nargs="+", default=[64])
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--k", type=int, nargs="+", default=[4])
    parser.add_argument("--ways", type=int, default=5, help="how many of the ways, from the first")
    given = parser.parse_args()
    torch.set_num_threads(1)
    model, lines = checkpoint.load(given.checkpoint, device="cpu"), []
    for frames in given.frames:
        clips = [make(seed, frames) for seed in range(given.clips)]
        for k in given.k:
            model.frames = k
            for name, system in ways(model, given):
                lines.append(row(name, k, system, clips))
                print(lines[-1], flush=True)
    print(f"\n{tables.markdown(lines)}")


if __name__ == "__main__":
    main()
