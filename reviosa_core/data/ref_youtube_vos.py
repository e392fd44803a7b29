"""Ref-YouTube-VOS: meta_expressions/<split>/meta_expressions.json, <split>/JPEGImages, train/Annotations (palette PNGs,
pixel value = object id) and train/meta.json (the objects of a video).

The valid file also holds the videos of the test split: valid is what the test file does not have, 202 videos. Neither
has masks: every actor is UNKNOWN there. `read_tree` also serves Ref-DAVIS17 as ReferFormer converts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reviosa_core.data import jsonfile
from reviosa_core.data.images import VOID, Frames, check_folder, check_name, frame_names, label_track, read_labels, size
from reviosa_core.data.report import Report, expression_at
from reviosa_core.schema import UNKNOWN, Clip, DataError, Expression

IMAGES, MASKS, EXPRESSIONS = "JPEGImages", "Annotations", "meta_expressions"
VALID_VIDEOS = 202


def splits(root: Path) -> tuple[str, ...]:
    """The splits in a folder. None of another format; with masks beside valid it is Ref-DAVIS17."""
    if (root / "valid" / MASKS).is_dir():
        return ()
    return tree_splits(root)


def tree_splits(root: Path) -> tuple[str, ...]:
    """The splits that have both a JSON file and frames."""
    named = ("train", "valid", "test")
    return tuple(s for s in named if _expressions(root, s).is_file() and (root / s / IMAGES).is_dir())


def read(root: Path | str, split: str, report: Report | None = None) -> list[Clip]:
    """All clips of a split, by video name. Frames and label maps stay on disk; mask keys are object ids."""
    root, report = Path(root), report or Report()
    if split != "valid":
        return read_tree(root, split, report)
    test = _videos(_expressions(root, "test"), report)  # without it nobody can say what valid is
    valid = _videos(_expressions(root, split), report)
    for name in sorted(valid.keys() & test.keys()):
        report.exclude(
            f"{_expressions(root, split)}: video {name!r}", "of the test split, which the valid file repeats"
        )
    own = {name: video for name, video in valid.items() if name not in test}
    if len(own) != VALID_VIDEOS:
        report.problem(
            DataError(f"{_expressions(root, split)}: {len(own)} videos that are not of test; valid has {VALID_VIDEOS}")
        )
    return read_tree(root, split, report, own)


def read_tree(
    root: Path, split: str, report: Report, videos: dict[str, Any] | None = None, void: str | None = None
) -> list[Clip]:
    """All clips of a split, or just those of `videos`, with masks of all objects that meta.json knows; `void` as in
    `clip_of`."""
    file = _expressions(root, split)
    videos = _videos(file, report) if videos is None else videos
    objects = None
    if (root / split / "meta.json").is_file():
        objects = _videos(root / split / "meta.json", report)
    clips = []
    for name, video in sorted(videos.items()):
        where = f"{file}: video {name!r}"
        with report.each():
            check_name(name, where)
            expressions = []
            for id, raw in jsonfile.get(video, "expressions", dict, where).items():
                with report.each():
                    expressions.append(_expression(id, raw, f"{where}, expression {id}"))
            at = f"{root / split / 'meta.json'}: video {name!r}"
            others = () if objects is None else _known(expressions, objects.get(name), at, report)
            names = frame_names(jsonfile.get(video, "frames", list, where), where)
            frames, maps = root / split / IMAGES / name, root / split / MASKS / name
            clip = clip_of(frames, maps, names, expressions, where, report, void, others)
            if clip:
                clips.append(clip)
    return clips


def clip_of(
    frames: Path,
    maps: Path,
    names: tuple[str, ...],
    expressions: list[Expression],
    where: str,
    report: Report,
    void: str | None = None,
    others: Sequence[str] = (),
) -> Clip | None:
    """A clip whose masks are label maps of the same names as its frames, also those of `others` that no expression is
    about. With `void`, the key of the pixels that belong to nobody, all up to the highest label of the first frame."""
    extent = None
    with report.each():
        check_folder(frames, names, ".jpg", where)
        extent = size(frames / f"{names[0]}.jpg")
    named = [key for e in expressions for key in e.actor if key != UNKNOWN]
    values = {key: int(key) for key in (*named, *others)}
    if values:
        with report.each():
            check_folder(maps, names, ".png", where)
        if void is not None:
            with report.each():
                own = [level for level in read_labels(maps / f"{names[0]}.png").levels if level != VOID]
                values |= {str(label): label for label in range(1, max(own, default=0) + 1)} | {void: VOID}
    if extent is None:
        return None
    labels = Frames(maps, names, ".png")
    masks: dict[str, Any] = {key: label_track(labels, value, extent) for key, value in values.items()}
    if any(UNKNOWN in e.actor for e in expressions):
        masks[UNKNOWN] = [None] * len(names)
    return Clip(frames.name, Frames(frames, names, size=extent), names, extent, tuple(expressions), masks)


def _known(expressions: list[Expression], video: Any, where: str, report: Report) -> tuple[str, ...]:
    """The objects that meta.json has of a video; a problem for an expression about another."""
    known: dict[str, Any] = {}
    with report.each():
        known = jsonfile.get(video, "objects", dict, where)
    for e in expressions if known else ():
        if e.actor[0] not in (*known, UNKNOWN):
            report.problem(DataError(f"{where}: no object {e.actor[0]!r} (expression {e.id}), only {sorted(known)}"))
    found: list[str] = []
    for key in known:
        with report.each():
            found.append(object_id(key, where))
    return tuple(found)


def object_id(raw: Any, where: str) -> str:
    """An object id, a pixel value written as text. DataError."""
    if not isinstance(raw, str) or not raw.isascii() or not raw.isdigit() or not 0 < int(raw) < VOID:
        raise DataError(f"{where}: obj_id {raw!r} is not a text of a number from 1 to {VOID - 1}")
    return raw


def _expression(id: str, raw: Any, where: str) -> Expression:
    text = jsonfile.get(raw, "exp", str, where)
    actor = object_id(raw["obj_id"], where) if "obj_id" in raw else UNKNOWN
    return expression_at(where, id, text, "undefined", (actor,))


def _expressions(root: Path, split: str) -> Path:
    return root / EXPRESSIONS / split / "meta_expressions.json"


def _videos(path: Path, report: Report) -> dict[str, Any]:
    return jsonfile.get(jsonfile.read_json(path, report), "videos", dict, str(path))
