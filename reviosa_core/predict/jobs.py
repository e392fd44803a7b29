"""What is to be predicted: a video and a sentence each, from options or from a manifest, with the folder it goes to."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reviosa_core.data import tables
from reviosa_core.data.video import named
from reviosa_core.schema import DataError, Expression

COLUMNS, OPTIONAL = ("video", "text", "id", "fps", "start", "end"), ("id", "fps", "start", "end")
REPORT = ("report.json", "report.csv")  # beside the jobs' folders
LETTERS = 60  # of a sentence, in the name of a folder
LONGEST = 120  # bytes of an id
NAME = 200  # bytes of a folder's name: file systems have 255, and what is being written has a longer one
DEFAULT = Path("runs/predict")


@dataclass(frozen=True)
class Job:
    """One sentence about one video, or about the part of it from `start` up to `end` seconds. `fps` is the speed of the
    pictures, by default the video's own."""

    video: Path
    text: str
    out: Path
    fps: float | None = None
    start: float | None = None
    end: float | None = None

    @property
    def id(self) -> str:
        return self.out.name

    def __post_init__(self) -> None:
        Expression("0", self.text, "undefined", ("",))  # its rules
        for name, value in (("fps", self.fps), ("start", self.start), ("end", self.end)):
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise DataError(f"{name} is {value:g}; a number of 0 or more is needed")
        if self.fps is not None and not 0.1 <= self.fps <= 1000:
            raise DataError(f"fps is {self.fps:g}; 0.1 to 1000 are possible")
        if self.end is not None and self.end <= (self.start or 0):
            raise DataError(f"end is {self.end:g} s, which is not after start, {self.start or 0:g} s")


def name_of(video: Path, text: str) -> str:
    """<name of the video>--<the sentence>: the name has its suffix; the sentence is in small letters and single dashes,
    with six hex digits of its hash where that leaves something out. Videos of other names, and other sentences, have
    other names. What would be too long for a file system is cut, and ends in twelve digits of the hash of both."""
    words = "-".join(re.findall(r"\w+", text.lower()))[:LETTERS].strip("-")
    if words.replace("-", " ") != text:
        words = f"{words}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:6]}".strip("-")
    name = f"{named(video).name}--{words}"
    if len(name.encode(errors="surrogatepass")) <= NAME:
        return name
    end = "-" + hashlib.sha256(f"{named(video).name}\0{text}".encode(errors="surrogatepass")).hexdigest()[:12]
    return name.encode(errors="surrogatepass")[: NAME - len(end)].decode(errors="ignore") + end


def of_texts(video: Path, texts: Sequence[str], out: Path, **more: float | None) -> list[Job]:
    """A job a sentence, in folders of their own in `out`. DataError for a sentence that is there twice."""
    twice = next((text for text in texts if texts.count(text) > 1), None)
    if twice is not None:
        raise DataError(f"--text {twice!r} is there twice")
    return [Job(video, text, out / name_of(video, text), **more) for text in texts]


def of_manifest(path: Path, out: Path) -> list[Job]:
    """A job a row, in `out`/<id>; without an id the folder is called as `name_of` says. Videos count from the
    manifest's folder.

    Raises DataError listing what is wrong, row by row: nothing is predicted from a manifest that is half right.
    """
    problems, jobs, seen = tables.Problems(path), list[Job](), dict[str, int]()
    for number, cells in tables.rows(path, COLUMNS, problems, OPTIONAL):
        with problems.of(number):
            job = _job(path.parent, out, cells)
            if (first := seen.setdefault(job.id.lower(), number)) != number:  # some file systems know no case
                raise DataError(f"its folder {job.id!r} is that of row {first}; give it an id of its own")
            jobs.append(job)
    problems.done()
    return jobs


def _job(folder: Path, out: Path, cells: dict[str, Any]) -> Job:
    given = {name: cells.get(name) for name in COLUMNS}
    for name in ("video", "text"):
        if not isinstance(given[name], str) or not given[name].strip():
            raise DataError(f"no {name}" if not given[name] else f"{name} {given[name]!r} is not a text")
    video = folder / given["video"].strip()
    id = "" if given["id"] is None else str(given["id"]).strip()
    if id and (
        len(id.encode(errors="surrogatepass")) > LONGEST
        or not re.fullmatch(r"\w[\w .+=@-]*", id)
        or id.endswith((" ", "."))
    ):
        raise DataError(
            f"id {id[:60]!r} names no folder: a letter or digit, then letters, digits, spaces and . _ - + = @, at most "
            f"{LONGEST} bytes"
        )
    if id.lower() in REPORT:
        raise DataError(f"id {id!r} is the report's name")
    numbers = {name: _number(name, given[name]) for name in ("fps", "start", "end")}
    return Job(video, given["text"].strip(), out / (id or name_of(video, given["text"].strip())), **numbers)


def _number(name: str, cell: Any) -> float | None:
    if cell is None or cell == "":
        return None
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        raise DataError(f"{name} is {cell!r}, not a number")
    try:
        return float(cell)
    except (ValueError, OverflowError):
        raise DataError(f"{name} is {cell!r}, not a number") from None


def by_part(jobs: Iterable[Job]) -> list[list[Job]]:
    """Jobs about the same part of the same video together: that is encoded once for all of them."""
    groups: dict[tuple[object, ...], list[Job]] = {}
    for job in jobs:
        rate = job.fps if job.video.is_dir() else None
        groups.setdefault((job.video.resolve(), job.start, job.end, rate), []).append(job)
    return list(groups.values())
