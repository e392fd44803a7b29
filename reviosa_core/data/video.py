"""Your own videos: a video file or a folder of images to a `Clip`, and frames back to an mp4."""

from __future__ import annotations

import os
import re
from collections import Counter, OrderedDict
from collections.abc import Generator, Iterable, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import av
import numpy as np
from jaxtyping import UInt8

from reviosa_core import outputs
from reviosa_core.data import decoding, files, images
from reviosa_core.schema import UNKNOWN, Clip, DataError, Expression, Frames

IMAGES = (".jpg", ".jpeg", ".png")
FOLDER_FPS = 12.0  # a folder of images does not say how fast it plays
CACHE_BYTES = 256 * 2**20
TICK = Fraction(1, 60_000)  # second: of times in a file that is written; every common rate divides it

# Codecs by preference, with options; the second is in every build of FFmpeg. x264's own preset takes twice the time of
# this one, and more memory, for files of the same size.
CODECS = {"libx264": {"preset": "veryfast"}, "mpeg4": {}}


class Video(NamedTuple):
    """Frames in order of showing, their names (file stems, or positions), height and width, and frames per second: on
    average, where the rate varies."""

    frames: Frames
    names: tuple[str, ...]
    size: tuple[int, int]
    fps: float

    @property
    def times(self) -> tuple[float, ...]:
        """When each frame is shown, in seconds from the start; by the rate where the file does not say."""
        own = self.frames.times if isinstance(self.frames, _VideoFile | _Part) else None
        return own or tuple(i / self.fps for i in range(len(self.names)))

    def close(self) -> None:
        """Let go of an open file, and of the decoder's own memory, now: nothing else is told when it would be. Frames
        can still be read."""
        frames = self.frames.frames if isinstance(self.frames, _Part) else self.frames
        if isinstance(frames, _VideoFile):
            frames.close()


def part(video: Video, start: float | None, end: float | None, path: Path) -> Video:
    """The frames shown from `start` (seconds) up to, not at, `end`; they keep their names and times. DataError when
    there are none; `path` is what it names."""
    if start is None and end is None:
        return video
    times = video.times
    kept = [i for i, t in enumerate(times) if (start is None or t >= start) and (end is None or t < end)]
    if not kept:
        asked = f"{0 if start is None else start:g} s to {'the end' if end is None else f'{end:g} s'}"
        raise DataError(f"{path}: no frame from {asked}; the last of {len(times)} is at {times[-1]:.2f} s")
    place = slice(kept[0], kept[-1] + 1)
    return Video(_Part(video.frames, place, times[place]), video.names[place], video.size, video.fps)


