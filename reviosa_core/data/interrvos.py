"""The InterRVOS-127K folder: JPEGImages/<video>/<frame>.jpg, meta_expressions.json, mask_dict.json: reader and writer.

The only file that knows the key "subject/object" (the paper's actor and target). Anything wrong is a DataError that
names file, video and expression: nothing is skipped, cut or repaired.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from reviosa_core.schema import RLE, CaptionType, Clip, DataError, Expression

EXPRESSIONS, MASKS, IMAGES = "meta_expressions.json", "mask_dict.json", "JPEGImages"


class Frames:
    """The JPEG frames of one video, decoded when asked for."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.paths = tuple(folder / f"{name}.jpg" for name in names)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int, /) -> UInt8[np.ndarray, "h w 3"]:
        """RGB. DataError when the file cannot be decoded."""
        path = self.paths[index]
        try:
            with Image.open(path) as image:
                return np.asarray(image.convert("RGB"))
        except OSError as error:
            raise DataError(f"{path}: {error}") from None


def read(root: Path | str) -> list[Clip]:
    """All clips of a folder, by video name. Frames stay on disk; mask keys are the annotation ids, as strings."""
    root = Path(root)
    meta, rles = read_json(root / EXPRESSIONS), read_json(root / MASKS)
    where = str(root / EXPRESSIONS)
    videos = _get(meta, "videos", dict, where)
    return [_clip(root, name, video, rles) for name, video in sorted(videos.items())]


def _clip(root: Path, name: str, video: Any, rles: dict[str, Any]) -> Clip:
    where = f"{root / EXPRESSIONS}: video {name!r}"
    check_name(name, where)
    names = _get(video, "frames", list, where)
    for frame in names:
        check_name(frame, f"{where}, frame {frame!r}")
    # Masks go by position, and loaders sort the list where evaluators do not: only a sorted one means the same to all.
    if not names or any(a >= b for a, b in zip(names, names[1:], strict=False)):
        raise DataError(f"{where}: 'frames' must be a sorted list without repetition, got {names[:5]}...")

    folder = root / IMAGES / name
    if not folder.is_dir():
        raise DataError(f"{where}: no folder {folder}")
    missing = {f"{frame}.jpg" for frame in names} - {path.name for path in folder.iterdir()}
    if missing:
        raise DataError(f"{where}: {len(missing)} of {len(names)} frames missing in {folder}, first {min(missing)}")
    try:
        with Image.open(folder / f"{names[0]}.jpg") as image:  # reads the header only
            size = image.height, image.width
    except OSError as error:
        raise DataError(f"{folder / names[0]}.jpg: {error}") from None

    expressions = tuple(_expression(i, e, where) for i, e in _get(video, "expressions", dict, where).items())
    used = sorted({key for e in expressions for key in (*e.actor, *(e.target or ()))}, key=int)
    masks = {key: _masks(rles, key, len(names), size, f"{root / MASKS}: mask {key} of video {name!r}") for key in used}
    try:
        return Clip(name, Frames(folder, names), tuple(names), size, expressions, masks)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def _expression(id: str, raw: Any, where: str) -> Expression:
    where = f"{where}, expression {id}"
    text = _get(raw, "exp", str, where)
    caption_type: CaptionType = raw.get("caption_type", "undefined")
    if caption_type not in get_args(CaptionType):
        raise DataError(f"{where}: caption_type {caption_type!r}, not one of {get_args(CaptionType)}")
    roles = _get(raw, "subject/object", dict, where)
    ids = {}
    for kind in ("obj_id", "anno_id"):
        here = f"{where}, {kind}"
        by_role = _get(roles, kind, dict, here)
        ids[kind] = [_get(by_role, "subject", list, here), _get(by_role, "object", list | None, here)]
    for role, objects, annos in zip(("subject", "object"), ids["obj_id"], ids["anno_id"], strict=True):
        if (objects is None) != (annos is None) or len(objects or ()) != len(annos or ()):
            raise DataError(f"{where}: {role} has obj_id {objects} but anno_id {annos}")
        for number in (*(objects or ()), *(annos or ())):
            if type(number) is not int or number < 0:
                raise DataError(f"{where}: {role} id {number!r} is not a whole number")
    actor, target = ids["anno_id"]
    # Two tokens are asked for by the caption type and supervised by the object list: they must agree.
    if (caption_type == "unidirectional") != (target is not None):
        raise DataError(f"{where}: caption_type {caption_type!r} with object {target}; only unidirectional has a list")
    target = None if target is None else tuple(map(str, target))
    try:
        return Expression(id, text, caption_type, tuple(map(str, actor)), target)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def _masks(rles: dict[str, Any], key: str, frames: int, size: tuple[int, int], where: str) -> list[RLE | None]:
    """The RLE list of one annotation, null for frames without the object."""
    masks = _get(rles, key, list, where)
    if len(masks) != frames:
        raise DataError(f"{where}: {len(masks)} masks for {frames} frames")
    for i, rle in enumerate(masks):
        if rle is None:
            continue
        if not isinstance(rle, dict) or not {"size", "counts"} <= rle.keys():
            raise DataError(f"{where}: entry {i} is neither null nor an RLE with size and counts")
        if tuple(rle["size"]) != size:
            raise DataError(f"{where}: entry {i} has size {tuple(rle['size'])}, the frames have {size}")
    return masks


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object without doubled keys. DataError naming the file."""
    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=unique_keys)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: a JSON object is needed, got {type(content).__name__}")
    return content


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object (`object_pairs_hook`); json would keep the last of two equal keys without a word. ValueError."""
    content = dict(pairs)
    if len(content) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"duplicate key {next(key for key in keys if keys.count(key) > 1)!r}")
    return content


