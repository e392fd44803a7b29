"""A2D-Sentences as MTTR packs it: a2d_sentences_single_frame_{train,test}_annotations.json,
Release/clips320H/<video>.mp4 and text_annotations/a2d_annotation_with_instances/<video>/<frame>.h5.

A row is [text, video, frame, instance], frames count from 1. One frame is annotated, so a clip is one frame: its id is
v_<video>_f_<frame>, its expressions are called by their instance. The masks are HDF5 and need h5py, which is asked for
when a mask is.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from reviosa_core import masks
from reviosa_core.data import jsonfile
from reviosa_core.data.images import check_name
from reviosa_core.data.lazy import Lazy
from reviosa_core.data.report import Report
from reviosa_core.data.video import open_video, stated
from reviosa_core.schema import RLE, Clip, DataError, Expression


def splits(root: Path) -> tuple[str, ...]:
    """The splits in a folder. None of another format."""
    return tuple(split for split in ("train", "test") if _annotations(root, split).is_file())


def read(root: Path | str, split: str, report: Report | None = None) -> list[Clip]:
    """A clip an annotated frame, by video and frame. Pixels and masks stay on disk; mask keys are instances."""
    return list(_clips(Path(root), split, report or Report()))


def _clips(root: Path, split: str, report: Report) -> Iterator[Clip]:
    file = _annotations(root, split)
    rows = []
    for number, row in enumerate(jsonfile.read_rows(file, report)):
        with report.each():
            rows.append(_row(row, f"{file}: row {number}"))
    rows.sort(key=lambda row: row[:2])
    for video, of_video in groupby(rows, key=lambda row: row[0]):
        path = root / "Release" / "clips320H" / f"{video}.mp4"
        with report.each():
            size, count = stated(path)
            for frame, of_frame in groupby(of_video, key=lambda row: row[1]):
                with report.each():
                    where = f"{file}: video {video!r}, frame {frame}"
                    if frame > count:
                        raise DataError(f"{where}: the video has {count} frames")
                    expressions: dict[str, Expression] = {}
                    for _, _, instance, text in of_frame:
                        if str(instance) in expressions:
                            report.problem(DataError(f"{where}: instance {instance} has two sentences"))
                        expressions[str(instance)] = Expression(str(instance), text, "undefined", (str(instance),))
                    labels = root / "text_annotations" / "a2d_annotation_with_instances" / video / f"{frame:05d}.h5"
                    if not labels.is_file():
                        raise DataError(f"{where}: no file {labels}")
                    tracks = {key: Lazy(1, partial(_mask, labels, int(key), size)) for key in expressions}
                    id, frames = f"v_{video}_f_{frame}", Lazy(1, partial(_frame, path, frame, size))
                    yield Clip(id, frames, (f"{frame:05d}",), size, tuple(expressions.values()), tracks)


def _annotations(root: Path, split: str) -> Path:
    return root / f"a2d_sentences_single_frame_{split}_annotations.json"


def _row(row: Any, where: str) -> tuple[str, int, int, str]:
    """Video, frame, instance, text."""
    if not isinstance(row, list) or [type(item) for item in row] != [str, str, int, int]:
        raise DataError(f"{where}: not [text, video, frame, instance]: {str(row)[:80]}")
    text, video, frame, instance = row
    check_name(video, f"{where}: video {video!r}")
    if frame < 1 or instance < 0 or not text.strip():
        raise DataError(f"{where}: frame {frame} (they count from 1), instance {instance}, text {text!r}")
    return video, frame, instance, text


@lru_cache(maxsize=2)
def _video(path: Path) -> Any:
    return open_video(path)


def _frame(path: Path, frame: int, size: tuple[int, int], _: int) -> np.ndarray:
    pixels = _video(path).frames[frame - 1]
    if pixels.shape[:2] != size:
        raise DataError(f"{path}: frame {frame} has size {pixels.shape[:2]}, the file states {size}")
    return pixels


def _mask(path: Path, instance: int, size: tuple[int, int], _: int) -> RLE:
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise DataError(
            f"{path}: HDF5 files need h5py, which is not a part of this project: pip install h5py"
        ) from None

    try:
        with h5py.File(path) as file:
            mask = pick(np.ravel(file["instance"][()]), np.asarray(file["reMask"]), instance, str(path))
    except (OSError, KeyError) as error:
        raise DataError(f"{path}: {error}") from None
    if mask.shape != size:
        raise DataError(f"{path}: masks of size {mask.shape}, the frame has {size}")
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
