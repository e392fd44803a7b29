"""The folder that MeViS began and InterRVOS, ReVOS and Ref-SAV's evaluation share: expressions in one JSON file, masks
in another, frames in folders. Readers add what their expressions look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reviosa_core.data import images, jsonfile, maskdict
from reviosa_core.data.images import Frames
from reviosa_core.data.report import Report, expression_at
from reviosa_core.schema import NOTHING, UNKNOWN, Clip, DataError, Expression

EXPRESSIONS, MASKS, IMAGES = "meta_expressions.json", "mask_dict.json", "JPEGImages"
OWN_KEYS = {"caption_type", "subject/object"}  # of InterRVOS's expressions
Parse = Callable[[str, Any, str], Expression]  # id, raw expression, where it stands


def interrvos_keys(path: Path) -> bool | None:
    """Whether the file's expressions are InterRVOS's, by those of the first video that has some: the formats share file
    names, not keys. None when that cannot be read."""
    try:
        for _, video, *_ in jsonfile.members_inside(path, "videos"):
            expressions = video.get("expressions") if isinstance(video, dict) else None
            if isinstance(expressions, dict) and expressions:
                return any(OWN_KEYS & raw.keys() for raw in expressions.values() if isinstance(raw, dict))
    except DataError:
        return None
    return False


def read(
    expressions: Path,
    masks: Path,
    folder: Path,
    parse: Parse,
    report: Report,
    check_name: Callable[[Any, str], None] = images.check_name,
) -> list[Clip]:
    """Clips by video name; frames and masks stay on disk, mask keys are annotation ids.

    A video or expression with a problem is left out, once `report` has it.
    """
    where = str(expressions)
    videos = jsonfile.get(jsonfile.read_json(expressions, report), "videos", dict, where)
    spans = None  # where there is no file, or it cannot be read: one problem, not one an expression
    if masks.exists():
        with report.each():
            spans = maskdict.scan(masks, report)
    clips = []
    for name, video in sorted(videos.items()):
        with report.each():
            check_name(name, f"{where}: video {name!r}")
            clip = _clip(name, video, f"{where}: video {name!r}", folder / name, masks, spans, parse, report)
            if clip:
                clips.append(clip)
    named = {key for clip in clips for key in clip.masks}
    report.unnamed += [key for key in spans or () if key not in named]
    return clips


def _clip(
    name: str,
    video: Any,
    where: str,
    folder: Path,
    mask_file: Path,
    spans: Mapping[str, maskdict.Span] | None,
    parse: Parse,
    report: Report,
) -> Clip | None:
    expressions = []
    for id, raw in jsonfile.get(video, "expressions", dict, where).items():
        with report.each():
            expressions.append(parse(id, raw, f"{where}, expression {id}"))
    names = images.frame_names(jsonfile.get(video, "frames", list, where), where)
    size = None
    with report.each():
        images.check_folder(folder, names, ".jpg", where)
        size = images.size(folder / f"{names[0]}.jpg")
    with report.each():
        _check_stated_size(video, size, where)
    asked = {key for e in expressions for key in (*e.actor, *(e.target or ()))}
    masks: dict[str, Any] = {key: [None] * len(names) for key in (UNKNOWN, NOTHING) if key in asked}
    keys = asked - masks.keys()
    if keys and not mask_file.exists():
        report.problem(DataError(f"{mask_file}: no such file, but there are expressions with masks"))
    for key in sorted(keys, key=int) if spans is not None else ():
        with report.each():
            masks[key] = maskdict.track(mask_file, spans, key, len(names), size, name)
    whole = tuple(e for e in expressions if {*e.actor, *(e.target or ())} <= masks.keys())
    return size and Clip(name, Frames(folder, names, size=size), names, size, whole, masks)


def _check_stated_size(video: dict[str, Any], size: tuple[int, int] | None, where: str) -> None:
    """ReVOS and Ref-SAV state a size beside the frames."""
    stated = (video.get("height"), video.get("width"))
    if size and stated != (None, None) and stated != size:
        raise DataError(f"{where}: height and width are {stated}, the first frame has {size}")


def ids(raw: Any, key: str, where: str) -> list[int]:
    """A list of whole numbers from 0. DataError."""
    found = jsonfile.get(raw, key, list, where)
    for number in found:
        if type(number) is not int or number < 0:
            raise DataError(f"{where}: {key} {number!r} is not a whole number")
    return found


def flat_or_nothing(id: str, raw: Any, where: str) -> Expression:
    """`flat`, but for one whose two lists of ids are empty: it is about nothing."""
    if isinstance(raw, dict) and raw.get("obj_id") == raw.get("anno_id") == []:
        return expression_at(where, id, jsonfile.get(raw, "exp", str, where), "undefined", (NOTHING,))
    return flat(id, raw, where)


def flat(id: str, raw: Any, where: str, caption_type: Any = "undefined") -> Expression:
    """An expression of MeViS: all its objects are the actor. Without ids (scored by a server) it is UNKNOWN."""
    text = jsonfile.get(raw, "exp", str, where)
    actor: tuple[str, ...] = (UNKNOWN,)
    if "anno_id" in raw or "obj_id" in raw:
        objects, annotations = ids(raw, "obj_id", where), ids(raw, "anno_id", where)
        if len(objects) != len(annotations):
            raise DataError(f"{where}: obj_id {objects} but anno_id {annotations}")
        actor = tuple(map(str, annotations))
    return expression_at(where, id, text, caption_type, actor)
