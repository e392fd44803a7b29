"""Where clips come from: data sets with masks, VidOR's clips with boxes, videos with neither."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from reviosa_core import outputs
from reviosa_core.annotation.records import digest
from reviosa_core.annotation.tracks import plain
from reviosa_core.config import Annotation
from reviosa_core.data import files, formats, ref_davis, vidor
from reviosa_core.data.interrvos import IMAGES
from reviosa_core.data.jsonfile import read_json, to_json
from reviosa_core.data.report import Report
from reviosa_core.data.video import IMAGES as SUFFIXES
from reviosa_core.data.video import Video, clip_id, open_video, stated
from reviosa_core.schema import NOTHING, RLE, UNKNOWN, Clip, DataError

VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv", ".3gp")
NO_OBJECTS = (UNKNOWN, NOTHING, ref_davis.NOBODY)  # mask keys of what nobody has drawn, of nothing, of void pixels
Boxes = Mapping[str, Mapping[int, tuple[int, int, int, int]]]  # object -> frame -> left, top, right, bottom
Tracker = Callable[[Clip, Boxes | None, Annotation], dict[str, Sequence[RLE | None]]]


@dataclass(frozen=True)
class Source:
    """A clip, its own expressions left out. `boxes` prompt the tracker; without, a grid of points does. `complete`:
    somebody says that every object of the clip has a mask, or boxes."""

    clip: Clip
    kind: Literal["given", "box", "grid"]
    boxes: Boxes | None = None
    tracker: Tracker | None = None
    tracked_by: str = ""  # what tells the tracker from others: other weights make other masks
    complete: bool = False

    def fingerprint(self, settings: Annotation) -> str:
        """Of all that tracks depend on."""
        limits = settings.model_dump(include={"presence", "area", "stability", "objects"})
        about = [self.kind, self.clip.frame_names, self.clip.size, limits]
        if self.kind == "given":
            return digest(about, _files(self.clip), plain(self.clip.masks))
        return digest(about, self._tracked(settings))

    def _tracked(self, settings: Annotation) -> Any:
        boxes = {id: {str(t): box for t, box in own.items()} for id, own in (self.boxes or {}).items()}
        return [boxes, settings.grid if self.kind == "grid" else None, self.tracked_by, _files(self.clip)]

    def masked(self, folder: Path, settings: Annotation) -> Clip:
        """The clip with masks: its own, or tracked ones, which are kept in `folder`. DataError without a tracker."""
        if self.kind == "given":
            return self.clip
        file, of = folder / f"{self.clip.id}.json", digest(self._tracked(settings), self.clip.frame_names)
        kept = read_json(file) if file.is_file() else {}
        if kept.get("made_from") != of:
            if self.tracker is None:
                raise DataError(f"clip {self.clip.id}: has no masks; name a SAM2 to track them with (--sam2)")
            kept = {"made_from": of, "masks": self.tracker(self.clip, self.boxes, settings)}
            outputs.text(file, to_json(kept, indent=None))
        clip = self.clip
        return Clip(clip.id, clip.frames, clip.frame_names, clip.size, (), kept["masks"])


def read(
    path: Path,
    split: str | None = None,
    tracker: Tracker | None = None,
    tracked_by: str = "",
    complete: bool = False,
) -> list[Source]:
    """A video file; a folder of frames; a folder of videos, files or folders; what `reviosa data vidor` wrote, with its
    frames; or a data set of any of our formats. DataError for anything else, for pictures beside videos, and for masks
    that are not read where they are said to be `complete`."""
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    with_boxes = path / vidor.PROMPTS
    if with_boxes.is_dir():
        return [_vidor(path, file, tracker, tracked_by, complete) for file in sorted(with_boxes.glob("*.json"))]
    if path.is_dir() and any(reader.splits(path) for reader in formats.READERS.values()):
        report = Report()
        clips = formats.read(path, split, report=report)
        if complete and report.unnamed:
            raise DataError(
                f"{path}: {len(report.unnamed)} masks, as {report.unnamed[0]}, are named by no sentence, so whose they "
                "are is not known: its clips are not complete"
            )
        return [_given(clip, tracker, tracked_by, complete) for clip in clips]
    videos = [Source(_opened(p), "grid", None, tracker, tracked_by) for p in _videos(path)]
    if not videos:
        raise DataError(f"{path}: no video, no frames and no data set in here; see docs/annotation.md")
    return videos


def _given(clip: Clip, tracker: Tracker | None, tracked_by: str, complete: bool) -> Source:
    """By its masks; by a grid where it has none."""
    masks = {key: track for key, track in clip.masks.items() if key not in NO_OBJECTS}
    bare = Clip(clip.id, clip.frames, clip.frame_names, clip.size, (), masks)
    return Source(bare, "given", complete=complete) if masks else Source(bare, "grid", None, tracker, tracked_by)


def _videos(path: Path) -> list[Path]:
    """Those of a folder; itself, where it is a file or holds frames. What is neither is passed over, and that is
    said."""
    if path.is_file():
        return [path]
    inside = sorted(p for p in path.iterdir() if not p.name.startswith("."))
    pictures = [p for p in inside if p.suffix.lower() in SUFFIXES and not p.is_dir()]
    others = [p for p in inside if p not in pictures]
    found = [p for p in others if _is_video(p)]
    if pictures and found:
        raise DataError(
            f"{path}: {len(pictures)} pictures, as {pictures[0].name}, beside {len(found)} videos, as {found[0].name}: "
            "one video's frames, or a folder of videos? Keep them apart"
        )
    if others := [p for p in others if p not in found]:
        print(f"{path}: {len(others)} passed over that are no videos, as {others[0].name}")
    return [path] if pictures else found


def _is_video(path: Path) -> bool:
    """A folder of frames; a file that is called a video, or opens as one."""
    if path.is_dir():
        return any(_images(path))
    try:
        return path.suffix.lower() in VIDEOS or bool(stated(path))
    except DataError:
        return False


def _images(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES]


def _clip(path: Path, video: Video, id: str | None = None) -> Clip:
    """DataError for frames that a data set could not name: `interrvos.read` wants them sorted."""
    names = video.names
    if any(a >= b for a, b in zip(names, names[1:], strict=False)):
        raise DataError(
            f"{path}: frames {names[0]} to {names[-1]} are not sorted as text; name them with leading zeros"
        )
    return Clip(id or clip_id(path), video.frames, names, video.size)


def _opened(path: Path) -> Clip:
    """Holds no file and no frame: those of all videos would not fit. Frames are asked for in order."""
    with closing(open_video(path, cache_bytes=0)) as video:
        return _clip(path, video)


def close(clip: Clip) -> None:
    """Let go of what reading its frames holds; they can still be read."""
    if hasattr(clip.frames, "close"):
        clip.frames.close()


def _files(clip: Clip) -> tuple[int, int, int] | None:
    """The `files.stamp` of what a clip's frames are read from; None where they don't say."""
    frames = clip.frames
    if hasattr(frames, "file"):
        return files.stamp(frames.file(index) for index in range(len(clip)))
    return files.stamp([frames.path]) if hasattr(frames, "path") else None


def _vidor(root: Path, file: Path, tracker: Tracker | None, tracked_by: str, complete: bool) -> Source:
    about = read_json(file)
    folder = root / IMAGES / file.stem
    if not folder.is_dir():
        raise DataError(f"{folder}: no frames; run `reviosa data vidor` with --videos")
    clip = _clip(folder, open_video(folder), file.stem)
    try:
        if (len(clip), list(clip.size)) != (about["frames"], about["size"]):
            raise DataError(
                f"{folder}: {len(clip)} frames of {clip.size}, {file} says {about['frames']} of {about['size']}"
            )
        boxes = {
            id: {prompt["frame"]: tuple(prompt["box"]) for prompt in own["prompts"]}
            for id, own in about["objects"].items()
            if own["prompts"]
        }
    except (KeyError, TypeError) as error:
        raise DataError(f"{file}: not what `reviosa data vidor` writes ({error!r})") from None
    return Source(clip, "box", boxes, tracker, tracked_by, complete)
