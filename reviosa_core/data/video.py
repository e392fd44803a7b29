"""Your own videos: a video file or a folder of images to a `Clip`, and frames back to an mp4."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.error import FFmpegError
from jaxtyping import UInt8
from PIL import Image

from reviosa_core import outputs
from reviosa_core.schema import UNKNOWN, Clip, DataError, Expression, Frames

IMAGES = (".jpg", ".jpeg", ".png")
FOLDER_FPS = 12.0  # a folder of images does not say how fast it plays
CACHE_BYTES = 256 * 2**20

# Codecs by preference; the second is in every build of FFmpeg.
CODECS = ("libx264", "mpeg4")


class Video(NamedTuple):
    """Frames in order of showing, their names (file stems, or positions), height and width, frames per second."""

    frames: Frames
    names: tuple[str, ...]
    size: tuple[int, int]
    fps: float


def open_video(path: str | Path) -> Video:
    """A folder of .jpg/.png images, or a file that FFmpeg reads. Raises DataError in one line that names the file.

    Nothing is truncated or skipped: a video that breaks off in the middle is an error that says after which frame.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_dir():
        frames = _ImageFolder(path)
        return Video(frames, tuple(file.stem for file in frames.paths), frames.size, FOLDER_FPS)
    frames = _VideoFile(path)
    return Video(frames, tuple(f"{i:05d}" for i in range(len(frames))), frames.size, frames.fps)


def stated(path: Path) -> tuple[tuple[int, int], int]:
    """(height, width) and number of frames as a video file states them, without decoding. DataError."""
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            return (stream.height, stream.width), stream.frames
    except (FFmpegError, OSError, IndexError) as error:
        raise DataError(f"{path}: unreadable video ({getattr(error, 'strerror', None) or error})") from None


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
    path = Path(path).resolve()
    return path.name if path.is_dir() else path.stem


def write_mp4(path: str | Path, frames: Iterable[UInt8[np.ndarray, "h w 3"]], fps: float) -> None:
    """Frames to an mp4 (H.264, else MPEG-4). Its colours need even sides: odd ones repeat their edge."""
    path = Path(path)
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise DataError(f"{path}: no frames to write")
    height, width = first.shape[:2]
    codec = next(name for name in CODECS if name in av.codecs_available)
    with outputs.file(path) as new, av.open(str(new), "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        for frame in chain([first], frames):
            if frame.shape[:2] != (height, width):
                raise DataError(f"{path}: frame of {frame.shape[:2]} among frames of {(height, width)}")
            even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        container.mux(stream.encode(None))


class _ImageFolder:
    """Images of one size, decoded when asked for, in the order a person counts (2.jpg before 10.jpg)."""

    def __init__(self, folder: Path):
        files = (f for f in folder.iterdir() if f.suffix.lower() in IMAGES and not f.name.startswith("."))
        self.paths = sorted(files, key=_counting_order)
        if not self.paths:
            raise DataError(f"{folder}: no {', '.join(IMAGES)} images in this folder")
        stem, count = Counter(file.stem for file in self.paths).most_common(1)[0]
        if count > 1:
            raise DataError(f"{folder}: {count} images are called {stem!r}; images and masks need a folder each")
        with _opened(self.paths[0]) as image:
            self.size = (image.height, image.width)

    def __len__(self) -> int:
        return len(self.paths)

    def file(self, index: int) -> Path:
        return self.paths[index]

    def __getitem__(self, index: int, /) -> UInt8[np.ndarray, "h w 3"]:
        path = self.file(index)
        with _opened(path) as image:
            if (image.height, image.width) != self.size:
                raise DataError(f"{path}: size {(image.height, image.width)}, the first image's is {self.size}")
            try:
                return np.array(image.convert("RGB"))
            except (OSError, SyntaxError) as error:  # pillow's two ways to say that pixels are broken
                raise DataError(f"{path}: unreadable image ({error})") from None


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except OSError:
        raise DataError(f"{path}: unreadable image") from None


def _counting_order(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.stem)]


class _VideoFile:
    """Frames of a video file by position, held in at most `CACHE_BYTES`.

    Everything is decoded once at the start: containers give frame counts that are missing or wrong, and a broken file
    must say so before a model runs. A short clip then stays in memory; of a long one the latest frames do, and a step
    back decodes from the start (seeking needs timestamps, which not every file has, and users ask in order).
    """

    def __init__(self, path: Path, cache_bytes: int = CACHE_BYTES):
        self.path = path
        self.fps = 0.0
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._cache_bytes = cache_bytes
        self._next = 0
        self._decoder = self._decode()
        first = next(self._decoder, None)
        if first is None:
            raise DataError(f"{path}: no frames in this video")
        self.size = (first.shape[0], first.shape[1])
        self._length = 1 + sum(1 for _ in self._decoder)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int, /) -> UInt8[np.ndarray, "h w 3"]:
        position = range(self._length)[index]  # counts from the end, and raises IndexError
        if position in self._cache:
            self._cache.move_to_end(position)
            return self._cache[position]
        if position < self._next or self._next >= self._length:
            self._decoder = self._decode()
        for frame in self._decoder:
            if self._next > position:
                return frame
        raise DataError(f"{self.path}: frame {position} of {self._length} is gone; did the file change?")

    def _decode(self) -> Iterator[np.ndarray]:
        """All frames from the start, upright, each put into the cache."""
        self._next = 0
        try:
            with av.open(str(self.path)) as container:
                if not container.streams.video:
                    raise DataError(f"{self.path}: no video stream in this file")
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                self.fps = float(stream.average_rate or stream.guessed_rate or FOLDER_FPS)
                for raw in container.decode(stream):
                    # Phones store frames lying down, with the turn that makes them upright.
                    frame = np.ascontiguousarray(np.rot90(raw.to_ndarray(format="rgb24"), raw.rotation // 90))
                    if self._next and frame.shape[:2] != self.size:
                        raise DataError(
                            f"{self.path}: frame {self._next} is {frame.shape[:2]}, the first is {self.size}"
                        )
                    self._keep(self._next, frame)
                    self._next += 1
                    yield frame
        except (FFmpegError, OSError) as error:
            after = f" after {self._next} frames" if self._next else ""
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{self.path}: unreadable video{after} ({reason})") from None

    def _keep(self, position: int, frame: np.ndarray) -> None:
        self._cache[position] = frame
        self._cache.move_to_end(position)
        while len(self._cache) > 1 and len(self._cache) * frame.nbytes > self._cache_bytes:
            self._cache.popitem(last=False)
