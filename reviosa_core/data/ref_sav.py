"""Ref-SAV: sentences on SA-V's videos.

Training: Ref-SAV.json beside sam_v_full/ (SA-V as Meta gives it): a video file and a masklet file an entry. Masklets
exist for every 4th frame of the video, so these are the clip's frames. Evaluation ("valid"): ref_sav_eval/{videos,
meta_expressions_valid.json, mask_dict.json} in the style of MeViS; `groups` tells long and short sentences apart.
"""

from __future__ import annotations

import re
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from reviosa_core import masks
from reviosa_core.data import jsonfile, mevis_style
from reviosa_core.data.images import check_name
from reviosa_core.data.lazy import Lazy
from reviosa_core.data.mevis_style import MASKS
from reviosa_core.data.report import Report, expression_at
from reviosa_core.data.video import open_video, stated
from reviosa_core.schema import RLE, Clip, DataError, Expression

STEP = 4  # video frames from one masklet to the next
GROUPS = (0, 1)  # type_id: long, short
TRAIN, VALID = "Ref-SAV.json", "meta_expressions_valid.json"


def splits(root: Path) -> tuple[str, ...]:
    """The splits in a folder. None of another format."""
    valid = _valid(root)
    return ("train",) * (root / TRAIN).is_file() + ("valid",) * (
        (valid / VALID).is_file() and (valid / "videos").is_dir()
    )


def read(root: Path | str, split: str, report: Report | None = None) -> list[Clip]:
    """All clips of a split; frames and masks stay on disk. Mask keys are objects: of train their place in a masklet."""
    root, report = Path(root), report or Report()
    if split == "valid":
        folder = _valid(root)
        return mevis_style.read(folder / VALID, folder / MASKS, folder / "videos", _expression, report)
    clips = []
    for id, entry in sorted(jsonfile.read_json(root / TRAIN, report).items()):
        with report.each():
            clip = _clip(root, id, entry, f"{root / TRAIN}: {id!r}", report)
            if clip:
                clips.append(clip)
    return clips


def groups(root: Path | str) -> dict[tuple[str, str], int]:
    """`type_id` of every (video, expression) of the evaluation."""
    videos = jsonfile.get(jsonfile.read_json(_valid(Path(root)) / VALID), "videos", dict, str(root))
    return {(v, e): raw["type_id"] for v, video in videos.items() for e, raw in video["expressions"].items()}


def _valid(root: Path) -> Path:
    return root / "ref_sav_eval" if (root / "ref_sav_eval").is_dir() else root


def _expression(id: str, raw: Any, where: str) -> Expression:
    group = jsonfile.get(raw, "type_id", int, where)
    if group not in GROUPS:
        raise DataError(f"{where}: type_id {group}, not one of {GROUPS}")
    return mevis_style.flat(id, raw, where)


def _clip(root: Path, id: str, entry: Any, where: str, report: Report) -> Clip | None:
    expressions = []
    for key, raw in jsonfile.get(entry, "objects", dict, where).items():
        with report.each():
            here = f"{where}, object {key}"
            if not key.isascii() or not key.isdigit():
                raise DataError(f"{here}: not a place in the masklets")
            text = jsonfile.get(raw, "formated", str, here)  # so it is spelt
            expressions.append(expression_at(here, key, text, "undefined", (key,)))
    folder = root / "sam_v_full" if (root / "sam_v_full").is_dir() else root
    video, masklets = (_file(folder, jsonfile.get(entry, k, str, where), where) for k in ("video_path", "anno_path"))
    size, count = stated(video)
    names = tuple(f"{i:05d}" for i in range(0, count, STEP))
    tracks = {e.id: Lazy(len(names), partial(_mask, masklets, int(e.id), len(names), size)) for e in expressions}
    return Clip(id, Lazy(len(names), partial(_frame, video, count, size)), names, size, tuple(expressions), tracks)


def _file(folder: Path, name: str, where: str) -> Path:
    """A file of SA-V. Some paths name a directory such as sav_012 twice where SA-V has it once."""
    parts = name.split("/")
    for part in parts:
        check_name(part, f"{where}: path {name!r}")
    doubled = [i for i, part in enumerate(parts) if re.fullmatch(r"sav_\d+", part) and parts.count(part) > 1]
    for path in (parts, *(parts[:i] + parts[i + 1 :] for i in doubled)):
        if folder.joinpath(*path).is_file():
            return folder.joinpath(*path)
    raise DataError(f"{where}: no file {folder / name}")


@lru_cache(maxsize=2)
def _video(path: Path) -> Any:
    return open_video(path, stored=True)


def _frame(path: Path, count: int, size: tuple[int, int], index: int) -> np.ndarray:
    video = _video(path)
    if (len(video.frames), video.size) != (count, size):
        raise DataError(f"{path}: {len(video.frames)} frames of {video.size}, but it states {count} of {size}")
    return video.frames[STEP * index]


@lru_cache(maxsize=2)
def _masklets(path: Path) -> list[Any]:
    return jsonfile.get(jsonfile.read_json(path), "masklet", list, str(path))


def _mask(path: Path, object: int, frames: int, size: tuple[int, int], index: int) -> RLE | None:
    masklets = _masklets(path)
    if len(masklets) != frames:
        raise DataError(f"{path}: masklets for {len(masklets)} frames, every {STEP}th of the video are {frames}")
    frame = masklets[index]
    if not isinstance(frame, list) or object >= len(frame):
        there = len(frame) if isinstance(frame, list) else "no list"
        raise DataError(f"{path}: no object {object} in masklet {index}, which has {there}")
    if frame[object] is not None:
        try:
            masks.run_lengths(frame[object], size)
        except DataError as error:
            raise DataError(f"{path}: masklet {index}, object {object}: {error}") from None
    return frame[object]
