"""What is made of a prediction beside its run lengths: pictures to look at, and layouts that other tools read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from reviosa_core import masks
from reviosa_core.data.jsonfile import to_json
from reviosa_core.data.video import write_mp4, write_webm
from reviosa_core.report import drawing, style
from reviosa_core.schema import RLE, Clip, Role

SHEET = 8  # frames on the contact sheet
CELL = 240  # pixels across that one of them needs at least: it is shown on half as many
NUMBER = {Role.ACTOR: 1, Role.TARGET: 2}  # of a palette image and of a category; pixels of both are their sum, 3
ALSO = {"palette": "palette", "ytvis": "ytvis.json", "webm": "masks.webm"}  # by the name that asks for it
ByRole = Mapping[Role, Sequence[RLE]]
Export = Callable[[Path, Clip, ByRole, Mapping[str, Any]], None]


def names(also: Sequence[str]) -> list[str]:
    """Files and folders in a prediction's folder, beside prediction.json and the masks."""
    return [*PICTURES, *(ALSO[name] for name in also)]


def _decoded(clip: Clip, by_role: ByRole) -> Iterator[dict[Role, Bool[np.ndarray, "h w"]]]:
    for t in range(len(clip)):
        yield {role: masks.decode(own[t], clip.size) for role, own in by_role.items()}


def _rgb(role: Role) -> list[int]:
    return [int(style.COLOR[role][i : i + 2], 16) for i in (1, 3, 5)]


def _times(about: Mapping[str, Any]) -> Sequence[float] | None:
    """Each frame's own time, unless another speed was asked for."""
    return None if about["made_from"]["fps"] else about["times"]


def overlay(path: Path, clip: Clip, by_role: ByRole, about: Mapping[str, Any]) -> None:
    """The video with both masks over it, as long as the video is."""
    painted = (drawing.outlined(clip.frames[t], found, 0.5) for t, found in enumerate(_decoded(clip, by_role)))
    write_mp4(path, painted, about["fps"], _times(about))


def sheet(path: Path, clip: Clip, by_role: ByRole, about: Mapping[str, Any]) -> None:
    """Some frames, from first to last, side by side, under the sentence."""
    shown = drawing.spread(len(clip), SHEET)
    # matplotlib holds several copies of each picture as floats, until Python looks for circles: small ones will do.
    step = max(1, clip.size[1] // CELL)
    frames = np.stack([np.asarray(Image.fromarray(clip.frames[t]).reduce(step)) for t in shown])
    found = {role: own[:, ::step, ::step] for role, own in drawing.at(by_role, shown, clip.size).items()}
    style.save(drawing.overlay(frames, {"prediction": found}, about["text"], SHEET, shown), path)


def palette(folder: Path, clip: Clip, by_role: ByRole, about: Mapping[str, Any]) -> None:
    """One PNG a frame, <frame>.png: 0 nothing, 1 actor, 2 target, 3 both."""
    folder.mkdir()
    actor, target = _rgb(Role.ACTOR), _rgb(Role.TARGET)
    colours = [0, 0, 0, *actor, *target, *((a + b) // 2 for a, b in zip(actor, target, strict=True))]
    for name, found in zip(clip.frame_names, _decoded(clip, by_role), strict=True):
        labels = np.zeros(clip.size, np.uint8)
        for role, mask in found.items():
            labels += NUMBER[role] * mask.astype(np.uint8)
        picture = Image.fromarray(labels).convert("P")
        picture.putpalette(colours)
        picture.save(folder / f"{name}.png")


def ytvis(path: Path, clip: Clip, by_role: ByRole, about: Mapping[str, Any]) -> None:
    """YouTube-VIS' JSON: a category a role, a track a role that is seen at all, `null` where it is not."""
    height, width = clip.size
    tracks = []
    for role, own in by_role.items():
        boxes = [_box(masks.decode(rle, clip.size)) for rle in own]
        if any(boxes):
            sure = (about["confidence"] or {}).get(role)
            tracks.append(
                {
                    "id": len(tracks) + 1,
                    "video_id": 1,
                    "category_id": NUMBER[role],
                    "iscrowd": 0,
                    "score": sure["token"] if sure else about["score"],
                    "height": height,
                    "width": width,
                    "length": len(clip),
                    "segmentations": [rle if box else None for rle, box in zip(own, boxes, strict=True)],
                    "bboxes": [box and box[:4] for box in boxes],
                    "areas": [box and box[4] for box in boxes],
                }
            )
    video = {"id": 1, "height": height, "width": width, "length": len(clip)}
    video["file_names"] = [f"{clip.id}/{name}.jpg" for name in clip.frame_names]
    categories = [{"id": number, "name": str(role)} for role, number in NUMBER.items()]
    whole = {
        "info": {"description": about["text"]},
        "videos": [video],
        "categories": categories,
        "annotations": tracks,
    }
    path.write_text(to_json(whole) + "\n")


def _box(mask: Bool[np.ndarray, "h w"]) -> list[int] | None:
    """x, y, width and height around a mask, and its area; None of an empty one."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1, int(mask.sum())]


def webm(path: Path, clip: Clip, by_role: ByRole, about: Mapping[str, Any]) -> None:
    """The masks alone in their colours, transparent where there is none: to be laid over the video."""

    def painted(found: Mapping[Role, Bool[np.ndarray, "h w"]]) -> UInt8[np.ndarray, "h w 4"]:
        opaque = np.logical_or.reduce(list(found.values()))
        colours = drawing.paint(np.zeros((*clip.size, 3), np.uint8), {r: m for r, m in found.items()}, 1.0)
        return np.dstack([colours, np.where(opaque, 255, 0).astype(np.uint8)])

    write_webm(path, map(painted, _decoded(clip, by_role)), about["fps"], _times(about))


FILES: dict[str, Export] = {"palette": palette, "ytvis": ytvis}  # whole with the result, or not at all
LATER: dict[str, Export] = {"webm": webm}  # as pictures are
PICTURES: dict[str, Export] = {"overlay.mp4": overlay, "sheet.png": sheet}
