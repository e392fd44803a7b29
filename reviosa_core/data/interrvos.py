"""InterRVOS-127K: <split>/{JPEGImages/<video>/<frame>.jpg, meta_expressions.json, mask_dict.json}: reader and writer.

The only file that knows the key "subject/object" (the paper's actor and target). Evaluation scripts of the release
(14c261e) score by val/new_meta_expressions.json and val/new_mask_dict.json: here that is the split "val/new". Beside
"subject/object" these carry MeViS's flat lists; what the annotation pipeline's script writes has only those, so no
targets: of a directed interaction the object that its sentence names first, of a mutual one all.

The release has no place for expressions about nothing. Here they have caption_type "undefined", said so, and an empty
list of subjects, as MeViS has empty lists: their actor is NOTHING. With any other type an empty list is an error.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from PIL import Image

from reviosa_core import outputs
from reviosa_core.data import mevis_style
from reviosa_core.data.images import check_name
from reviosa_core.data.jsonfile import get, to_json
from reviosa_core.data.mevis_style import EXPRESSIONS, IMAGES, MASKS
from reviosa_core.data.report import Report, expression_at
from reviosa_core.schema import NOTHING, CaptionType, Clip, DataError, Expression

NEW = "new"  # the evaluation's files


def splits(root: Path) -> tuple[str, ...]:
    """The splits in a folder; "." for the folder itself. None of another format; one that cannot be read counts where
    others are of this one, so that its reader says what is wrong."""
    found: dict[str, bool | None] = {}
    for folder in (root, *sorted(path for path in root.iterdir() if path.is_dir())):
        name = str(folder.relative_to(root))
        for split, prefix in ((name, ""), (NEW if name == "." else f"{name}/{NEW}", f"{NEW}_")):
            file = folder / f"{prefix}{EXPRESSIONS}"
            if file.is_file():
                found[split] = mevis_style.interrvos_keys(file)
    return tuple(split for split, own in found.items() if own is not False) if any(found.values()) else ()


def read(root: Path | str, split: str | None = None, report: Report | None = None) -> list[Clip]:
    """All clips of a split, by video name. Frames and masks stay on disk; mask keys are annotation ids, as strings.

    Where no split is named, the refined files of the folder are read if there are any, and that is said.
    """
    if split is None:
        refined = Path(root) / f"{NEW}_{EXPRESSIONS}"
        split = NEW if refined.is_file() else "."
        if split == NEW:
            print(f"{refined}: these, refined, are read, not {EXPRESSIONS}")
    folder, prefix = Path(root) / split, ""
    if folder.name == NEW and not folder.is_dir():
        folder, prefix = folder.parent, f"{NEW}_"
    files = folder / f"{prefix}{EXPRESSIONS}", folder / f"{prefix}{MASKS}"
    others: list[str] = []

    def parse(id: str, raw: Any, where: str) -> Expression:
        found = _expression(id, raw, where)
        if found.target and not {*map(str, raw.get("anno_id", ()))} <= {*found.actor}:
            others.append(where)
        return found

    clips = mevis_style.read(*files, folder / IMAGES, parse, report or Report())
    if others:
        print(f"{others[0]}: its anno_id holds the target too, as of {len(others)} here; actors are scored by subject")
    return clips


def _expression(id: str, raw: Any, where: str) -> Expression:
    caption_type: CaptionType = raw.get("caption_type", "undefined") if isinstance(raw, dict) else "undefined"
    if caption_type not in get_args(CaptionType):
        raise DataError(f"{where}: caption_type {caption_type!r}, not one of {get_args(CaptionType)}")
    if isinstance(raw, dict) and "subject/object" not in raw and "anno_id" in raw:
        # Whatever it is called, nobody is a target here.
        return mevis_style.flat(id, raw, where, caption_type)
    text = get(raw, "exp", str, where)
    roles = get(raw, "subject/object", dict, where)
    objects, annotations = (
        _by_role(get(roles, kind, dict, where), f"{where}, {kind}") for kind in ("obj_id", "anno_id")
    )
    for role in ("subject", "object"):
        a, b = objects[role], annotations[role]
        if (a is None) != (b is None) or len(a or ()) != len(b or ()):
            raise DataError(f"{where}: {role} has obj_id {a} but anno_id {b}")
    actor, target = annotations["subject"], annotations["object"]
    assert actor is not None
    # Two tokens are asked for by the caption type and supervised by the object list: they must agree.
    if (caption_type == "unidirectional") != (target is not None):
        raise DataError(f"{where}: caption_type {caption_type!r} with object {target}; only unidirectional has a list")
    flat = mevis_style.ids(raw, "anno_id", where) if "anno_id" in raw else actor
    if {*flat} not in ({*actor}, {*actor, *(target or ())}):
        raise DataError(f"{where}: flat anno_id {flat}, but subject {actor} and object {target}")
    target = None if target is None else tuple(map(str, target))
    nothing = not actor and "caption_type" in raw and caption_type == "undefined"
    return expression_at(where, id, text, caption_type, (NOTHING,) if nothing else tuple(map(str, actor)), target)


def _by_role(raw: dict[str, Any], where: str) -> dict[str, list[int] | None]:
    target = get(raw, "object", list | None, where)
    return {
        "subject": mevis_style.ids(raw, "subject", where),
        "object": None if target is None else mevis_style.ids(raw, "object", where),
    }


def write(root: Path | str, clips: Iterable[Clip]) -> None:
    """Write clips into a new folder, whole or not at all. Mask keys become annotation ids, unique in the folder, in
    order of appearance. DataError when the folder exists and is not empty."""
    with outputs.folder(root) as folder:
        fill(folder, clips)


def fill(root: Path, clips: Iterable[Clip]) -> None:
    """What `write` puts into its folder, into one that is there and empty."""
    videos: dict[str, Any] = {}
    written = 0
    with (root / MASKS).open("w") as rles:  # a clip's at a time: all of a large data set do not fit in memory
        rles.write("{")
        for clip in clips:
            check_name(clip.id, f"clip {clip.id!r}")
            if clip.id in videos:
                raise DataError(f"clip {clip.id!r} occurs twice")
            clip.check_public()  # there is no way to write what nobody knows: it would be absent
            first = written
            objects = {key: k for k, key in enumerate(key for key in clip.masks if key != NOTHING)}
            for key in objects:
                rles.write(f'{", " if written else ""}"{written}": {to_json(list(clip.masks[key]), indent=None)}')
                written += 1
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
        rles.write("}")
    (root / EXPRESSIONS).write_text(to_json({"videos": videos}))


def _save_frame(clip: Clip, index: int, path: Path) -> None:
    """A JPEG on disk is copied as it is, with nothing lost; anything else becomes one."""
    frame = clip.frames[index]  # also of a JPEG: it must decode
    source = clip.frames.file(index) if hasattr(clip.frames, "file") else None
    if source and source.suffix.lower() in (".jpg", ".jpeg"):
        shutil.copyfile(source, path)
    else:
        Image.fromarray(frame).save(path, quality=95, subsampling=0)


def _raw(expression: Expression, objects: dict[str, int], first: int) -> dict[str, Any]:
    def ids(offset: int) -> dict[str, list[int] | None]:
        roles = {"subject": expression.actor, "object": expression.target}
        return {
            role: keys and [offset + objects[key] for key in keys if key != NOTHING] for role, keys in roles.items()
        }

    about = {"exp": expression.text, "caption_type": expression.caption_type}
    if expression.caption_type == "unidirectional" and expression.target is None:  # of a file without roles
        return about | {"obj_id": ids(0)["subject"], "anno_id": ids(first)["subject"]}
    return about | {"subject/object": {"obj_id": ids(0), "anno_id": ids(first)}}
