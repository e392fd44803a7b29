"""A2D-Sentences as MTTR packs it: a2d_sentences_single_frame_{train,test}_annotations.json,
Release/clips320H/<video>.mp4 and text_annotations/a2d_annotation_with_instances/<video>/<frame>.h5.

A row is [text, video, frame, instance], frames count from 1. One frame is annotated, so a clip is one frame: its id is
v_<video>_f_<frame>, its expressions are called by their instance. The masks are HDF5.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache, partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from reviosa_core import masks
from reviosa_core.data import files, jsonfile
from reviosa_core.data.images import check_name, check_whole
from reviosa_core.data.lazy import Lazy
from reviosa_core.data.report import Report
from reviosa_core.data.video import open_video, stated
from reviosa_core.schema import RLE, Clip, DataError, Expression

INSTANCES = 1024  # of a frame; real ones have a few
Row = tuple[str, int, int, str]  # video, frame, instance, text


def splits(root: Path) -> tuple[str, ...]:
    """The splits in a folder. None of another format."""
    return tuple(split for split in ("train", "test") if _annotations(root, split).is_file())


def read(root: Path | str, split: str, report: Report | None = None) -> list[Clip]:
    """A clip an annotated frame, by video and frame. Pixels and masks stay on disk; mask keys are instances."""
    root, report = Path(root), report or Report()
    file = _annotations(root, split)
    rows, clips = [], []
    for number, row in enumerate(jsonfile.read_rows(file, report)):
        with report.each():
            rows.append(_row(row, f"{file}: row {number}"))
    for video, of_video in groupby(sorted(rows, key=itemgetter(0, 1)), key=itemgetter(0)):
        path = root / "Release" / "clips320H" / f"{video}.mp4"
        with report.each():
            size, count = stated(path)
            for frame, of_frame in groupby(of_video, key=itemgetter(1)):
                with report.each():
                    where = f"{file}: video {video!r}, frame {frame}"
                    if frame > count:
                        raise DataError(f"{where}: the video has {count} frames")
                    labels = root / "text_annotations" / "a2d_annotation_with_instances" / video / f"{frame:05d}.h5"
                    if not labels.is_file():
                        raise DataError(f"{where}: no file {labels}")
                    expressions = _expressions(of_frame, where, report)
                    tracks = {e.id: Lazy(1, partial(_mask, labels, int(e.id), size)) for e in expressions}
                    frames = Lazy(1, partial(_frame, path, frame, size))
                    clips.append(Clip(f"v_{video}_f_{frame}", frames, (f"{frame:05d}",), size, expressions, tracks))
    return clips


def _expressions(rows: Iterable[Row], where: str, report: Report) -> tuple[Expression, ...]:
    """Of one frame, called by their instance."""
    found: dict[str, Expression] = {}
    for _, _, instance, text in rows:
        if str(instance) in found:
            report.problem(DataError(f"{where}: instance {instance} has two sentences"))
        found.setdefault(str(instance), Expression(str(instance), text, "undefined", (str(instance),)))
    return tuple(found.values())


def _annotations(root: Path, split: str) -> Path:
    return root / f"a2d_sentences_single_frame_{split}_annotations.json"


def _row(row: Any, where: str) -> Row:
    if not isinstance(row, list) or [type(item) for item in row] != [str, str, int, int]:
        raise DataError(f"{where}: not [text, video, frame, instance]: {str(row)[:80]}")
    text, video, frame, instance = row
    check_name(video, f"{where}: video {video!r}")
    if frame < 1 or instance < 0 or not text.strip():
        raise DataError(f"{where}: frame {frame} (they count from 1), instance {instance}, text {text!r}")
    return video, frame, instance, text


@lru_cache(maxsize=2)
def _video(path: Path) -> Any:
    return open_video(path, stored=True)


def _frame(path: Path, frame: int, size: tuple[int, int], _: int) -> np.ndarray:
    pixels = _video(path).frames[frame - 1]
    if pixels.shape[:2] != size:
        raise DataError(f"{path}: frame {frame} has size {pixels.shape[:2]}, the file states {size}")
    return pixels


def _mask(path: Path, instance: int, size: tuple[int, int], _: int) -> RLE:
    import h5py  # here: the command line starts without it

    try:
        with h5py.File(files.regular(path)) as file:
            stack, numbers = file["reMask"], file["instance"]
            # Before they are read: what a file claims may not fit in memory.
            if stack.shape[-2:] != size[::-1]:
                raise DataError(f"{path}: masks of size {stack.shape[:-3:-1]}, the frame has {size}")
            count = len(stack) if stack.ndim == 3 else 1
            if max(count, numbers.size) > INSTANCES:
                raise DataError(f"{path}: {count} masks, {numbers.size} instances: more than {INSTANCES} are not read")
            held = check_whole(np.asarray(stack), f"{path}: reMask")
            mask = pick(np.ravel(numbers[()]), held, instance, str(path))
    except DataError:
        raise
    except Exception as error:  # HDF5 has no error of its own: on broken files h5py raises whatever comes
        raise DataError(f"{path}: no masks, or broken ones ({type(error).__name__}: {error})") from None
    return masks.encode(mask)


def pick(instances: np.ndarray, stack: np.ndarray, instance: int, where: str) -> Bool[np.ndarray, "h w"]:
    """The mask of an instance. `stack` lies as (n, w, h); without the first axis when there is one instance."""
    stack = stack[None] if stack.ndim == 2 else stack
    if len(stack) < len(instances):
        raise DataError(f"{where}: {len(stack)} masks for {len(instances)} instances")
    (found,) = np.nonzero(instances == instance)
    if len(found) != 1:
        raise DataError(f"{where}: instance {instance} is there {len(found)} times in {instances.tolist()}")
    return stack[found[0]].T > 0
