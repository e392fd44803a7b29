"""What a prediction costs by the length of the video and the number of sentences: seconds by part, and peak memory.

A process of its own a row: opening, encoding, writing all files of all sentences. `together` is one call for E
sentences, `alone` a call for each, without loading the model again.

    python benchmarks/video.py --checkpoint runs/tiny/best
    python benchmarks/video.py --checkpoint CHECKPOINT --device cuda --size 720p --frames 100 500

The video is made on the spot: squares that move over noise. What is found in it does not matter here, but how many role
tokens are written does, since each is a mask to track: the table says so.
"""

from __future__ import annotations

import argparse
import tempfile
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from clocks import SIZES, TEXTS, Clock, Squares, peak

from reviosa_core.data import video
from reviosa_core.predict import batch, jobs, result
from reviosa_core.report import tables

PARTS = ("read", "vision", "language", "decode", "track", "write", "rest")


def measure(folder: Path, checkpoint: Path, device: str, sentences: int, together: bool, pipe: Any) -> None:
    """One row, in a process of its own."""
    import torch

    from reviosa_core.weights import checkpoint as weights

    torch.set_num_threads(1)
    system = weights.load(checkpoint, device=device)
    loaded, clock, settings = peak(), Clock(device, PARTS), result.Settings(checkpoint, "benchmark")
    clock.watch(video._VideoFile, "__getitem__", "read")
    clock.watch(video._VideoFile, "__init__", "read")
    for owner, name, part in (
        (system.mllm, "see", "vision"), (system.segmenter, "see", "vision"), (system.mllm, "write", "language"),
        (system.segmenter, "answer", "decode"), (system.segmenter, "step", "track"), (result, "write", "write"),
    ):  # fmt: skip
        clock.watch(owner, name, part)
    with tempfile.TemporaryDirectory() as out, clock.of("rest"):
        todo = jobs.of_texts(folder / "video.mp4", TEXTS[:sentences], Path(out))
        calls = [todo] if together else [[job] for job in todo]
        done = [made for call in calls for made in batch.run(call, lambda: system, settings)]
    if failed := [made.problems for made in done if made.state == "failed"]:
        raise RuntimeError(failed)
    written = sum(len(made.about["written"]) for made in done if made.about)
    graphics = torch.cuda.max_memory_allocated() / 2**20 if clock.cuda else 0.0
    pipe.send({"tracks": written, "loaded": loaded, "peak": peak(), "gpu": graphics, **clock.spent})


def row(folder: Path, checkpoint: Path, device: str, count: int, sentences: int, together: bool) -> dict[str, Any]:
    spawn = get_context("spawn")
    here, there = spawn.Pipe(duplex=False)
    process = spawn.Process(target=measure, args=(folder, checkpoint, device, sentences, together, there))
    process.start()
    there.close()
    found = here.recv()
    process.join()
    total = sum(found[part] for part in PARTS)
    line = {
        "frames": count,
        "sentences": f"{sentences} {'together' if together else 'alone'}",
        "masks": found["tracks"],
    }
    line |= {part: f"{found[part]:.1f}" for part in PARTS} | {
        "seconds": f"{total:.1f}",
        "frames/s": f"{count / total:.1f}",
    }
    line |= {"loaded MiB": f"{found['loaded']:.0f}", "peak MiB": f"{found['peak']:.0f}"}
    return line | ({"peak GPU MiB": f"{found['gpu']:.0f}"} if found["gpu"] else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--size", choices=SIZES, default="480p")
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 1000], help="lengths, all with all sentences")
    parser.add_argument(
        "--sentences", type=int, nargs="+", default=[1, 3, 7], help="numbers of them, at --short frames"
    )
    parser.add_argument("--short", type=int, default=50)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    plan = [(n, e, together) for n, e in ((given.short, e) for e in given.sentences) for together in (True, False)]
    plan += [(n, max(given.sentences), True) for n in given.frames]
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for count, sentences, together in plan:
            frames = Squares(SIZES[given.size], count)
            video.write_mp4(Path(folder) / "video.mp4", (frames[t] for t in range(count)), 24.0)
            lines.append(row(Path(folder), given.checkpoint, given.device, count, sentences, together))
            print(lines[-1], flush=True)
    print(f"\n{given.size}, {given.device}\n\n{tables.markdown(lines)}")


if __name__ == "__main__":
    main()
