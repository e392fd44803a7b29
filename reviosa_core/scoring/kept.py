"""Clips that are done, beside the file of predictions that will hold all: what an interrupted call goes on from."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from reviosa_core import outputs
from reviosa_core.data import jsonfile
from reviosa_core.schema import Clip, DataError, Prediction
from reviosa_core.scoring import predictions


class Kept:
    """A line a clip: the hash of all that decides what is known of it, and that, as JSON. A last line that a killed
    process left unfinished is cut off. DataError where there are other lines."""

    def __init__(self, lines: BinaryIO, path: Path, made_by: str) -> None:
        self.lines, self.path, self.made_by = lines, path, made_by
        self.places: dict[str, int] = {}
        place = 0
        for number, line in enumerate(lines, 1):
            if not re.match(rb"[0-9a-f]{64} |[0-9a-f]{0,64}\Z", line):
                raise DataError(f"{path}: line {number} is of no interrupted call; move that file away")
            if line.endswith(b"\n"):
                self.places[line[:64].decode()], place = place, place + len(line)
        lines.truncate(place)

    def __contains__(self, clip: Clip) -> bool:
        return self._origin(clip) in self.places

    def add(self, clip: Clip, text: str) -> None:
        """`text` is JSON, in one line."""
        self.places[self._origin(clip)] = self.lines.seek(0, os.SEEK_END)
        self.lines.write(f"{self._origin(clip)} {text}\n".encode())
        self.lines.flush()

    def of(self, clip: Clip) -> Any:
        self.lines.seek(self.places[self._origin(clip)])
        return jsonfile.parse(self.lines.readline()[64:].decode(), f"{self.path}: video {clip.id}")

    def _origin(self, clip: Clip) -> str:
        said = [(e.id, e.text) for e in clip.expressions]
        about = json.dumps([self.made_by, clip.id, clip.size, clip.frame_names, said])
        return hashlib.sha256(about.encode()).hexdigest()


@contextmanager
def writer(out: Path, made_by: str | None) -> Iterator[tuple[Callable[[Sequence[Prediction]], None], Kept | None]]:
    """`predictions.writer` of a file, and what is in <out>.partial, which goes when the file is there. `made_by`:
    whatever decides what is kept, beside a clip's names, size and sentences; None: nothing is."""
    if made_by is None:
        with predictions.writer(out) as write:
            yield write, None
        return
    partial = out.with_name(f"{out.name}.partial")
    with predictions.writer(out) as write, outputs.growing(partial) as lines:
        yield write, Kept(lines, partial, made_by)
    partial.unlink(missing_ok=True)