def _get(container: Any, key: str, kind: Any, where: str) -> Any:
    if not isinstance(container, dict) or key not in container:
        raise DataError(f"{where}: no key {key!r}")
    if not isinstance(container[key], kind):
        raise DataError(f"{where}: {key!r} is {type(container[key]).__name__}, not {kind}")
    return container[key]


def check_name(name: Any, where: str) -> None:
    """Names become paths: they must stay inside the folder."""
    if not isinstance(name, str) or name in ("", ".", "..") or any(c in name for c in "/\\\0"):
        raise DataError(f"{where}: not a plain file name")


def write(root: Path, clips: Iterable[Clip]) -> None:
    """Write clips into a new folder. Mask keys become annotation ids, unique in the folder, in order of appearance.

    FileExistsError when the folder exists. The JSON files come last: without them, a killed run cannot be mistaken for
    a finished one.
    """
    root = Path(root)
    root.mkdir(parents=True)
    videos: dict[str, Any] = {}
    rles: dict[str, Any] = {}
    for clip in clips:
        check_name(clip.id, f"clip {clip.id!r}")
        if clip.id in videos:
            raise DataError(f"clip {clip.id!r} occurs twice")
        first = len(rles)
        objects = {key: k for k, key in enumerate(clip.masks)}
        rles.update({str(first + k): list(clip.masks[key]) for key, k in objects.items()})
        folder = root / IMAGES / clip.id
        folder.mkdir(parents=True)
        for i, name in enumerate(clip.frame_names):
            check_name(name, f"clip {clip.id!r}, frame {name!r}")
            _save_frame(clip, i, folder / f"{name}.jpg")
        videos[clip.id] = {
            "vid_id": len(videos),
            "frames": list(clip.frame_names),
            "expressions": {e.id: _raw(e, objects, first) for e in clip.expressions},
        }
    (root / MASKS).write_text(json.dumps(rles))
    (root / EXPRESSIONS).write_text(json.dumps({"videos": videos}, indent=1))


def _save_frame(clip: Clip, index: int, path: Path) -> None:
    """A JPEG on disk is copied as it is, with nothing lost; anything else becomes one."""
    frame = clip.frames[index]  # also of a JPEG: it must decode
    paths = getattr(clip.frames, "paths", None)
    if paths and paths[index].suffix.lower() in (".jpg", ".jpeg"):
        shutil.copyfile(paths[index], path)
    else:
        Image.fromarray(frame).save(path, quality=95, subsampling=0)


def _raw(expression: Expression, objects: dict[str, int], first: int) -> dict[str, Any]:
    def ids(offset: int) -> dict[str, list[int] | None]:
        roles = {"subject": expression.actor, "object": expression.target}
        return {role: keys and [offset + objects[key] for key in keys] for role, keys in roles.items()}

    return {
        "exp": expression.text,
        "caption_type": expression.caption_type,
        "subject/object": {"obj_id": ids(0), "anno_id": ids(first)},
    }
