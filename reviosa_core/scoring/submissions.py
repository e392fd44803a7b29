"""Predictions as the benchmarks' servers and scripts take them, checked against the split before anything is written.

Ref-YouTube-VOS: a zip with Annotations/<video>/<expression>/<frame>.png; MeViS: a zip with the video folders on top;
both grey PNGs of 0 and 255, one a listed frame, of the actor. InterRVOS: the JSON of `predictions.writer`.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool
from PIL import Image
from tqdm.auto import tqdm

from reviosa_core import masks, outputs
from reviosa_core.data.images import check_name
from reviosa_core.schema import Clip, DataError, Prediction, Role
from reviosa_core.scoring import predictions

Benchmark = Literal["ref-youtube-vos", "mevis", "interrvos"]
TOP = {"ref-youtube-vos": "Annotations/", "mevis": ""}  # of the zip
LISTED = 20  # ids in one message; their number is always said
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date a zip can hold: the same masks give the same bytes

Read = Callable[[], Iterable[tuple[str, Sequence[Prediction]]]]  # (video, its predictions), from the start each time


def write(to: Benchmark, path: str | Path, clips: Iterable[Clip], read: Read, progress: bool = True) -> int:
    """Write the submission, whole or not at all, and give its number of expressions.

    Reads twice: to check, and to write, one video at a time in the order given. Raises DataError that lists missing
    and unexpected expressions, and masks that do not fit their video; then nothing is written.
    """
    path, by_id = Path(path), {clip.id: clip for clip in clips}
    due = sum(len(clip.expressions) for clip in by_id.values())
    check(by_id, read(), progress)
    again = tqdm(read(), desc="write", total=len(by_id), unit="video", disable=not progress)
    if to == "interrvos":
        with predictions.writer(path) as add:
            for _, found in again:
                add(found)
    else:
        with outputs.file(path) as new, zipfile.ZipFile(new, "w", zipfile.ZIP_STORED) as archive:
            for video, found in again:
                for name, mask in _pictures(by_id[video], found):
                    _add(archive, f"{TOP[to]}{name}", mask)
    return due


def check(clips: dict[str, Clip], given: Iterable[tuple[str, Sequence[Prediction]]], progress: bool = True) -> None:
    """DataError unless `given` has each expression of the clips once, with a mask a frame of the frame's size."""
    missing = [f"{clip.id}/{e.id}" for clip in clips.values() for e in clip.expressions]
    due, seen = set(missing), set[str]()
    unexpected, wrong, with_target = list[str](), list[str](), set[bool]()
    for video, found in tqdm(given, desc="check", total=len(clips), unit="video", disable=not progress):
        if video not in clips and not found:
            unexpected.append(video)
        for prediction in found:
            name = f"{video}/{prediction.expression_id}"
            if name in seen:
                wrong.append(f"{name} occurs twice")
            elif name not in due:
                unexpected.append(name)
            else:
                with_target.add(Role.TARGET in prediction.masks)
                wrong += _misfits(clips[video], prediction)
            seen.add(name)
    if len(with_target) > 1:
        wrong.append("some expressions have target masks (all zero where there is no target), others do not")
    missing = [name for name in missing if name not in seen]
    parts = (
        (missing, f"of {len(due)} expressions missing"),
        (unexpected, "unexpected"),
        (wrong, "wrong"),
    )
    said = [f"{len(names)} {what}: {_list(names)}" for names, what in parts if names]
    if said:
        raise DataError(f"the predictions do not fit the split: {'; '.join(said)}")


def _misfits(clip: Clip, prediction: Prediction) -> Iterator[str]:
    where = f"{clip.id}/{prediction.expression_id}"
    if Role.ACTOR not in prediction.masks:
        yield f"{where} has no actor masks"
    for role, rles in prediction.masks.items():
        if len(rles) != len(clip):
            yield f"{where}, {role}: {len(rles)} masks for {len(clip)} frames"
            continue
        for name, mask in zip(clip.frame_names, rles, strict=True):
            try:
                if not isinstance(mask, np.ndarray):
                    masks.run_lengths(mask, clip.size)
                elif mask.shape != clip.size:
                    raise DataError(f"{mask.shape} pixels, the frame has {clip.size}")
            except DataError as error:
                yield f"{where}, {role}, frame {name}: {error}"
                break


def _list(ids: list[str]) -> str:
    return ", ".join(ids[:LISTED]) + (f" ... and {len(ids) - LISTED} more" if len(ids) > LISTED else "")


def _pictures(clip: Clip, found: Sequence[Prediction]) -> Iterator[tuple[str, Bool[np.ndarray, "h w"]]]:
    """(<video>/<expression>/<frame>.png, actor mask), the expressions in the split's order."""
    by_expression = {prediction.expression_id: prediction for prediction in found}
    for expression in clip.expressions:
        rles = by_expression[expression.id].masks[Role.ACTOR]
        for place, frame in enumerate(clip.frame_names):
            for name in (clip.id, expression.id, frame):
                check_name(name, f"clip {clip.id!r}, expression {expression.id!r}, frame {frame!r}")
            yield f"{clip.id}/{expression.id}/{frame}.png", masks.arrays(rles, clip.size, [place])[0]


def _add(archive: zipfile.ZipFile, name: str, mask: Bool[np.ndarray, "h w"]) -> None:
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, "png")
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.external_attr = 0o644 << 16
    entry.create_system = 3  # Unix, whatever wrote it
    archive.writestr(entry, buffer.getvalue())
