"""Predictions on disk: the released InterRVOS JSON, and trees of PNGs. Read a video at a time, written whole or not.

Released layout: {video: {expression id: {"prediction_masks_act": [RLE per frame], "prediction_masks_tar": [...]}}};
docs/own-data.md has it for users. An empty mask is an RLE; a role the system does not support has no key. "score",
beside the masks, is how sure the system is, where it says so. Trees: <video>/<expression id>/<frame>.png, one tree a
role; every pixel above 0 is foreground, and images that are no masks are refused (see `images`). Folders that `reviosa
predict` wrote, a video and a sentence each, belong to the clip of that name and its expressions of that text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reviosa_core import masks, outputs
from reviosa_core.data import images, jsonfile
from reviosa_core.schema import RLE, Clip, DataError, Prediction, Role

SCORE = "score"
RESULT = "prediction.json"  # of a folder that `reviosa predict` wrote
KEYS = {Role.ACTOR: "prediction_masks_act", Role.TARGET: "prediction_masks_tar"}
ONE_ROLE = "prediction_masks"  # of systems with one, as Sa2VA's results: read as the actor's


@contextmanager
def writer(path: str | Path) -> Iterator[Callable[[Sequence[Prediction]], None]]:
    """Yields `write(predictions of one clip)`; the file, in the released layout, appears at the end."""
    path, seen = Path(path), set()
    with outputs.file(path) as new, new.open("w", encoding="utf-8") as file:

        def write(predictions: Sequence[Prediction]) -> None:
            if not predictions:
                return
            (clip_id,) = {prediction.clip_id for prediction in predictions}
            if clip_id in seen:
                raise DataError(f"{path}: clip {clip_id} written twice")
            file.write(f"{',' if seen else '{'}\n{json.dumps(clip_id)}: {entry(predictions)}")
            seen.add(clip_id)

        yield write
        file.write("\n}\n" if seen else "{}\n")


def entry(predictions: Sequence[Prediction]) -> str:
    """What the released layout has for a video, as JSON: by expression."""
    return jsonfile.to_json({p.expression_id: _entry(p) for p in predictions}, indent=None)


def of_entry(path: Path, video: str, entry: Any) -> list[Prediction]:
    """What `entry` is of. DataError, naming file and id, as `read`."""
    if not isinstance(entry, dict):
        own = "; this is what `reviosa predict` wrote for one video: name its folder" if video == "video" else ""
        raise DataError(f"{path}: video {video}: an object of expressions is needed, got {type(entry).__name__}{own}")
    return [_prediction(path, video, id, own) for id, own in entry.items()]


def _entry(prediction: Prediction) -> dict[str, Any]:
    own: dict[str, Any] = {KEYS[role]: [_rle(mask) for mask in found] for role, found in prediction.masks.items()}
    return own if prediction.score is None else own | {SCORE: prediction.score}


def _rle(mask: np.ndarray | RLE) -> RLE:
    """COCO's text, which is all that the authors' scripts read: pycocotools takes no lists."""
    if not isinstance(mask, np.ndarray) and isinstance(mask["counts"], list):
        mask = masks.decode(mask, masks.stated_size(mask))
    return masks.encode(mask) if isinstance(mask, np.ndarray) else mask


def read(path: str | Path, progress: Callable[[int], Any] | None = None) -> Iterator[tuple[str, list[Prediction]]]:
    """(video, its predictions) in the order of a file in the released layout; masks stay run lengths.

    Holds one video at a time. Keys other than the masks and the score are left alone. `progress` is told how many
    characters were read. Raises DataError, naming file and id, on unreadable JSON, doubled keys, entries that are not
    lists of RLEs, and RLEs that do not fill the frame they state.
    """
    path = Path(path)
    for video, entry in jsonfile.items(path, progress):
        yield video, of_entry(path, video, entry)


def _prediction(path: Path, video: str, expression: str, entry: Any) -> Prediction:
    where = f"{path}: video {video}, expression {expression}"
    if not isinstance(entry, dict):
        raise DataError(f"{where}: an object with masks is needed, got {type(entry).__name__}")
    keys = {role: key for role, key in KEYS.items() if key in entry}
    if not keys and ONE_ROLE in entry:
        keys = {Role.ACTOR: ONE_ROLE}
    if not keys:
        raise DataError(f"{where}: none of the keys {[*KEYS.values(), ONE_ROLE]}, only {sorted(entry)}")
    found = {role: entry[key] for role, key in keys.items()}
    for role, rles in found.items():
        if not isinstance(rles, list):
            raise DataError(f"{where}: {keys[role]} is {type(rles).__name__}, not a list with an RLE per frame")
        for i, rle in enumerate(rles):
            try:
                masks.run_lengths(rle)
            except DataError as error:
                raise DataError(f"{where}: {keys[role]}, frame {i}: {error}") from None
    return Prediction(video, expression, found, score=_score(entry[SCORE], where) if SCORE in entry else None)


def _score(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{where}: {SCORE} is {value!r}, not a finite number")
    return float(value)


def read_trees(trees: Mapping[Role, str | Path], clips: Iterable[Clip]) -> Iterator[tuple[str, list[Prediction]]]:
    """(video, its predictions) of PNG trees, for the clips that have a folder in the first tree.

    An expression folder that is missing in every tree gives no prediction. Raises DataError when a folder has other
    frames than the clip, names an unknown video or expression, or lacks a role that another tree has.
    """
    trees, clips = {role: Path(tree) for role, tree in trees.items()}, list(clips)
    for tree in trees.values():
        if not tree.is_dir():
            raise DataError(f"{tree}: no such folder")
        if (tree / RESULT).is_file():
            raise DataError(f"{tree}: this is what `reviosa predict` wrote for one video, not predictions of a split")
        unknown = sorted(_others(tree, "", {clip.id for clip in clips}))
        if unknown:
            raise DataError(f"{tree}: {len(unknown)} unknown videos {unknown[:3]}; the data has {len(clips)} others")
    if not any(path.is_dir() for tree in trees.values() for clip in clips for path in (tree / clip.id).glob("*")):
        raise DataError(
            f"{next(iter(trees.values()))}: no folder <video>/<expression> of any of the {len(clips)} videos in here"
        )
    for clip in clips:
        known = {e.id for e in clip.expressions}
        folders = {role: tree / clip.id for role, tree in trees.items()}
        there = {r: {p.name for p in f.iterdir() if p.is_dir()} if f.is_dir() else set() for r, f in folders.items()}
        named = set().union(*there.values())
        if not named:
            continue
        for role, names in there.items():
            if names != named:
                lacking = sorted(named - names)
                raise DataError(
                    f"{folders[role]}: no folder for {len(lacking)} expressions that others have: {lacking}; black "
                    "PNGs are due where there is nothing"
                )
        if named - known:
            raise DataError(f"{next(iter(folders.values()))}: unknown expressions {sorted(named - known)}")
        yield (
            clip.id,
            [
                Prediction(clip.id, id, {role: _frames(folder / id, clip) for role, folder in folders.items()})
                for id in sorted(named)
            ],
        )


def _others(tree: Path, inside: str, known: Set[str]) -> Iterator[str]:
    """Folders of a tree that no video is called, nor is in: a name may have folders in it, as ReVOS's."""
    for path in (tree / inside).iterdir():
        name = f"{inside}{path.name}"
        if path.is_dir() and name not in known:
            if any(video.startswith(f"{name}/") for video in known):
                yield from _others(tree, f"{name}/", known)
            else:
                yield name


