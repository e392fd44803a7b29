"""VidOR, the source of InterRVOS-127K: objects in boxes and who does what to whom, when; one JSON file a video.

Also the paper's way from long videos to clips (appendix D.3), and the boxes from which a tracker makes masks: VidOR has
none. The only file that knows VidOR's keys.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from reviosa_core import outputs
from reviosa_core.data.images import check_name
from reviosa_core.data.interrvos import IMAGES
from reviosa_core.data.jsonfile import read_json, to_json
from reviosa_core.data.video import open_video
from reviosa_core.schema import DataError

VERSION = "VERSION 1.0"
BIN, CLIP = 1000, 500  # frames (appendix D.3)
SHORTEST = 200  # frames of a bin that is used, by the released pipeline
PROMPTS = "prompts"


class Box(NamedTuple):
    """Whole pixels, corners included. `drawn`: by an annotator; else tracked or interpolated."""

    left: int
    top: int
    right: int
    bottom: int
    drawn: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """`subject` does `predicate` to `object` in the frames from `begin` up to, not including, `end`."""

    subject: int
    predicate: str
    object: int
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Video:
    """An annotated video, or a clip of one: then `first` is where it begins there. Objects go by their number (tid)."""

    id: str
    path: str  # below the folder of videos
    fps: float
    size: tuple[int, int]  # height, width in pixels
    source_frames: int  # of the whole video
    first: int
    categories: Mapping[int, str]
    boxes: Sequence[Mapping[int, Box]]  # a frame's visible objects
    relations: tuple[Relation, ...]

    def __len__(self) -> int:
        return len(self.boxes)


def read(path: Path | str) -> Video:
    """One annotation file. Raises DataError with the file, the frame or relation, and both numbers."""
    path = Path(path)
    raw = read_json(path)
    if raw.get("version") != VERSION:
        raise DataError(f"{path}: version {raw.get('version')!r}, not {VERSION!r}")
    try:
        video = _video(raw)
    except KeyError as error:
        raise DataError(f"{path}: no key {error}") from None
    except (DataError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: {error}") from None
    if video.id != path.stem:
        raise DataError(f"{path}: video_id {video.id!r} differs from the file's name")
    return video


def _video(raw: dict[str, Any]) -> Video:
    check_name(raw["video_id"], f"video_id {raw['video_id']!r}")
    for part in raw["video_path"].split("/"):
        check_name(part, f"video_path {raw['video_path']!r}, part {part!r}")
    frames, size = raw["frame_count"], (raw["height"], raw["width"])
    if any(type(n) is not int or n < 1 for n in (frames, *size)):
        raise DataError(f"frame_count, height, width are {(frames, *size)}, not whole numbers from 1")
    for key in ("subject/objects", "trajectories", "relation_instances"):
        _of_type(raw, key, list, "the video")
    for i, entry in enumerate(raw["subject/objects"]):
        _of_type(entry, "tid", int, f"object {i}")
        _of_type(entry, "category", str, f"object {i}")
    categories = {entry["tid"]: entry["category"] for entry in raw["subject/objects"]}
    if len(categories) != len(raw["subject/objects"]):
        raise DataError(f"{len(raw['subject/objects'])} objects with {len(categories)} different numbers")
    if len(raw["trajectories"]) != frames:
        raise DataError(f"{len(raw['trajectories'])} lists of boxes for {frames} frames")
    boxes = []
    for index, entries in enumerate(raw["trajectories"]):
        boxes.append({entry["tid"]: _box(entry, size, f"frame {index}") for entry in entries})
        if len(boxes[-1]) != len(entries) or not boxes[-1].keys() <= categories.keys():
            found = [entry["tid"] for entry in entries]
            raise DataError(f"frame {index}: boxes of objects {found}; the video has {sorted(categories)}, each once")
    for i, r in enumerate(raw["relation_instances"]):
        _of_type(r, "predicate", str, f"relation {i}")
        for key in ("subject_tid", "object_tid", "begin_fid", "end_fid"):
            _of_type(r, key, int, f"relation {i}")
    relations = tuple(
        Relation(r["subject_tid"], r["predicate"], r["object_tid"], r["begin_fid"], r["end_fid"])
        for r in raw["relation_instances"]
    )
    for i, relation in enumerate(relations):
        if not 0 <= relation.begin < relation.end <= frames:
            raise DataError(f"relation {i}: frames {relation.begin} to {relation.end} (excluded), of {frames}")
        if not {relation.subject, relation.object} <= categories.keys():
            pair = relation.subject, relation.object
            raise DataError(f"relation {i}: between objects {pair}; the video has {sorted(categories)}")
    path, fps = raw["video_path"], float(raw["fps"])
    if type(raw["fps"]) not in (int, float) or not 0 < fps <= 1000:
        raise DataError(f"fps is {raw['fps']!r}, not a number above 0 and up to 1000")
    return Video(raw["video_id"], path, fps, size, frames, 0, categories, boxes, relations)


def _of_type(entry: Any, key: str, kind: type, where: str) -> None:
    if type(entry[key]) is not kind:  # a truth is no number here
        raise DataError(f"{where}: {key} is {str(entry[key])[:80]!r}, not {kind.__name__}")


def _box(entry: dict[str, Any], size: tuple[int, int], where: str) -> Box:
    corners = [entry["bbox"][key] for key in ("xmin", "ymin", "xmax", "ymax")]
    left, top, right, bottom = corners
    if bool in map(type, corners) or not (0 <= left <= right < size[1] and 0 <= top <= bottom < size[0]):
        raise DataError(f"{where}, object {entry['tid']}: box {corners} in a picture of {size[1]} x {size[0]}")
    return Box(*corners, drawn=not entry["generated"])


def clips(video: Video, shortest: int = SHORTEST) -> list[Video]:
    """InterRVOS-127K's clips: the first 500 frames of the first and of the last bin of 1,000 frames (appendix D.3),
    among the bins that have `shortest` frames, as in the released pipeline; so none of a video that is shorter.

    Called <id>_clip<nnn>, by the number of the bin from 0. A clip of a bin under 500 frames is as short as the bin.
    """
    bins = [(n, first) for n, first in enumerate(range(0, len(video), BIN)) if len(video) - first >= shortest]
    chosen = dict([bins[0], bins[-1]]) if bins else {}
    return [cut(video, f"{video.id}_clip{n:03d}", at, min(at + CLIP, len(video))) for n, at in chosen.items()]


def cut(video: Video, id: str, begin: int, end: int) -> Video:
    """Frames `begin` up to, not including, `end`, counted from 0 again; relations that reach in are cut to them."""
    relations = tuple(
        replace(r, begin=max(r.begin, begin) - begin, end=min(r.end, end) - begin)
        for r in video.relations
        if r.begin < end and r.end > begin
    )
    return replace(video, id=id, first=video.first + begin, boxes=video.boxes[begin:end], relations=relations)


def prompts(clip: Video) -> dict[str, Any]:
    """What mask tracking needs, ready for JSON: by object where it is seen ([begin, end) runs of frames), and boxes to
    prompt with: all that were drawn, and the first of each run. Relations name the objects by the same numbers."""
    objects = {}
    for tid, category in clip.categories.items():
        runs = list(_runs([tid in boxes for boxes in clip.boxes]))
        if not runs and all(tid not in (r.subject, r.object) for r in clip.relations):
            continue  # in another part of the video
        starts = {begin for begin, _ in runs}
        given = [(i, boxes[tid]) for i, boxes in enumerate(clip.boxes) if tid in boxes]
        objects[str(tid)] = {
            "category": category,
            "visible": [list(run) for run in runs],
            "prompts": [
                {"frame": i, "box": list(box[:4]), "drawn": box.drawn} for i, box in given if box.drawn or i in starts
            ],
        }
    return {
        "clip": clip.id,
        "video_path": clip.path,
        "first_frame": clip.first,
        "frames": len(clip),
        "fps": clip.fps,
        "size": list(clip.size),
        "objects": objects,
        "relations": [
            {"subject": r.subject, "predicate": r.predicate, "object": r.object, "begin": r.begin, "end": r.end}
            for r in clip.relations
        ],
    }


def _runs(seen: Sequence[bool]) -> Iterator[tuple[int, int]]:
    begin = None
    for i, now in enumerate((*seen, False)):
        if now and begin is None:
            begin = i
        elif not now and begin is not None:
            yield begin, i
            begin = None


def export(video: Video, out: Path | str, videos: Path | str | None = None, shortest: int = SHORTEST) -> list[str]:
    """Write the clips of a video (`clips`), and give their names: out/prompts/<clip>.json and, where the folder
    `videos` is named, out/JPEGImages/<clip>/<frame>.jpg, frames counted from 00000.

    Each appears when it is whole, a clip's JSON last: what has one is done, and skipped the next time. Nothing that is
    there is replaced: DataError when it says or shows something else than it would now, and when the video has another
    size or number of frames than its annotation.
    """
    out, names = Path(out), []
    source = None
    for clip in clips(video, shortest):
        names.append(clip.id)
        text = to_json(prompts(clip), indent=None) + "\n"
        file, folder = out / PROMPTS / f"{clip.id}.json", out / IMAGES / clip.id
        if file.exists() and file.read_text() != text:
            raise DataError(f"{file}: says something else than {video.id} now gives; name another folder")
        if file.exists() and (videos is None or folder.is_dir()):
            continue
        if videos is not None:
            path = Path(videos) / video.path
            source = source or open_video(path, stored=True)
            if (len(source.frames), source.size) != (video.source_frames, video.size):
                raise DataError(
                    f"{path}: {len(source.frames)} frames of {source.size}, annotated are {video.source_frames} of "
                    f"{video.size}"
                )
            frames = ((f"{i:05d}.jpg", _jpeg(source.frames[clip.first + i])) for i in range(len(clip)))
            if folder.is_dir():  # stopped between frames and JSON; or somebody's own
                _check_same(folder, frames, len(clip))
                outputs.tidy(folder)
            else:
                with outputs.folder(folder) as new:
                    for name, content in frames:
                        (new / name).write_bytes(content)
        outputs.text(file, text)
    return names


def _jpeg(frame: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, "jpeg", quality=95, subsampling=0)
    return stream.getvalue()


def _check_same(folder: Path, frames: Iterable[tuple[str, bytes]], count: int) -> None:
    """DataError unless the folder holds these files, and no others."""
    there = sorted(path.name for path in folder.iterdir())
    if len(there) != count:
        raise DataError(f"{folder}: exists, with {len(there)} files for {count} frames; move it away")
    for (name, content), found in zip(frames, there, strict=True):
        if found != name or (folder / name).read_bytes() != content:
            raise DataError(f"{folder / found}: is not what the video gives as {name}; move the folder away")
