"""mask_dict.json, {"<annotation id>": [RLE or null per frame]}, read an annotation at a time, however large the file.

The file is scanned once for where each annotation lies. Of a large one these places are kept in the cache folder
($REVIOSA_CACHE, else ~/.cache/reviosa) under the file's path, size and time of change; a scan that was cut off goes on
where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock
from tqdm import tqdm

from reviosa_core.data import jsonfile
from reviosa_core.data.lazy import Lazy
from reviosa_core.data.report import Report
from reviosa_core.schema import DataError

LARGE = 64 * 2**20  # bytes: a smaller file is scanned in less than a second
HELD = 64  # annotations held decoded: the few of one clip, asked for frame by frame


class Span(NamedTuple):
    """Where an annotation lies, and what has been seen of it.

    `size` is the (h, w) that all its masks have; None where they have none or several, or it is not a list of RLEs.
    """

    start: int  # bytes [start, stop) of the file
    stop: int
    frames: int
    size: tuple[int, int] | None


def _entry(path: Path, span: Span, changed: int, index: int) -> Any:
    return load(path, span.start, span.stop, changed)[index]


@lru_cache(maxsize=HELD)
def load(path: Path, start: int, stop: int, changed: int) -> Any:
    """The JSON value at these bytes. DataError when the file is not the one that was scanned."""
    if path.stat().st_mtime_ns != changed:
        raise DataError(f"{path}: changed while it was in use")
    with path.open("rb") as file:
        file.seek(start)
        return json.loads(file.read(stop - start))


def track(
    path: Path, spans: Mapping[str, Span], key: str, frames: int, size: tuple[int, int] | None, video: str
) -> Lazy:
    """The masks of one annotation, one a frame and all of the frames' size (None: not known). DataError."""
    where = f"{path}: mask {key} of video {video!r}"
    if key not in spans:
        raise DataError(f"{where}: no key {key!r}")
    span, changed = spans[key], path.stat().st_mtime_ns
    if span.size is None:
        _check(load(path, span.start, span.stop, changed), size, where)
    elif size is not None and span.size != size:
        raise DataError(f"{where}: its masks have size {span.size}, the frames have {size}")
    if span.frames != frames:
        raise DataError(f"{where}: {span.frames} masks for {frames} frames")
    return Lazy(frames, partial(_entry, path, span, changed))


def _check(value: Any, size: tuple[int, int] | None, where: str) -> None:
    if not isinstance(value, list):
        raise DataError(f"{where}: {type(value).__name__}, not a list")
    for i, rle in enumerate(value):
        if rle is None:
            continue
        if rle_size(rle) is None:
            raise DataError(f"{where}: entry {i} is neither null nor an RLE with size and counts")
        if size is not None and rle_size(rle) != size:
            raise DataError(f"{where}: entry {i} has size {rle_size(rle)}, the frames have {size}")


def rle_size(rle: Any) -> tuple[int, int] | None:
    """The (h, w) that an RLE states; None of what is not one."""
    if not isinstance(rle, dict) or not {"size", "counts"} <= rle.keys():
        return None
    size = rle["size"]
    whole = isinstance(size, list) and [type(side) for side in size] == [int, int]
    return (size[0], size[1]) if whole else None


def scan(path: Path, report: Report | None = None) -> dict[str, Span]:
    """Where each annotation lies. Doubled ids go to `report`, the first of two is kept; DataError on bad JSON."""
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{path}: {error}") from None
    if stat.st_size < LARGE:
        places = list(_places(path, 0))
    else:
        index = _index_path(path, stat)
        index.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{index}.lock"):  # a second process waits for the first one's scan
            if not index.exists():
                _write_index(path, index, stat.st_size)
        places = _read_index(index)
    spans: dict[str, Span] = {}
    for key, span in places:
        if key in spans:
            (report or Report()).problem(DataError(f"{path}: duplicate key {key!r}"))
        spans.setdefault(key, span)
    return spans


def _places(path: Path, after: int, bar: tqdm | None = None) -> Iterator[tuple[str, Span]]:
    """(key, Span) of each annotation behind byte `after`. Ids and RLEs are ASCII, so characters are bytes."""
    for key, value, start, stop in jsonfile.members(path, bar.update if bar else None, "ascii", after):
        whole = isinstance(value, list)
        sizes = {rle_size(rle) for rle in value if rle is not None} if whole else set()
        yield key, Span(start, stop, len(value) if whole else 0, sizes.pop() if len(sizes) == 1 else None)


def _index_path(path: Path, stat: os.stat_result) -> Path:
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reviosa"
    folder = Path(os.environ.get("REVIOSA_CACHE") or default)
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    return folder / f"{name}-{stat.st_size}-{stat.st_mtime_ns}.index"


def _write_index(path: Path, index: Path, size: int) -> None:
    """A line an annotation, behind those that a cut-off scan left."""
    unfinished = index.with_suffix(".partial")
    lines = unfinished.read_bytes() if unfinished.exists() else b""
    whole = lines[: lines.rfind(b"\n") + 1]  # the last line may be cut
    unfinished.write_bytes(whole)
    after = json.loads(whole.splitlines()[-1])[2] if whole else 0
    with (
        unfinished.open("a") as file,
        tqdm(desc=f"index {path.name}", total=size, initial=after, unit="B", unit_scale=True) as bar,
    ):
        for key, span in _places(path, after, bar):
            file.write(json.dumps([key, *span]) + "\n")
    unfinished.replace(index)


def _read_index(index: Path) -> Iterator[tuple[str, Span]]:
    with index.open() as file:
        for key, start, stop, frames, size in map(json.loads, file):
            yield key, Span(start, stop, frames, size and (size[0], size[1]))