def _frames(folder: Path, clip: Clip) -> list[RLE]:
    return [masks.encode(labels.any()) for labels in images.mask_folder(folder, clip.frame_names, clip.size)]


def results(folder: Path) -> list[Path]:
    """The prediction.json of a folder that `reviosa predict` wrote, or of those in it."""
    return [folder / RESULT] if (folder / RESULT).is_file() else sorted(folder.glob(f"*/{RESULT}"))


def read_results(folder: Path, clips: Iterable[Clip]) -> Iterator[tuple[str, list[Prediction]]]:
    """(video, its predictions) of folders that `reviosa predict` wrote, for the clips that have some.

    A video is the clip whose name its path ends in, with or without a suffix, and its sentence every expression of that
    text. Raises DataError for a video or sentence that no clip has, two folders for one expression, other frames than
    the clip's, and as `read`.
    """
    by_name, found = {clip.id: clip for clip in clips}, dict[str, dict[str, tuple[Path, Prediction]]]()
    for path in results(folder):
        about = jsonfile.read_json(path)
        video = jsonfile.get(about, "video", str, str(path))
        clip = next(filter(None, map(by_name.get, _names(Path(video)))), None)
        if clip is None:
            raise DataError(f"{path}: video {video!r} is none of the {len(by_name)} clips of the data")
        text, drawn = jsonfile.get(about, "text", str, str(path)), jsonfile.get(about, "masks", dict, str(path))
        if (count := len(jsonfile.get(about, "frames", list, str(path)))) != len(clip):
            raise DataError(f"{path}: {count} frames, clip {clip.id} has {len(clip)}")
        meant = [e.id for e in clip.expressions if e.text == text]
        if not meant:
            raise DataError(f"{path}: clip {clip.id} has no expression {text[:80]!r}")
        for id in meant:
            entry = {key: drawn[role] for role, key in KEYS.items() if role in drawn}
            sure = {} if about.get(SCORE) is None else {SCORE: about[SCORE]}
            own = _prediction(path, clip.id, id, entry | sure)
            if id in (there := found.setdefault(clip.id, {})):
                raise DataError(f"{path}: clip {clip.id}, expression {id}: {there[id][0].parent} holds it, too")
            there[id] = path, replace(own, written=_written(about.get("written"), str(path)))
    yield from ((video, [own for _, own in by_id.values()]) for video, by_id in found.items())


def _names(video: Path) -> Iterator[str]:
    """What a clip of a video may be called, the longest first: names may have folders in them, as ReVOS's."""
    for start in range(len(video.parts) or 1):
        yield from ("/".join((*video.parts[start:-1], last)) for last in (video.name, video.stem))


def _written(value: Any, where: str) -> frozenset[Role] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not {*map(str, value)} <= {*Role}:
        raise DataError(f"{where}: 'written' is {str(value)[:60]}, not a list of {', '.join(Role)}")
    return frozenset(map(Role, value))
