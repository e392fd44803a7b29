"""Your own clips, from a table of videos, sentences and masks to a folder in the InterRVOS-127K format.

The table is CSV (UTF-8, with a header) or JSON lines, one expression a row:

    video         a video file, or a folder of .jpg/.png frames
    expression    the sentence
    caption_type  single, multi, unidirectional (somebody acts on somebody) or bidirectional
    actor         masks, with ";" between several (JSON lines: or a list); their union is meant
    target        the same, for unidirectional only

Masks are a folder of PNGs called like the frames (every pixel above 0), `folder#3` (pixels of value 3: palette PNGs), a
.json file with one COCO RLE or null a frame, or `masks.json#3` (entry "3" of a JSON object of such lists). Paths count
from the table's folder.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, get_args

from tqdm.auto import tqdm

from reviosa_core import masks, outputs
from reviosa_core.data import files, images, interrvos, jsonfile, tables
from reviosa_core.data.tables import Problems
from reviosa_core.data.video import Video, clip_id, open_video
from reviosa_core.schema import RLE, CaptionType, Clip, DataError, Expression

COLUMNS = ("video", "expression", "caption_type", "actor", "target")
TYPES = tuple(kind for kind in get_args(CaptionType) if kind != "undefined")
NOTES, WHAT = "import.json", "import"


class Row(NamedTuple):
    number: int  # as a spreadsheet or an editor counts: a CSV's header is row 1
    video: str
    text: str
    caption_type: CaptionType
    actor: tuple[str, ...]
    target: tuple[str, ...] | None


class Checked(NamedTuple):
    """A video that was looked at in full, and closed again: thousands of open ones would not fit."""

    path: Path
    row: int  # the first that names it
    name: str
    expressions: tuple[Expression, ...]
    masks: dict[str, Sequence[RLE | None]]

    def clip(self) -> Clip:
        video = open_video(self.path)
        return Clip(self.name, video.frames, video.names, video.size, self.expressions, self.masks)


def read(table: str | Path, progress: bool = True) -> Iterator[Clip]:
    """The clips of a table, in its order, their expressions numbered from "0"; each is opened when its turn comes.

    Before the first, every frame and mask is looked at. Raises DataError that lists all problems, each with its row.
    """
    table = Path(table)
    problems = Problems(table)
    by_video: dict[str, list[Row]] = {}
    for row in _rows(table, problems):
        by_video.setdefault(row.video, []).append(row)
    found: dict[str, Checked] = {}
    for video, rows in tqdm(by_video.items(), desc="check", unit="video", disable=not progress):
        with problems.of(rows[0].number):
            new = _check(table.parent / video, rows, problems)
            if (old := found.setdefault(new.name, new)) is not new:
                raise DataError(f"{new.path} would be clip {new.name!r}, as {old.path} of row {old.row} is")
    problems.done()
    return (checked.clip() for checked in found.values())


def write(table: str | Path, out: str | Path, progress: bool = True) -> dict[str, int]:
    """Build the folder `out` from a table, whole or not at all. Gives the number of expressions of each clip.

    An earlier import is replaced, unless somebody added to it or changed it; DataError then, when `out` is anything
    else, and as `read`.
    """
    table, written = Path(table), dict[str, int]()

    def clips() -> Iterator[Clip]:
        for clip in tqdm(read(table, progress), desc="write", unit="video", disable=not progress):
            written[clip.id] = len(clip.expressions)
            yield clip

    with outputs.folder(out, WHAT) as folder:
        interrvos.fill(folder, clips())
        about = {"table": table.name, "sha256": hashlib.sha256(table.read_bytes()).hexdigest(), "expressions": written}
        (folder / NOTES).write_text(jsonfile.to_json(about) + "\n")
    return written


def _rows(table: Path, problems: Problems) -> list[Row]:
    rows = []
    for number, cells in tables.rows(table, COLUMNS, problems, absent_in_lines=("target",)):
        with problems.of(number):
            rows.append(_row(number, cells))
    return rows


def _row(number: int, cells: dict[str, Any]) -> Row:
    for name in ("video", "expression", "caption_type"):
        if not isinstance(cells[name], str) or not cells[name].strip():
            raise DataError(f"no {name}" if not cells[name] else f"{name} {cells[name]!r} is not a text")
    video, text, kind = (cells[name].strip() for name in ("video", "expression", "caption_type"))
    if kind not in TYPES:
        raise DataError(f"caption_type {kind!r}, not one of {', '.join(TYPES)}")
    actor, target = (_references(cells.get(name), name) for name in ("actor", "target"))
    if not actor:
        raise DataError(f"no actor for {text!r}")
    if (kind == "unidirectional") != bool(target):
        due = "needs a target" if kind == "unidirectional" else "has no target; only unidirectional has one"
        raise DataError(f"{kind} {due}, and target is {cells.get('target')!r}")
    if both := [part for part in target if _place(part) in set(map(_place, actor))]:
        raise DataError(f"{kind} has mask {both[0]!r} as actor and as target")
    return Row(number, video, text, kind, actor, target or None)


def _references(cell: Any, name: str) -> tuple[str, ...]:
    parts = cell.split(";") if isinstance(cell, str) else cell or []
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise DataError(f"{name} {cell!r}: a text or a list of texts is needed")
    found = tuple(part.strip() for part in parts if part.strip())
    if len(set(map(_place, found))) != len(found):
        raise DataError(f"{name} {cell!r} names a mask twice")
    return found


def _place(reference: str) -> str:
    """The same for "man" and "./man"."""
    base, mark, part = reference.partition("#")
    return os.path.normpath(base) + mark + part


def _check(path: Path, rows: list[Row], problems: Problems) -> Checked:
    """One video with all its rows. A mask that is wrong is noted with the first row that names it."""
    video = open_video(path)
    names = video.names
    if any(a >= b for a, b in zip(names, names[1:], strict=False)):
        raise DataError(
            f"{path}: frames are sorted as text, which puts {min(names)} first and {max(names)} last; "
            f"name them with leading zeros, so that {names[0]} is first and {names[-1]} last"
        )
    for index in range(len(names)):
        video.frames[index]  # one that cannot be decoded, or has another size, says so here
    drawn: dict[str, Sequence[RLE | None]] = {}
    for row in rows:
        for reference in (*row.actor, *(row.target or ())):
            if reference not in drawn:
                drawn[reference] = []
                with problems.of(row.number):
                    drawn[reference] = _masks(problems.path.parent, reference, video)
    expressions = tuple(Expression(str(i), r.text, r.caption_type, r.actor, r.target) for i, r in enumerate(rows))
    return Checked(path, rows[0].number, clip_id(path), expressions, drawn)


def _masks(folder: Path, reference: str, video: Video) -> list[RLE | None]:
    base, _, part = reference.partition("#")
    path = folder / base
    if path.is_dir():
        found = _pngs(path, part, video)
    elif path.suffix == ".json":
        found = _run_lengths(path, part, video)
    else:
        raise DataError(f"{path}: no such folder of PNGs, and no .json file of run lengths")
    if not any(rle is not None for rle in found):
        raise DataError(f"{folder / reference}: empty in all {len(found)} frames")
    return found


def _pngs(folder: Path, part: str, video: Video) -> list[RLE | None]:
    if part and not re.fullmatch("[1-9][0-9]*", part):
        raise DataError(f"{folder}#{part}: an object's pixel value is needed after #")
    found = []
    for labels in images.mask_folder(folder, video.names, video.size):
        mask = labels.of(int(part)) if part else labels.any()
        if not part and len(values := labels.levels) > 1:
            raise DataError(f"{labels.path}: values {values[:5]}; say which object is meant, as {folder}#{values[0]}")
        found.append(masks.encode(mask) if mask.any() else None)
    return found


def _run_lengths(path: Path, part: str, video: Video) -> list[RLE | None]:
    content = _json(path, path.stat().st_mtime_ns if path.is_file() else 0)
    if part:
        if not isinstance(content, dict) or part not in content:
            raise DataError(f"{path}: no entry {part!r}")
        content = content[part]
    if not isinstance(content, list) or len(content) != len(video.names):
        found = f"{len(content)} entries" if isinstance(content, list) else type(content).__name__
        raise DataError(f"{path}: a list of {len(video.names)} run lengths is needed, one a frame; got {found}")
    rles = []
    for index, rle in enumerate(content):
        try:
            mask = None if rle is None else masks.decode(rle, video.size)
        except DataError as error:
            raise DataError(f"{path}: entry {index}: {error}") from None
        # Run lengths may come uncompressed; the format's are text.
        rles.append(None if mask is None or not mask.any() else masks.encode(mask))
    return rles


@lru_cache(maxsize=2)
def _json(path: Path, changed: int) -> Any:
    """One file may hold the masks of all videos: it is not read again for each. `changed`: so that an edit is seen."""
    return jsonfile.parse(files.text(path), str(path))