def open_video(path: str | Path, stored: bool = False, cache_bytes: int = CACHE_BYTES) -> Video:
    """A folder of .jpg/.png images, one of them, or a file that FFmpeg reads: upright, and mirrored where it says so.

    Raises DataError in one line that names the file. Nothing is truncated or skipped: a video that breaks off in the
    middle is an error that says after which frame. So are pixels that are not square, unless they are wanted as they
    are `stored` (what benchmarks draw their masks on). Of a file, at most `cache_bytes` of frames are held.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_dir():
        frames = _Images(_in_order(path))
        return Video(frames, tuple(file.stem for file in frames.paths), frames.size, FOLDER_FPS)
    if files.regular(path).suffix.lower() in IMAGES:
        frames = _Images([path])
        return Video(frames, (f"{0:05d}",), frames.size, FOLDER_FPS)
    frames = _VideoFile(path, cache_bytes, stored)
    return Video(frames, tuple(f"{i:05d}" for i in range(len(frames))), frames.size, frames.fps)


def files_of(path: Path) -> list[Path]:
    """The files whose pixels `open_video` gives: the images of a folder, or the one file."""
    return _in_order(path) if path.is_dir() else [path]


def stated(path: Path) -> tuple[tuple[int, int], int]:
    """(height, width) and number of frames as a video file states them, without decoding. DataError."""
    with decoding.reading(path), decoding.container(files.regular(path)) as found:
        stream = found.streams.video[0]
        return (stream.height, stream.width), stream.frames


def to_clip(video: Video, texts: str | Sequence[str], clip_id: str) -> Clip:
    """A clip with an expression a sentence, "0" and on. Nobody has drawn its masks: every actor is UNKNOWN, a key
    without a single mask. DataError for an empty sentence."""
    texts = [texts] if isinstance(texts, str) else texts
    asked = [Expression(str(i), text, "undefined", (UNKNOWN,)) for i, text in enumerate(texts)]
    masks = {UNKNOWN: [None] * len(video.names)}
    return Clip(clip_id, video.frames, video.names, video.size, tuple(asked), masks)


def open_clip(path: str | Path, texts: str | Sequence[str]) -> Clip:
    """Your own video, and what is asked about it: one sentence, or several.

    `path` is a video file, or a folder of .jpg/.png frames; the clip is named after it. `clip.frames[i]` is uint8
    [h w 3], RGB, decoded when asked for; `clip.size` is (height, width) in pixels; expressions are "0", "1", ... in
    order. Raises DataError in one line that names the file.
    """
    return to_clip(open_video(path), texts, clip_id(path))


def clip_id(path: str | Path) -> str:
    """The name of a folder of frames, that of a file without its suffix."""
    path = named(path)
    return path.name if path.is_dir() else path.stem


def named(path: str | Path) -> Path:
    """A path that ends in a name, also of "." and "clips/..". Of a link it is its own: what a link of git-annex or DVC
    leads to is called by a hash."""
    return Path(os.path.abspath(path))


def write_mp4(
    path: str | Path,
    frames: Iterable[UInt8[np.ndarray, "h w 3"]],
    fps: float,
    times: Sequence[float] | None = None,
) -> None:
    """Frames to an mp4 (H.264, else MPEG-4), at `fps`, or each at its time in seconds. Its colours need even sides: odd
    ones repeat their edge."""
    codec = next(name for name in CODECS if name in av.codecs_available)
    even = (np.pad(f, ((0, f.shape[0] % 2), (0, f.shape[1] % 2), (0, 0)), mode="edge") for f in frames)
    _write(Path(path), even, fps, times, "mp4", codec, "rgb24", "yuv420p", CODECS[codec])


def write_webm(
    path: str | Path,
    frames: Iterable[UInt8[np.ndarray, "h w 4"]],
    fps: float,
    times: Sequence[float] | None = None,
) -> None:
    """Frames with transparency to a WebM (VP9), as `write_mp4`; without loss, so that a mask comes back as it was (in
    "realtime" what is lost depends on how busy the machine is)."""
    exact = {"deadline": "good", "cpu-used": "5", "lossless": "1", "auto-alt-ref": "0"}
    _write(Path(path), frames, fps, times, "webm", "libvpx-vp9", "rgba", "yuva420p", exact)


def _write(
    path: Path,
    frames: Iterable[np.ndarray],
    fps: float,
    times: Sequence[float] | None,
    container_format: str,
    codec: str,
    given: str,
    stored: str,
    options: dict[str, str],
) -> None:
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise DataError(f"{path}: no frames to write")
    height, width = first.shape[:2]
    with outputs.file(path) as new, av.open(str(new), "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, stored
        if times is not None:
            stream.codec_context.time_base = TICK
        for i, frame in enumerate(chain([first], frames)):
            if frame.shape[:2] != (height, width):
                raise DataError(f"{path}: frame of {frame.shape[:2]} among frames of {(height, width)}")
            raw = av.VideoFrame.from_ndarray(frame, format=given).reformat(format=stored)
            if times is not None:
                raw.pts, raw.time_base = round((times[i] - times[0]) / TICK), TICK
            container.mux(stream.encode(raw))
        container.mux(stream.encode(None))


class _Part:
    """Frames of a video from one position to another, with their times."""

    def __init__(self, frames: Frames, place: slice, times: tuple[float, ...]) -> None:
        self.frames, self.range, self.times = frames, range(len(frames))[place], times

    def __len__(self) -> int:
        return len(self.range)

    def __getitem__(self, index: int, /) -> UInt8[np.ndarray, "h w 3"]:
        return self.frames[self.range[index]]


class _Images:
    """Images of one size, decoded when asked for."""

    def __init__(self, paths: Sequence[Path]):
        self.paths = paths
        self.size = images.size(paths[0])

    def __len__(self) -> int:
        return len(self.paths)

    def file(self, index: int) -> Path:
        return self.paths[index]

    def __getitem__(self, index: int, /) -> UInt8[np.ndarray, "h w 3"]:
        path = self.file(index)
        frame = images.read_frame(path)
        if frame.shape[:2] != self.size:
            raise DataError(f"{path}: size {frame.shape[:2]}, the first image's is {self.size}")
        return frame


def _in_order(folder: Path) -> list[Path]:
    """The images of a folder in the order a person counts (2.jpg before 10.jpg). DataError without any, for two of one
    name, and where names may also be meant as decimals, in another order."""
    found = (f for f in folder.iterdir() if f.suffix.lower() in IMAGES and not f.name.startswith("."))
    paths = sorted(found, key=lambda path: _counted(path.stem))
    if not paths:
        raise DataError(f"{folder}: no {', '.join(IMAGES)} images in this folder")
    stem, count = Counter(file.stem for file in paths).most_common(1)[0]
    if count > 1:
        raise DataError(f"{folder}: {count} images are called {stem!r}; images and masks need a folder each")
    by_value = sorted(paths, key=lambda path: _counted(path.stem, r"(\d+(?:\.\d+)?)"))
    for one, other in zip(paths, by_value, strict=True):
        if one != other:
            raise DataError(
                f"{folder}: counted, {one.name} comes before {other.name}, but not as decimals; name the frames with "
                "as many digits each"
            )
    return paths


def _counted(stem: str, numbers: str = r"(\d+)") -> list[tuple[Fraction, str]]:
    parts = re.split(numbers, stem)  # what is between numbers, and the numbers
    return [(Fraction(part), "") if i % 2 else (Fraction(-1), part) for i, part in enumerate(parts)]


class _VideoFile:
    """Frames of a video file by position, held in at most `CACHE_BYTES`.

    Everything is decoded once at the start: containers give frame counts that are missing or wrong, and a broken file
    must say so before a model runs. A short clip then stays in memory; of a long one the latest frames do, and a step
    back decodes from the start (seeking needs timestamps, which not every file has, and users ask in order).
    """

    def __init__(self, path: Path, cache_bytes: int = CACHE_BYTES, stored: bool = False):
        self.path, self.stored = path, stored
        self.fps = 0.0
        self._one_at_a_time = Lock()  # of threads: there is one decoder
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._cache_bytes = cache_bytes
        self._next = 0
        self._decoder = self._decode()
        first = next(self._decoder, None)
        if first is None:
            raise DataError(f"{path}: no frames in this video")
        self.size = (first.shape[0], first.shape[1])
        self._length = 1 + sum(1 for _ in self._decoder)
        shown = [t for t in self._shown if t is not None]
        rising = len(shown) == self._length and all(a < b for a, b in zip(shown, shown[1:], strict=False))
        self.times = tuple(t - shown[0] for t in shown) if rising else None

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int, /) -> UInt8[np.ndarray, "h w 3"]:
        position = range(self._length)[index]  # counts from the end, and raises IndexError
        with self._one_at_a_time:
            return self._at(position)

    def _at(self, position: int) -> UInt8[np.ndarray, "h w 3"]:
        if position in self._cache:
            self._cache.move_to_end(position)
            return self._cache[position]
        if position < self._next or self._next >= self._length:
            self._decoder = self._decode()
        for frame in self._decoder:
            if self._next > position:
                return frame
        raise DataError(f"{self.path}: frame {position} of {self._length} is gone; did the file change?")

    def close(self) -> None:
        self._cache.clear()
        self._decoder.close()
        self._next = self._length  # the next frame asked for is decoded from the start

    def _decode(self) -> Generator[np.ndarray, None, None]:
        """All frames from the start, upright, each put into the cache."""
        self._next = 0
        self._shown: list[float | None] = []
        with decoding.reading(self.path, lambda: self._next), decoding.container(self.path) as container:
            stream = decoding.pictures(container, self.path)
            stream.thread_type = "AUTO"
            self.fps = decoding.rate(stream, FOLDER_FPS)
            for frame, time in decoding.decoded(container, self.path, self.stored):
                self._keep(self._next, frame)
                self._shown.append(time)
                self._next += 1
                yield frame

    def _keep(self, position: int, frame: np.ndarray) -> None:
        self._cache[position] = frame
        self._cache.move_to_end(position)
        while len(self._cache) > 1 and len(self._cache) * frame.nbytes > self._cache_bytes:
            self._cache.popitem(last=False)
