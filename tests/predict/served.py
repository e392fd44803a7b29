"""The page of the demo with a system that stands in, served from a process of its own: python served.py FOLDER VIDEO.

Says where it is; what the system was asked goes to FOLDER/asked.json. Gradio leaves loops and sockets behind.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from standing import Standing, T

from reviosa_core.schema import Clip, Expression, Prediction


class Noting(Standing):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def run_lengths(self, clip: Clip, expressions: Sequence[Expression] | None = None) -> list[Prediction]:
        try:
            return super().run_lengths(clip, expressions)
        finally:
            self.path.write_text(json.dumps(self.asked))


if __name__ == "__main__":
    folder, video = map(Path, sys.argv[1:])
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "work" / "uploads")
    from reviosa_core.predict import demo

    limits = demo.Limits(frames=2 * T, sentences=2, letters=40)
    settings = demo.Settings(folder / "weights", "hash")
    samples = [demo.Sample(video, ("a dog",))]
    page = demo.page(Noting(folder / "asked.json"), settings, folder / "work", samples, limits)
    print(demo.launch(page, "127.0.0.1", None, limits), flush=True)
    sys.stdin.read()
