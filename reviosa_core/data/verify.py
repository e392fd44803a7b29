"""Is a data set whole? Every reference of every split is followed, and everything that is wrong is listed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

from tqdm import tqdm

from reviosa_core import masks
from reviosa_core.data import formats
from reviosa_core.data.report import Findings
from reviosa_core.schema import NOTHING, UNKNOWN, Clip, DataError

BINARY = {".jpg", ".jpeg", ".png", ".mp4"}  # pixels: many and large
IMAGES = {".jpg", ".jpeg", ".png"}


def verify(
    root: Path | str, format: str | None = None, fast: bool = False, workers: int = 8, progress: bool = True
) -> dict[str, Any]:
    """What a folder holds, what is wrong with it, what its benchmark's rules exclude, and the sha256 of its files.

    References: JSON, names, ids, lists, sizes, that files are there. Then, unless `fast`, every frame and every mask is
    decoded. DataError only when the format is not clear.
    """
    root = Path(root)
    found = formats.detect(root, format)
    findings, counts = Findings(), {}
    for split in found.splits:
        clips: list[Clip] = []
        with findings.each():
            clips = formats.READERS[found.format].read(root, split, findings)
        counts[split] = _counts(clips)
        if not fast:
            with ThreadPoolExecutor(workers) as pool:
                for clip in tqdm(clips, desc=f"decode {split}", unit="video", disable=not progress):
                    findings.problems += _decode(clip, f"{root}: {split}, video {clip.id!r}", pool)
    return {
        "data": str(root),
        "format": found.format,
        "decoded": not fast,
        "splits": counts,
        "problems": list(dict.fromkeys(findings.problems)),  # videos and splits share files
        "excluded": findings.excluded,
        "sha256": dict(_manifest(root, fast, progress)),
    }


def _counts(clips: Sequence[Clip]) -> dict[str, int]:
    expressions = [e for clip in clips for e in clip.expressions]
    return {
        "videos": len(clips),
        "frames": sum(map(len, clips)),
        "masks": sum(len(clip.masks.keys() - {UNKNOWN, NOTHING}) for clip in clips),
        "expressions": len(expressions),
        "with a target": sum(e.is_interaction for e in expressions),
    }


def _decode(clip: Clip, where: str, pool: ThreadPoolExecutor) -> Iterator[str]:
    """What is wrong with the pixels: frames and masks that cannot be read, of another size, or without any object."""

    def frame(index: int) -> str | None:
        try:
            clip.frames[index]  # which are all of the clip's size
        except DataError as error:
            return str(error)

    first = frame(0)  # alone: what is opened once for all frames, as a video file, is then there for the threads
    yield from filter(None, (first, *pool.map(frame, range(1, len(clip)))))
    used = dict.fromkeys(chain.from_iterable((*e.actor, *(e.target or ())) for e in clip.expressions))
    for key in used:
        if key in (UNKNOWN, NOTHING):
            continue
        seen, wrong = False, []
        for index, name in enumerate(clip.frame_names):
            try:
                rle = clip.masks[key][index]
                seen |= rle is not None and bool(masks.runs(rle, clip.size)[0].size)
            except DataError as error:
                wrong.append(f"{where}, mask {key}, frame {name}: {error}")
        yield from wrong
        if not seen and not wrong:
            yield f"{where}, mask {key}: no pixel in any of {len(clip)} frames, yet an expression refers to it"


def _manifest(root: Path, fast: bool, progress: bool) -> Iterator[tuple[str, str]]:
    """sha256 by path below `root`. The images of a folder have one: that of their `sha256sum *`, in order of name.

    With `fast` images and videos are left out.
    """
    files = sorted(path for path in root.rglob("*") if path.is_file() and not (fast and path.suffix.lower() in BINARY))
    lines: dict[str, list[str]] = {}
    for path in tqdm(files, desc="sha256", unit="file", disable=not progress):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if path.suffix.lower() in IMAGES:
            lines.setdefault(f"{path.parent.relative_to(root)}/*", []).append(f"{digest}  {path.name}\n")
        else:
            yield str(path.relative_to(root)), digest
    for name, own in lines.items():
        yield name, hashlib.sha256("".join(own).encode()).hexdigest()
