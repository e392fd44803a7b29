"""mask_dict.json, {"<annotation id>": [RLE or null per frame]}, read an annotation at a time, however large the file.

The file is scanned once for where each annotation lies. Of a large one these places are kept in the cache folder
($REVIOSA_CACHE, else ~/.cache/reviosa) under the file's path, size and time of change; a scan that was cut off goes on
where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock
from tqdm import tqdm

from reviosa_core import masks
from reviosa_core.data import files, jsonfile
from reviosa_core.data.lazy import Lazy
from reviosa_core.data.report import Report
from reviosa_core.schema import DataError

LARGE = 64 * 2**20  # bytes: a smaller file is scanned in less than a second
HELD = 64  # annotations held decoded: the few of one clip, asked for frame by frame
BEFORE = 256  # bytes before a value that hold its name


class Span(NamedTuple):
    """Where an annotation lies, and what has been seen of it.

    `size` is the (h, w) that all its masks have; None where they have none or several, or it is not a list of RLEs.
    """

    start: int  # bytes [start, stop) of the file
    stop: int
    frames: int
    size: tuple[int, int] | None


def _entry(path: Path, key: str, span: Span, changed: int, where: str, index: int) -> Any:
    rle = load(path, key, span, changed)[index]
    if rle is not None:
        try:
            masks.run_lengths(rle, span.size)
        except DataError as error:
            raise DataError(f"{where}, entry {index}: {error}") from None
    return rle


@lru_cache(maxsize=HELD)
def load(path: Path, key: str, span: Span, changed: int) -> Any:
    """The value of annotation `key`, which lies at `span`. DataError when the file is not the one that was scanned."""
    if files.regular(path).stat().st_mtime_ns != changed:
        raise DataError(f"{path}: changed while it was in use")
    with path.open("rb") as file:
        file.seek(max(0, span.start - BEFORE))
        before, value = file.read(min(BEFORE, span.start)), file.read(span.stop - span.start)
    if not re.search(rb'"' + re.escape(json.dumps(key)[1:-1].encode()) + rb'"[ \t\r\n]*:[ \t\r\n]*$', before):
        raise DataError(f"{path}: mask {key} is not where the index says ({_cache()}); delete that")
    return jsonfile.parse(value.decode("ascii"), f"{path}: mask {key}")


def track(
    path: Path, spans: Mapping[str, Span], key: str, frames: int, size: tuple[int, int] | None, video: str
) -> Lazy:
    """The masks of one annotation, one a frame and all of the frames' size (None: not known). DataError; an entry that
    is no mask says so when it is asked for."""
    where = f"{path}: mask {key} of video {video!r}"
    if key not in spans:
        raise DataError(f"{where}: no key {key!r}")
    span, changed = spans[key], path.stat().st_mtime_ns
    if span.size is None:
        _check(load(path, key, span, changed), size, where)
    elif size is not None and span.size != size:
        raise DataError(f"{where}: its masks have size {span.size}, the frames have {size}")
    if span.frames != frames:
        raise DataError(f"{where}: {span.frames} masks for {frames} frames")
    return Lazy(frames, partial(_entry, path, key, span, changed, where))


def _check(value: Any, size: tuple[int, int] | None, where: str) -> None:
    if not isinstance(value, list):
        raise DataError(f"{where}: {type(value).__name__}, not a list")
    for i, rle in enumerate(value):
        if rle is None:
            continue
        try:
            stated = masks.stated_size(rle)
        except DataError as error:
            raise DataError(f"{where}: entry {i} is neither null nor a mask: {error}") from None
        if size is not None and stated != size:
            raise DataError(f"{where}: entry {i} has size {stated}, the frames have {size}")


def _size(rle: Any) -> tuple[int, int] | None:
    """The (h, w) that an RLE states; None of what is not one."""
    try:
        return masks.stated_size(rle)
    except DataError:
        return None


def scan(path: Path, report: Report | None = None) -> dict[str, Span]:
    """Where each annotation lies. Doubled ids go to `report`, the first of two is kept; DataError on bad JSON."""
    stat = files.regular(path).stat()
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
        sizes = {_size(rle) for rle in value if rle is not None} if whole else set()
        yield key, Span(start, stop, len(value) if whole else 0, sizes.pop() if len(sizes) == 1 else None)


def _cache() -> Path:
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reviosa"
    return Path(os.environ.get("REVIOSA_CACHE") or default)


def _index_path(path: Path, stat: os.stat_result) -> Path:
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    return _cache() / f"{name}-{stat.st_size}-{stat.st_mtime_ns}.index"


def _write_index(path: Path, index: Path, size: int) -> None:
    """A line an annotation, behind those that a cut-off scan left."""
    unfinished = index.with_suffix(".partial")
    lines = unfinished.read_bytes() if unfinished.exists() else b""
    whole = lines[: lines.rfind(b"\n") + 1]  # the last line may be cut
    unfinished.write_bytes(whole)
    after = _line(whole.splitlines()[-1], unfinished)[1].stop if whole else 0
    with (
        unfinished.open("a") as file,
        tqdm(desc=f"index {path.name}", total=size, initial=after, unit="B", unit_scale=True) as bar,
    ):
        for key, span in _places(path, after, bar):
            file.write(json.dumps([key, *span]) + "\n")
    unfinished.replace(index)


def _read_index(index: Path) -> Iterator[tuple[str, Span]]:
    with index.open("rb") as file:
        yield from (_line(line, index) for line in file)


def _line(line: bytes, index: Path) -> tuple[str, Span]:
    try:
        key, start, stop, frames, size = json.loads(line)
        return str(key), Span(int(start), int(stop), int(frames), size and (int(size[0]), int(size[1])))
    except (ValueError, TypeError, IndexError):
        raise DataError(f"{index}: this index of masks is damaged; delete it, and it is made again") from None
